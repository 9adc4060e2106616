"""OpenMM's energy as a differentiable function of positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from ..data.systems import make_platform
from ..units import KILOJOULE_PER_MOLE, NANOMETER, thermal_energy

#: kT; stands in for energies that are not finite, far above any that are.
UNPHYSICAL = 1e10


class OpenMMEnergy:
    """The reduced energy U/kT of batches of states.

    Parameters
    ----------
    system : openmm.System
    temperature : float
        K.
    platform : str
    """

    def __init__(self, system: openmm.System, temperature: float, platform: str) -> None:
        self._kT = thermal_energy(temperature)
        integrator = openmm.VerletIntegrator(0.001)
        self._context = openmm.Context(system, integrator, *make_platform(platform))

    def __call__(self, positions: torch.Tensor) -> torch.Tensor:
        """Return U/kT, float64 [B], of positions [B, N, 3] in nm; its gradient are the forces.

        States whose energy is not finite get a huge energy and no gradient.
        """
        energies: torch.Tensor = _Energy.apply(positions, self)  # type: ignore[no-untyped-call]
        return energies

    def evaluate(
        self, positions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return U/kT [B] and its gradient [B, N, 3] in 1/nm."""
        energies = np.full(len(positions), UNPHYSICAL)
        gradients = np.zeros(positions.shape)
        for i, state_positions in enumerate(positions):
            if not np.isfinite(state_positions).all():
                continue
            self._context.setPositions(state_positions)
            state = self._context.getState(energy=True, forces=True)
            energy = state.getPotentialEnergy().value_in_unit(KILOJOULE_PER_MOLE) / self._kT
            forces = state.getForces(asNumpy=True).value_in_unit(KILOJOULE_PER_MOLE / NANOMETER)
            if np.isfinite(energy) and energy < UNPHYSICAL and np.isfinite(forces).all():
                energies[i] = energy
                gradients[i] = -forces / self._kT
        return energies, gradients


class _Energy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: torch.Tensor, energy: OpenMMEnergy) -> torch.Tensor:
        values, gradients = energy.evaluate(positions.detach().cpu().double().numpy())
        ctx.save_for_backward(torch.from_numpy(gradients).to(positions))
        return torch.from_numpy(values).to(positions.device)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradients,) = ctx.saved_tensors
        return outer[0].to(gradients.dtype)[:, None, None] * gradients, None
