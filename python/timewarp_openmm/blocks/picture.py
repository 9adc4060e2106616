"""A picture of a structure: its chains, and on and beside them the blocks by what they accept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..files import write_bytes_atomically
from ..molecule.amino_acids import find_backbone

if TYPE_CHECKING:
    from openmm import app

    from .sidechains import Block, Measured

#: nm; alpha carbons of neighbours are 0.38 nm apart, or 0.3 by a cis peptide.
_LONGEST_STEP = 0.45
#: Labels beyond this number would hide the chain; residues that never moved keep theirs.
_MOST_LABELS = 60
_NEVER = "#c1121f"


def by_residue(
    topology: app.Topology, blocks: Sequence[Block], measured: Sequence[Measured | None]
) -> dict[int, Measured | None]:
    """Return what was measured of each residue that blocks move, by its index: of several blocks
    that of the one that accepted the largest share."""
    owners = [atom.residue.index for atom in topology.atoms()]
    found: dict[int, Measured | None] = {}
    for block, entry in zip(blocks, measured, strict=True):
        for index in {owners[i] for i in block.moved}:
            other = found.get(index)
            if other is None or (entry is not None and entry.acceptance > other.acceptance):
                found[index] = entry
    return found


def draw_blocks(
    topology: app.Topology,
    positions: NDArray[np.float64],
    graph: nx.Graph,
    measured: Mapping[int, Measured | None],
    title: str,
) -> Figure:
    """Draw the trace of the alpha carbons, and the middle of each residue that has none and is
    moved, seen along the axis in which all this is thinnest.

    Parameters
    ----------
    positions : array [N, 3], nm
    graph : networkx.Graph
        Bonds of the topology; nodes carry `element` and `name`.
    measured : mapping
        Of each residue that has a block, by its index, what was measured, or None without
        (`by_residue`).
    """
    residues = list(topology.residues())
    found = ((residue, find_backbone(residue, graph)) for residue in residues)
    alphas = {r.index: b.alpha for r, b in found if b is not None}
    others = [index for index in measured if index not in alphas]
    middles = [positions[[a.index for a in residues[i].atoms()]].mean(axis=0) for i in others]
    shown = np.array([*positions[list(alphas.values())], *middles]).reshape(-1, 3)
    flat = _projected(shown)
    places = dict(zip([*alphas, *others], flat, strict=True))
    width, height = np.ptp(flat, axis=0) if len(flat) else (1.0, 1.0)
    shape = min(max(height / max(width, 1e-9), 0.25), 1.2)
    figure = Figure(figsize=(10.0, 1.2 + 8.0 * shape), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    if alphas:
        _draw_trace(axis, list(alphas.values()), positions, flat[: len(alphas)])
    blocks = list(measured)
    _draw_points(figure, axis, {i: places[i] for i in blocks}, measured)
    never = {i for i in blocks if _never_moved(measured[i])}
    labelled = blocks if len(blocks) <= _MOST_LABELS else sorted(never)
    for index in labelled:
        residue = residues[index]
        axis.annotate(
            f"{residue.name}{residue.id}{(residue.insertionCode or '').strip()}",
            places[index], xytext=(4, 4), textcoords="offset points", fontsize=7,
            color=_NEVER if index in never else "black",
        )  # fmt: skip
    # Room for the labels of residues at the edge.
    axis.margins(0.06, 0.15)
    axis.set(title=title, xlabel="nm", ylabel="nm", aspect="equal")
    return figure


def _projected(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points [R, 3] on the plane of their two longest principal axes [R, 2]."""
    if not len(points):
        return np.empty((0, 2))
    centred = points - points.mean(axis=0)
    axes = np.linalg.svd(centred)[2]
    # The signs of singular vectors are arbitrary; the first residue is on the left, at the bottom.
    plane = centred @ axes[:2].T
    flat: NDArray[np.float64] = plane * np.where(plane[0] > 0, -1.0, 1.0)
    return flat


def _draw_trace(
    axis: Axes, alphas: list[int], positions: NDArray[np.float64], flat: NDArray[np.float64]
) -> None:
    steps = np.linalg.norm(np.diff(positions[alphas], axis=0), axis=1)
    for part in np.split(np.arange(len(alphas)), np.flatnonzero(steps > _LONGEST_STEP) + 1):
        axis.plot(flat[part, 0], flat[part, 1], "-", color="0.7", linewidth=1.5, zorder=1)
    axis.plot(flat[:, 0], flat[:, 1], ".", color="0.6", markersize=4, zorder=2)


def _never_moved(measured: Measured | None) -> bool:
    return measured is not None and measured.accepted == 0


def _draw_points(
    figure: Figure,
    axis: Axes,
    places: Mapping[int, NDArray[np.float64]],
    measured: Mapping[int, Measured | None],
) -> None:
    moved = {i: m for i in places if (m := measured[i]) is not None and m.accepted > 0}
    if moved:
        points = np.array([places[i] for i in moved])
        image = axis.scatter(
            points[:, 0], points[:, 1], c=[m.acceptance for m in moved.values()],
            cmap="viridis", vmin=0, s=60, edgecolors="black", linewidths=0.5, zorder=3,
        )  # fmt: skip
        figure.colorbar(image, ax=axis, label="acceptance of single proposals", shrink=0.8)
    kinds = (
        ("never moved", [i for i in places if _never_moved(measured[i])], "X", _NEVER),
        ("not measured", [i for i in places if measured[i] is None], "o", "0.4"),
    )
    for label, indices, marker, colour in kinds:
        if indices:
            points = np.array([places[i] for i in indices])
            x, y = points.T
            axis.scatter(x, y, marker=marker, color=colour, s=70, label=label, zorder=3)
            axis.legend(loc="best", fontsize=8)


def write_picture(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, in one step."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_bytes_atomically(path, buffer.getvalue())
