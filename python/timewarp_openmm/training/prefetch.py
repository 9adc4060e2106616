"""A flow's draws and their energies for the next step, made while this one is computed."""

from __future__ import annotations

import copy
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from .batches import BatchSource
from .config import LossConfig
from .losses import RegressionStates, regression_states
from .openmm_energy import OpenMMEnergy


class RegressionPrefetch:
    """Makes `RegressionStates` one step ahead, from a copy of the weights of one step ago.

    Parameters
    ----------
    flow : torch.nn.Module
    energy : OpenMMEnergy
        Used by no one else while a step is made ahead.
    source : BatchSource
    config : LossConfig
    device : torch.device
    generator : torch.Generator
        All randomness; it is used in the caller's thread only.
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
        self._copy: Any = copy.deepcopy(flow).requires_grad_(False)
        self._energy, self._source, self._config = energy, source, config
        self._device, self._generator = device, generator
        self._pool = ThreadPoolExecutor(1)
        self._next: Future[RegressionStates] | None = None

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

    def _begin(self) -> Future[RegressionStates]:
        self._copy.load_state_dict(self._flow.state_dict())
        batch = self._source.draw(self._config.regression_states, self._generator)
        noise = torch.randn(
            self._config.regression_draws, self._flow.noise_size, generator=self._generator
        )
        return self._pool.submit(
            regression_states,
            self._copy,
            self._energy,
            batch.to(self._device),
            noise.to(self._device),
        )
