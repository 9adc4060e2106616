"""Functions that tests name as potentials: ``potential_functions:well`` and so on."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from timewarp_openmm.potentials.base import Atoms


def _pairs(positions: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
    differences = positions[:, None] - positions[None]
    distances = np.sqrt((differences**2).sum(-1) + np.eye(len(positions)))
    return differences, distances, 1 - np.eye(len(positions))


def pairs(positions: NDArray[np.float64], atoms: Atoms) -> tuple[float, NDArray[np.float64]]:
    """Atoms that attract each other by Z Z' log r: invariant under all that molecules are."""
    differences, distances, others = _pairs(positions)
    weights = np.outer(atoms.numbers, atoms.numbers) * others
    energy = 0.5 * (weights * np.log(distances)).sum()
    forces = -(weights / distances**2)[..., None] * differences
    return float(energy), forces.sum(1)


def well(positions: NDArray[np.float64], atoms: Atoms) -> tuple[float, NDArray[np.float64]]:
    """Each atom in a well of 100 kJ/mol/nm^2 at the origin."""
    return 50.0 * float((positions**2).sum()), -100.0 * positions


def bounded_well(positions: NDArray[np.float64], atoms: Atoms) -> tuple[float, NDArray]:
    """`well`, without an energy where an atom is to the right of 0.1 nm."""
    energy, forces = well(positions, atoms)
    return (math.nan if (positions[:, 0] > 0.1).any() else energy), forces


def misshapen(positions: NDArray[np.float64], atoms: Atoms) -> tuple[float, NDArray[np.float64]]:
    """Forces of one row too few."""
    return 0.0, positions[1:]
