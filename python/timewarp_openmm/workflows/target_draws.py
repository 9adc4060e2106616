"""Draws of a flow that a potential's energies are computed of, in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..flows.registry import build_flow
from ..flows.weights import restore_weights
from ..stored import read_arrays, write_arrays
from ..training.checkpoints import CHECKPOINT_REMEDY, TrainedFlow
from ..training.energy import make_energy
from ..training.independence import draw

#: kT above the median of the potential's dynamics; of what lies higher no energy is worth its time.
_HIGHEST = 40.0


#: Draws that are made for each whose energy is computed.
_CHOICE = 5


@dataclass(frozen=True)
class StoredDraws:
    """Independent draws of a flow, and some that were chosen by their weights.

    Attributes
    ----------
    positions : array [F, N, 3], nm
        Without those that are far from what the potential visits.
    log_density : array [F]
        Up to a constant.
    plain : bool array [F]
        Which were taken as they came. Of the others there were many more, from which these were
        chosen as a chain on the present energy would: where chains are, a surrogate must be right.
    plain_share : float
        Of all that were taken as they came, how many there are.
    """

    positions: NDArray[np.float64]
    log_density: NDArray[np.float64]
    plain: NDArray[np.bool_]
    plain_share: float


def write_draws(
    path: Path, trained: TrainedFlow, frames: NDArray[np.float64], count: int, seed: int
) -> None:
    """Draw from a trained flow, and write what `read_draws` reads.

    Parameters
    ----------
    frames : array [F, N, 3], nm
        Of the potential's dynamics: what conformations of sensible energies are.
    count : int
        About so many are written.

    Raises
    ------
    ValueError
        If no draw has a sensible energy.
    """
    flow = build_flow(trained.config.flow, trained.provenance.molecule)
    restore_weights(flow, trained.weights, trained.path, CHECKPOINT_REMEDY)
    flow.eval()
    energy = make_energy(trained.config, trained.provenance, workers=1)
    reference = torch.tensor(trained.provenance.reference_positions, dtype=torch.float32)
    generator = torch.Generator().manual_seed(trained.config.seed + 7000 + seed)
    found = draw(flow, energy, reference, _CHOICE * count, generator)
    highest = np.median(energy.energies(torch.from_numpy(frames)).numpy()) + _HIGHEST
    reduced = energy.energies(torch.from_numpy(found.positions).double()).numpy()
    sensible = np.isfinite(found.log_weights) & (reduced < highest)
    if not sensible.any():
        raise ValueError(
            f"none of {_CHOICE * count} draws of the flow is near what the potential's dynamics "
            "visit; give the fit more --minutes"
        )
    first = np.arange(len(reduced)) < count // 2
    plain = np.flatnonzero(sensible & first)
    chosen = _chosen(found.log_weights, np.flatnonzero(sensible & ~first), count // 2, seed)
    # In turns, since time may not suffice for the energies of all.
    order = np.argsort(
        np.concatenate([np.linspace(0, 1, len(plain)), np.linspace(0, 1, len(chosen))]),
        kind="stable",
    )
    rows = np.concatenate([plain, chosen])[order]
    write_arrays(
        path,
        {
            "positions": found.positions[rows].astype(float),
            "log_density": -reduced[rows] - found.log_weights[rows],
            "plain": first[rows],
            "plain_share": np.array(len(plain) / max(1, count // 2)),
        },
    )


def _chosen(
    log_weights: NDArray[np.float64], rows: NDArray[np.int64], count: int, seed: int
) -> NDArray[np.int64]:
    """Return some of `rows`, no one twice, with probabilities that grow with their weights."""
    if len(rows) <= count:
        return rows
    # The largest of log w + Gumbel noise are a sample without replacement (Efraimidis, Spirakis).
    noise = np.random.default_rng([seed, len(rows)]).gumbel(size=len(rows))
    return rows[np.argsort(-(log_weights[rows] + noise))[:count]]


def read_draws(path: Path) -> StoredDraws:
    """Read draws.

    Raises
    ------
    FileNotFoundError, DamagedFileError
    """
    schema = {
        "positions": "float F N 3",
        "log_density": "float F",
        "plain": "bool F",
        "plain_share": "float",
    }
    stored = read_arrays(path, schema, "remove it, so that the flow draws again")
    share = float(stored.pop("plain_share"))
    return StoredDraws(**stored, plain_share=share)
