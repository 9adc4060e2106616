"""Energies computed by other processes while this one goes on.

Threads would do for OpenMM's own work, but between its calls they hold Python's lock, for which a
training step made of many small tensor operations then waits: it was measured to take four times
as long.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import openmm
from loky import ProcessPoolExecutor
from numpy.typing import NDArray

from ..potentials.serialization import deserialize_system, serialize_system
from .reduced import ReducedEnergy

_Result = tuple[NDArray[np.float64], NDArray[np.float64]]
_energy: ReducedEnergy | None = None


def _start(system: str, temperature: float, platform: str) -> None:
    global _energy
    _energy = ReducedEnergy(deserialize_system(system, trusted=True), temperature, platform)


def _evaluate(positions: NDArray[np.float64], forces: bool) -> _Result:
    assert _energy is not None
    return _energy.evaluate(positions, forces)


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
    """Processes, each with a `ReducedEnergy` of its own (see there for arguments)."""

    def __init__(
        self, system: openmm.System, temperature: float, platform: str, workers: int
    ) -> None:
        xml = serialize_system(system)
        self._workers = workers
        # loky's processes do not import the caller's script again, which may have no main guard.
        self._pool = ProcessPoolExecutor(
            workers, initializer=_start, initargs=(xml, temperature, platform)
        )

    def begin(self, positions: NDArray[np.float64], forces: bool = False) -> PendingEnergies:
        """Have the energies of states [B, N, 3] / nm computed."""
        parts = np.array_split(positions, min(self._workers, max(1, len(positions))))
        return PendingEnergies(tuple(self._pool.submit(_evaluate, part, forces) for part in parts))

    def __del__(self) -> None:
        self._pool.shutdown(wait=False, kill_workers=True)
