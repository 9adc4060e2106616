"""Starts that nothing can be simulated from, found before time is spent on them."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from ..units import KILOJOULE_PER_MOLE, NANOMETER
from .systems import make_platform

#: nm; a fifth of the shortest bond there is (H2, 0.074 nm). Minimising from closer pairs does not
#: end or ends in another molecule.
CLOSEST = 0.015
#: Atoms that a message names.
_NAMED = 3


def check_start(
    topology: app.Topology, system: openmm.System, positions: NDArray[np.float64]
) -> None:
    """Refuse positions [N, 3] / nm that no simulation can start from.

    Raises
    ------
    ValueError
        If a coordinate is not finite, two atoms are at one place, or the energy or a force is not
        finite; the message names atoms and what to do.
    """
    names = [_describe(atom) for atom in topology.atoms()]
    _check_finite(positions, names)
    _check_distances(positions, names)
    _check_energy(system, positions, names)


def _describe(atom: app.topology.Atom) -> str:
    return f"{atom.residue.name}{atom.residue.id}:{atom.name} (atom {atom.index + 1})"


def _listed(indices: Sequence[int], names: Sequence[str]) -> str:
    shown = ", ".join(names[i] for i in indices[:_NAMED])
    more = len(indices) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _check_finite(positions: NDArray[np.float64], names: Sequence[str]) -> None:
    wrong = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"the coordinates of {_listed(wrong.tolist(), names)} are not numbers; give a "
            "structure with coordinates of every atom"
        )


def _check_distances(positions: NDArray[np.float64], names: Sequence[str]) -> None:
    # Sorted along x, so that only neighbours there are compared: all pairs of a protein are many.
    order = np.argsort(positions[:, 0], kind="stable")
    close: list[tuple[int, int]] = []
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            if positions[j, 0] - positions[i, 0] >= CLOSEST or len(close) > len(names):
                break
            if np.linalg.norm(positions[j] - positions[i]) < CLOSEST:
                close.append((min(i, j), max(i, j)))
    if not close:
        return
    if np.ptp(positions, axis=0).max() < CLOSEST:
        raise ValueError(
            f"all {len(names)} atoms are at one place; give a structure with coordinates"
        )
    i, j = min(close)
    distance = float(np.linalg.norm(positions[j] - positions[i]))
    raise ValueError(
        f"{names[i]} and {names[j]} are at one place ({10 * distance:.3f} Angstrom apart); "
        "give a structure in which every atom has a place of its own"
    )


def _check_energy(
    system: openmm.System, positions: NDArray[np.float64], names: Sequence[str]
) -> None:
    energy, forces = _evaluate(system, positions)
    wrong = np.flatnonzero(~np.isfinite(forces).all(axis=1))
    if math.isfinite(energy) and not len(wrong):
        return
    culprits = [
        type(force).__name__
        for number, force in enumerate(system.getForces())
        if not _is_finite(_only(system, number), positions)
    ]
    source = f" (from {', '.join(culprits)})" if culprits else ""
    where = f", and the forces on {_listed(wrong.tolist(), names)}" if len(wrong) else ""
    raise ValueError(
        f"the energy of the start is {energy:g} kJ/mol{source}{where} are not finite; check their "
        "parameters in the System and their coordinates"
        if where
        else f"the energy of the start is {energy:g} kJ/mol{source}; check the parameters in the "
        "System and the coordinates"
    )


def _evaluate(
    system: openmm.System, positions: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), *make_platform("Reference"))
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True)
    return (
        state.getPotentialEnergy().value_in_unit(KILOJOULE_PER_MOLE),
        np.asarray(state.getForces(asNumpy=True).value_in_unit(KILOJOULE_PER_MOLE / NANOMETER)),
    )


def _is_finite(system: openmm.System, positions: NDArray[np.float64]) -> bool:
    energy, forces = _evaluate(system, positions)
    return math.isfinite(energy) and bool(np.isfinite(forces).all())


def _only(system: openmm.System, number: int) -> openmm.System:
    """Return a copy of the System with one of its forces alone."""
    alone = copy.deepcopy(system)
    for other in reversed(range(alone.getNumForces())):
        if other != number:
            alone.removeForce(other)
    return alone
