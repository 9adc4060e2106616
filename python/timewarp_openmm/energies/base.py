"""What training asks of an energy."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class PendingEnergies(Protocol):
    """Energies that are being computed."""

    def result(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Wait, and return U/kT [B] and its gradient [B, N, 3] in 1/nm, if it was asked for."""


class BatchEnergy(Protocol):
    """The reduced energy U/kT of batches of states [B, N, 3] / nm, float64 [B]."""

    def __call__(self, positions: torch.Tensor) -> torch.Tensor:
        """Return U/kT; its gradient are the forces."""

    def energies(self, positions: torch.Tensor) -> torch.Tensor:
        """Return U/kT without a gradient."""

    def begin(self, positions: torch.Tensor) -> PendingEnergies:
        """Have U/kT computed while this process goes on."""
