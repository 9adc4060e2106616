"""What one training step has for its losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from ..energies.base import BatchEnergy
from .batch import Batch
from .prefetch import Prefetch
from .proposals import Proposals, propose


@dataclass
class Step:
    """The flow, and what is made for it in this step: when it is first asked for, and once only.

    Attributes
    ----------
    flow : Module with the model contract's methods
    draw : callable
        Returns a batch of so many pairs of the training data.
    batch_size : int
    generator : torch.Generator
        All randomness.
    energies : BatchEnergy or None
        None if no loss has declared that it needs energies.
    prefetch : Prefetch
        What the step before has begun.
    own_context : bool
        Whether the flow moves a part of a molecule, so that densities in different contexts differ
        by a constant of each.
    """

    flow: Any
    draw: Callable[[int], Batch]
    batch_size: int
    generator: torch.Generator
    energies: BatchEnergy | None = None
    prefetch: Prefetch = field(default_factory=Prefetch)
    own_context: bool = False
    _proposals: dict[tuple[int, int], list[Proposals]] = field(default_factory=dict)

    @cached_property
    def batch(self) -> Batch:
        """Pairs of the training data."""
        return self.draw(self.batch_size)

    @property
    def energy(self) -> BatchEnergy:
        """U/kT of positions, with its gradient."""
        if self.energies is None:
            raise RuntimeError("a loss that asks for energies declares `needs_energy = True`")
        return self.energies

    def proposals(self, states: int, count: int) -> list[Proposals]:
        """Return `count` of the flow's own proposals from each of the batch's first `states`."""
        key = (states, count)
        if key not in self._proposals:
            self._proposals[key] = [
                propose(self.flow, self.batch[i : i + 1], count, self.generator)
                for i in range(min(states, len(self.batch)))
            ]
        return self._proposals[key]
