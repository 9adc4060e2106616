"""Functions that tests name as potentials: ``potential_functions:well`` and so on."""

from __future__ import annotations

import math
import time
from functools import cache

import numpy as np
import openmm
from alanine_samples import PHI
from numpy.typing import NDArray
from openmm import app

from timewarp_openmm.potentials.base import Atoms
from timewarp_openmm.simulation.systems import named_molecule
from timewarp_openmm.units import KILOJOULE_PER_MOLE, NANOMETER

#: kJ/mol, on cos(phi).
TORSION_BIAS = 3.0


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


def alone(positions: NDArray[np.float64], atoms: Atoms) -> tuple[float, NDArray[np.float64]]:
    """`well`; infinite if another thread is in here at the time."""
    _inside.append(1)
    time.sleep(0.01)
    energy = well(positions, atoms)[0] if len(_inside) == 1 else math.inf
    _inside.pop()
    return energy, -100.0 * positions


_inside: list[int] = []


def never(positions: NDArray[np.float64], atoms: Atoms) -> tuple[float, NDArray[np.float64]]:
    """No energy of anything."""
    return math.nan, positions


def misshapen(positions: NDArray[np.float64], atoms: Atoms) -> tuple[float, NDArray[np.float64]]:
    """Forces of one row too few."""
    return 0.0, positions[1:]


def altered(positions: NDArray[np.float64], atoms: Atoms) -> tuple[float, NDArray[np.float64]]:
    """Alanine dipeptide's Amber force field, 3 % stiffer and with another torsion phi."""
    context = _altered_context()
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(KILOJOULE_PER_MOLE / NANOMETER)
    return state.getPotentialEnergy().value_in_unit(KILOJOULE_PER_MOLE), np.asarray(forces)


def altered_system() -> openmm.System:
    """Return the System whose energy `altered` is."""
    system = named_molecule("alanine-dipeptide").system
    for force in system.getForces():
        if isinstance(force, openmm.HarmonicAngleForce):
            for i in range(force.getNumAngles()):
                *particles, angle, stiffness = force.getAngleParameters(i)
                force.setAngleParameters(i, *particles, angle, 1.03 * stiffness)
    bias = openmm.PeriodicTorsionForce()
    bias.addTorsion(*PHI, 1, 0.0, TORSION_BIAS)
    system.addForce(bias)
    return system


@cache
def _altered_context() -> openmm.Context:
    platform = openmm.Platform.getPlatformByName("Reference")
    return openmm.Context(altered_system(), openmm.VerletIntegrator(0.001), platform)


def register_with_openmmml(name: str) -> None:
    """Have OpenMM-ML, if it is installed, know `pairs` by a name."""
    try:
        from openmmml.mlpotential import (
            MLPotential,
            MLPotentialImpl,
            MLPotentialImplFactory,
        )
    except ImportError:
        return

    class Implementation(MLPotentialImpl):
        def addForces(  # noqa: N802
            self, topology: app.Topology, system: openmm.System, *_: object, **__: object
        ) -> None:
            numbers = tuple(atom.element.atomic_number for atom in topology.atoms())

            def compute(state: openmm.State) -> tuple[float, NDArray[np.float64]]:
                return pairs(state.getPositions(asNumpy=True)._value, Atoms(numbers))

            system.addForce(openmm.PythonForce(compute))

    class Factory(MLPotentialImplFactory):
        def createImpl(self, name: str, **_: object) -> MLPotentialImpl:  # noqa: N802
            return Implementation()

    MLPotential.registerImplFactory(name, Factory())
