"""Whether the chart covers the data: what it cannot represent, a flow can never propose.

The chart leaves out nothing but other chiralities, so frames outside of it are of runs in which a
centre has turned inside out, or of a mixture of stereoisomers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...molecule.graph import Molecule
from .shape import ShapeChart

#: Share of frames outside of the chart above which the data are refused.
LARGEST_SHARE = 1e-3
#: Frames that are looked at together.
_CHUNK = 4096


@torch.no_grad()
def check_support(chart: ShapeChart, molecule: Molecule, positions: Tensor) -> Tensor:
    """Return which frames [F] lie outside of the chart, where the flow's density is zero.

    Parameters
    ----------
    positions : Tensor [F, N, 3], nm

    Raises
    ------
    ValueError
        If they are more than `LARGEST_SHARE` of all. The message says which coordinate it is.
    """
    parts = torch.split(positions, _CHUNK)
    outside = torch.cat([torch.isinf(chart.to_shape(part)[3]) for part in parts])
    count, share = int(outside.sum()), float(outside.double().mean())
    if share > LARGEST_SHARE:
        raise ValueError(
            f"{count} of {len(positions)} frames ({share:.1%}) lie outside of what the flow can "
            f"represent (at most {LARGEST_SHARE:.1%} may): {_worst(chart, molecule, positions)}. "
            "Drop the runs in which it happened, or fit each stereoisomer by itself"
        )
    return outside


def _worst(chart: ShapeChart, molecule: Molecule, positions: Tensor) -> str:
    """Name the coordinate that most frames have elsewhere."""
    counts = {"positions are not finite": int((~positions.isfinite()).flatten(1).any(1).sum())}
    inverted = chart.chirality.inverted(positions).sum(0).tolist()
    for atom, number in zip(chart.chirality.fixed_centres, inverted, strict=True):
        corners = ", ".join(molecule.atom_names[i] for i in sorted(molecule.graph()[atom]))
        name = f"{molecule.describe_atom(atom)} with {corners} around it has the other chirality"
        counts[name] = number
    name = max(counts, key=lambda key: counts[key])
    if counts[name] == 0:
        return "equivalent atoms have passed through each other"
    return f"{name} in {counts[name]} of them"
