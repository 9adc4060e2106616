"""OpenMM's energy as a differentiable function of positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from ..workers.base import Workers
from ..workers.local import LocalWorkers
from .reduced import ReducedEnergy
from .workers import EnergyWorkers, PendingEnergies


class OpenMMEnergy:
    """The reduced energy U/kT of batches of states.

    Parameters
    ----------
    system : openmm.System
    temperature : float
        K.
    platform : str
    workers : int or Workers
        Who large batches are shared among, or so many processes of this machine; a single one
        computes only what is begun while this process goes on.
    """

    def __init__(
        self, system: openmm.System, temperature: float, platform: str, workers: int | Workers = 1
    ) -> None:
        self._workers = LocalWorkers(workers) if isinstance(workers, int) else workers
        self._elsewhere = EnergyWorkers(system, temperature, platform, self._workers)
        self._here = ReducedEnergy(system, temperature, platform)

    def __call__(self, positions: torch.Tensor) -> torch.Tensor:
        """Return U/kT, float64 [B], of positions [B, N, 3] in nm; its gradient are the forces.

        States whose energy is not finite get a huge energy and no gradient.
        """
        energies: torch.Tensor = _Energy.apply(positions, self)  # type: ignore[no-untyped-call]
        return energies

    def energies(self, positions: torch.Tensor) -> torch.Tensor:
        """Return U/kT as `__call__` does, without a gradient."""
        values, _ = self.evaluate(_to_numpy(positions), forces=False)
        return torch.from_numpy(values).to(positions.device)

    def begin(self, positions: torch.Tensor) -> PendingEnergies:
        """Have U/kT computed by the workers, without a gradient."""
        return self._elsewhere.begin(_to_numpy(positions))

    def evaluate(
        self, positions: NDArray[np.float64], forces: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return U/kT [B] and its gradient [B, N, 3] in 1/nm, zero unless `forces`."""
        if len(positions) < _WORTH_SHARING or self._workers.count() == 1:
            return self._here.evaluate(positions, forces)
        return self._elsewhere.begin(positions, forces).result()


#: States; starting the processes and sending few states costs more than it saves.
_WORTH_SHARING = 500


def _to_numpy(positions: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = positions.detach().cpu().double().numpy()
    return array


class _Energy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: torch.Tensor, energy: OpenMMEnergy) -> torch.Tensor:
        values, gradients = energy.evaluate(_to_numpy(positions))
        ctx.save_for_backward(torch.from_numpy(gradients).to(positions))
        return torch.from_numpy(values).to(positions.device)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradients,) = ctx.saved_tensors
        return outer[0].to(gradients.dtype)[:, None, None] * gradients, None
