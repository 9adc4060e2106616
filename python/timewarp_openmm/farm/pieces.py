"""A piece of a chain, which any worker can run: a function of the chain and of where it stands.

So it does not matter which worker runs which piece, how many there are, or whether one is killed:
its piece is run again, from the same place, by another.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import openmm
from numpy.typing import NDArray

from ..integrator import TimewarpMCMCIntegrator
from ..potentials.serialization import deserialize_system
from ..simulation.langevin import get_positions
from ..simulation.standing import Standing
from ..simulation.systems import make_platform
from ..workers.base import Kept

#: Chains whose Contexts a worker keeps.
_MOST_LIVE = 32


@dataclass(frozen=True)
class ChainTask:
    """All that a worker needs for a chain.

    Attributes
    ----------
    key : str
        Different for different chains, of all runs.
    system, integrator : str
        As XML (see `serialize_system`); the integrator has its model, temperature and seed within.
    start : array [N, 3], nm
    platform : str
    interval : int
        Iterations between frames.
    """

    key: str
    system: str
    integrator: str
    start: NDArray[np.float64]
    platform: str
    interval: int


@dataclass(frozen=True)
class ChainPiece:
    """What a worker sends back.

    Attributes
    ----------
    positions : float32 array [F, N, 3], nm
    standing : Standing
        After the last frame.
    proposed, accepted, non_finite : int
        By the chain since it began.
    """

    positions: NDArray[np.float32]
    standing: Standing
    proposed: int
    accepted: int
    non_finite: int


@dataclass
class _Live:
    """A chain in this process, which has made so many frames."""

    context: openmm.Context
    integrator: TimewarpMCMCIntegrator
    frames: int


_kept: Kept[_Live] = Kept(_MOST_LIVE)


def run_piece(task: ChainTask, standing: Standing, frames: int, seconds: float) -> ChainPiece:
    """Run a chain on for so many frames, or until so many seconds are over.

    It makes one frame at least. Where it is cut makes no difference to its frames.
    """
    began = time.monotonic()
    chain = _kept.take(task.key)
    if chain is None or chain.frames != standing.frames:
        chain = _make(task, standing)
    positions: list[NDArray[np.float32]] = []
    while len(positions) < frames:
        chain.integrator.step(task.interval)
        positions.append(get_positions(chain.context).astype(np.float32))
        chain.frames += 1
        if time.monotonic() - began >= seconds:
            break
    piece = ChainPiece(
        np.array(positions),
        Standing(chain.frames, chain.context.createCheckpoint()),
        chain.integrator.getNumProposed(),
        chain.integrator.getNumAccepted(),
        chain.integrator.getNumNonFinite(),
    )
    _kept.put(task.key, chain)
    return piece


def _make(task: ChainTask, standing: Standing) -> _Live:
    # The user's own, sent by the command that was given it.
    system = deserialize_system(task.system, trusted=True)
    integrator = TimewarpMCMCIntegrator.cast(openmm.XmlSerializer.deserialize(task.integrator))
    context = openmm.Context(system, integrator, *make_platform(task.platform))
    context.setPositions(task.start)
    if standing.checkpoint:
        context.loadCheckpoint(standing.checkpoint)
    return _Live(context, integrator, standing.frames)
