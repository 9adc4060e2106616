"""What OpenMM-ML knows (MACE, AIMNet2, ANI-2x ...), by ``MLPotential(name).createSystem``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from ..units import KILOJOULE_PER_MOLE, NANOMETER
from .base import Atoms, Calculator, ConvergenceError, installed_version
from .threads import OneThread

PREFIX = "openmmml:"


@dataclass(frozen=True)
class OpenMMMLPotential:
    """A potential of OpenMM-ML.

    Its System has a Context of its own: what forces it is made of, and how these are stored, is
    nobody else's matter.

    Attributes
    ----------
    name : str
        ``openmmml:`` and OpenMM-ML's name.
    """

    name: str

    @property
    def version(self) -> str:
        return installed_version("openmmml", self.name, "openmmml")

    @property
    def elements(self) -> None:
        return None

    def calculator(self, atoms: Atoms) -> Calculator:
        return _Calculator(self.name.removeprefix(PREFIX), atoms)


class _Calculator:
    def __init__(self, name: str, atoms: Atoms) -> None:
        self._one_thread = OneThread()
        system = _create_system(name, atoms)
        platform = openmm.Platform.getPlatformByName("Reference")
        self._context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)

    def __call__(self, positions: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return self._one_thread.call(lambda: self._evaluate(positions))

    def _evaluate(self, positions: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        self._context.setPositions(positions)
        state = self._context.getState(energy=True, forces=True)
        energy = state.getPotentialEnergy().value_in_unit(KILOJOULE_PER_MOLE)
        if not np.isfinite(energy):
            raise ConvergenceError(f"the energy is {energy}")
        forces = state.getForces(asNumpy=True).value_in_unit(KILOJOULE_PER_MOLE / NANOMETER)
        return float(energy), np.asarray(forces)


def _create_system(name: str, atoms: Atoms) -> Any:
    from openmmml import MLPotential

    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    for index, number in enumerate(atoms.numbers):
        topology.addAtom(f"A{index}", app.Element.getByAtomicNumber(number), residue)
    try:
        return MLPotential(name).createSystem(
            topology,
            removeCMMotion=False,
            charge=atoms.charge,
            multiplicity=atoms.multiplicity,
        )
    except Exception as error:  # each of its models raises its own, by what is missing
        raise ValueError(
            f"OpenMM-ML cannot make {name}: {type(error).__name__}: {error}; see what this one of "
            "its potentials needs"
        ) from error
