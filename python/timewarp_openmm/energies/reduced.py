"""OpenMM's energy of batches of states, in numpy: what a worker process computes."""

from __future__ import annotations

import numpy as np
import openmm
from numpy.typing import NDArray

from ..importance import UNPHYSICAL
from ..simulation.systems import make_platform
from ..units import KILOJOULE_PER_MOLE, NANOMETER, thermal_energy


class ReducedEnergy:
    """U/kT of states, one after the other in one Context.

    Parameters
    ----------
    system : openmm.System
    temperature : float
        K.
    platform : str
    """

    def __init__(self, system: openmm.System, temperature: float, platform: str) -> None:
        self._kT = thermal_energy(temperature)
        self._context = openmm.Context(
            system, openmm.VerletIntegrator(0.001), *make_platform(platform)
        )

    def evaluate(
        self, positions: NDArray[np.float64], forces: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return U/kT [B] and its gradient [B, N, 3] in 1/nm, zero unless `forces`.

        A state whose energy is not finite gets `UNPHYSICAL` and no gradient.
        """
        energies = np.full(len(positions), UNPHYSICAL)
        gradients = np.zeros(positions.shape)
        for i, state in enumerate(positions):
            energy, gradient = self._evaluate_one(state, forces)
            if energy < UNPHYSICAL:
                energies[i], gradients[i] = energy, gradient
        return energies, gradients

    def _evaluate_one(
        self, positions: NDArray[np.float64], forces: bool
    ) -> tuple[float, NDArray[np.float64]]:
        nothing = np.zeros(positions.shape)
        if not np.isfinite(positions).all():
            return UNPHYSICAL, nothing
        self._context.setPositions(positions)
        state = self._context.getState(energy=True, forces=forces)
        energy = state.getPotentialEnergy().value_in_unit(KILOJOULE_PER_MOLE) / self._kT
        if not np.isfinite(energy) or not forces:
            return (energy if np.isfinite(energy) else UNPHYSICAL), nothing
        gradient = -state.getForces(asNumpy=True).value_in_unit(KILOJOULE_PER_MOLE / NANOMETER)
        if not np.isfinite(gradient).all():
            return UNPHYSICAL, nothing
        return energy, gradient / self._kT
