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


@dataclass(frozen=True)
class StoredDraws:
    """Independent draws of a flow.

    Attributes
    ----------
    positions : array [F, N, 3], nm
        Without those that are far from what the potential visits.
    log_density : array [F]
        Up to a constant.
    drawn : int
        With these.
    """

    positions: NDArray[np.float64]
    log_density: NDArray[np.float64]
    drawn: int


def write_draws(
    path: Path, trained: TrainedFlow, frames: NDArray[np.float64], count: int, seed: int
) -> None:
    """Draw from a trained flow, and write what `read_draws` reads.

    Parameters
    ----------
    frames : array [F, N, 3], nm
        Of the potential's dynamics: what conformations of sensible energies are.

    Raises
    ------
    ValueError
        If no draw has one.
    """
    flow = build_flow(trained.config.flow, trained.provenance.molecule)
    restore_weights(flow, trained.weights, trained.path, CHECKPOINT_REMEDY)
    flow.eval()
    energy = make_energy(trained.config, trained.provenance, workers=1)
    reference = torch.tensor(trained.provenance.reference_positions, dtype=torch.float32)
    generator = torch.Generator().manual_seed(trained.config.seed + 7000 + seed)
    found = draw(flow, energy, reference, count, generator)
    highest = np.median(energy.energies(torch.from_numpy(frames)).numpy()) + _HIGHEST
    reduced = energy.energies(torch.from_numpy(found.positions).double()).numpy()
    kept = np.isfinite(found.log_weights) & (reduced < highest)
    if not kept.any():
        raise ValueError(
            f"none of {count} draws of the flow is near what the potential's dynamics visit; give "
            "the fit more --minutes"
        )
    log_density = -reduced[kept] - found.log_weights[kept]
    positions = found.positions[kept].astype(float)
    write_arrays(
        path, {"positions": positions, "log_density": log_density, "drawn": np.array(count)}
    )


def read_draws(path: Path) -> StoredDraws:
    """Read draws.

    Raises
    ------
    FileNotFoundError, DamagedFileError
    """
    schema = {"positions": "float F N 3", "log_density": "float F", "drawn": "int"}
    stored = read_arrays(path, schema, "remove it, so that the flow draws again")
    return StoredDraws(stored["positions"], stored["log_density"], int(stored["drawn"]))
