"""A flow's draws for the next step, whose energies are computed while this one is."""

from __future__ import annotations

from typing import Any

import torch

from ..energies.openmm_energy import OpenMMEnergy
from .batches import BatchSource
from .config import LossConfig
from .losses import PendingStates, RegressionStates, begin_regression_states


class RegressionPrefetch:
    """Makes `RegressionStates` one step ahead, with the weights of one step ago.

    Parameters
    ----------
    flow : torch.nn.Module
    energy : OpenMMEnergy
    source : BatchSource
    config : LossConfig
    device : torch.device
    generator : torch.Generator
        All randomness.
    """

    def __init__(
        self,
        flow: torch.nn.Module,
        energy: OpenMMEnergy,
        source: BatchSource,
        config: LossConfig,
        device: torch.device,
        generator: torch.Generator,
    ) -> None:
        self._flow: Any = flow
        self._energy, self._source, self._config = energy, source, config
        self._device, self._generator = device, generator
        self._next: PendingStates | None = None

    def take(self) -> RegressionStates:
        """Return states for this step and begin with those for the next."""
        ready = (self._next or self._begin()).result()
        self._next = self._begin()
        return ready

    def finish(self) -> None:
        """Drop what was made ahead: a run that goes on from a checkpoint has not made it either."""
        if self._next is not None:
            self._next.result()
            self._next = None

    def _begin(self) -> PendingStates:
        batch = self._source.draw(self._config.regression_states, self._generator)
        noise = torch.randn(
            self._config.regression_draws, self._flow.noise_size, generator=self._generator
        )
        return begin_regression_states(
            self._flow, self._energy, batch.to(self._device), noise.to(self._device)
        )
