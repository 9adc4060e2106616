"""OpenMM's energy as a differentiable function of positions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
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
    threads : int
        States are shared among so many Contexts; OpenMM computes outside of Python's lock.
    """

    def __init__(
        self, system: openmm.System, temperature: float, platform: str, threads: int = 1
    ) -> None:
        self._kT = thermal_energy(temperature)
        self._contexts = [
            openmm.Context(system, openmm.VerletIntegrator(0.001), *make_platform(platform))
            for _ in range(threads)
        ]

    def __call__(self, positions: torch.Tensor) -> torch.Tensor:
        """Return U/kT, float64 [B], of positions [B, N, 3] in nm; its gradient are the forces.

        States whose energy is not finite get a huge energy and no gradient.
        """
        energies: torch.Tensor = _Energy.apply(positions, self)  # type: ignore[no-untyped-call]
        return energies

    def energies(self, positions: torch.Tensor) -> torch.Tensor:
        """Return U/kT as `__call__` does, without a gradient."""
        values, _ = self.evaluate(positions.detach().cpu().double().numpy(), forces=False)
        return torch.from_numpy(values).to(positions.device)

    def evaluate(
        self, positions: NDArray[np.float64], forces: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return U/kT [B] and its gradient [B, N, 3] in 1/nm, zero unless `forces`."""
        energies = np.full(len(positions), UNPHYSICAL)
        gradients = np.zeros(positions.shape)
        parts = np.array_split(np.arange(len(positions)), len(self._contexts))

        def work(context: openmm.Context, part: NDArray[np.int64]) -> None:
            for i in part:
                self._evaluate_one(context, positions[i], forces, energies, gradients, i)

        if len(self._contexts) == 1:
            work(self._contexts[0], parts[0])
        else:
            with ThreadPoolExecutor(len(self._contexts)) as pool:
                list(pool.map(work, self._contexts, parts))
        return energies, gradients

    def _evaluate_one(
        self,
        context: openmm.Context,
        positions: NDArray[np.float64],
        forces: bool,
        energies: NDArray[np.float64],
        gradients: NDArray[np.float64],
        place: int,
    ) -> None:
        if not np.isfinite(positions).all():
            return
        context.setPositions(positions)
        state = context.getState(energy=True, forces=forces)
        energy = state.getPotentialEnergy().value_in_unit(KILOJOULE_PER_MOLE) / self._kT
        if not (np.isfinite(energy) and energy < UNPHYSICAL):
            return
        if forces:
            gradient = -state.getForces(asNumpy=True).value_in_unit(KILOJOULE_PER_MOLE / NANOMETER)
            if not np.isfinite(gradient).all():
                return
            gradients[place] = gradient / self._kT
        energies[place] = energy


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
