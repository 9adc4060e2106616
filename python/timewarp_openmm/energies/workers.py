"""Energies computed by workers while this process goes on.

Threads would do for OpenMM's own work, but between its calls they hold Python's lock, for which a
training step made of many small tensor operations then waits: it was measured to take four times
as long.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import openmm
from numpy.typing import NDArray

from ..potentials.serialization import deserialize_system, serialize_system
from ..workers.base import Kept, Workers
from .reduced import ReducedEnergy

_Result = tuple[NDArray[np.float64], NDArray[np.float64]]
#: States below which a part is not worth sending.
_LEAST_PART = 16


@dataclass(frozen=True)
class _Kind:
    """Which energy: a System as XML, a temperature / K and a platform."""

    system: str
    temperature: float
    platform: str


_kept: Kept[ReducedEnergy] = Kept(4)


def _evaluate(kind: _Kind, positions: NDArray[np.float64], forces: bool) -> _Result:
    energy = _kept.take(kind)
    if energy is None:
        # The user's own, sent by the command that was given it.
        system = deserialize_system(kind.system, trusted=True)
        energy = ReducedEnergy(system, kind.temperature, kind.platform)
    result = energy.evaluate(positions, forces)
    _kept.put(kind, energy)
    return result


@dataclass(frozen=True)
class PendingEnergies:
    """Energies that are being computed."""

    parts: tuple[Future[_Result], ...]

    def result(self) -> _Result:
        """Wait, and return what `ReducedEnergy.evaluate` does."""
        results = [part.result() for part in self.parts]
        energies, gradients = zip(*results, strict=True)
        return np.concatenate(energies), np.concatenate(gradients)


class EnergyWorkers:
    """Workers that compute the energies of `ReducedEnergy` (see there for arguments)."""

    def __init__(
        self, system: openmm.System, temperature: float, platform: str, workers: Workers
    ) -> None:
        self._arguments = (system, temperature, platform)
        self._workers = workers

    @cached_property
    def _kind(self) -> _Kind:
        system, temperature, platform = self._arguments
        return _Kind(serialize_system(system), temperature, platform)

    def begin(self, positions: NDArray[np.float64], forces: bool = False) -> PendingEnergies:
        """Have the energies of states [B, N, 3] / nm computed."""
        most = max(2, -(-len(positions) // _LEAST_PART))
        count = min(self._workers.count(), most, max(1, len(positions)))
        return PendingEnergies(
            tuple(
                self._workers.submit(_evaluate, self._kind, part, forces, name="energies")
                for part in np.array_split(positions, count)
            )
        )
