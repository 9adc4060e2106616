"""A piece of a chain, which any worker can run: a function of the chain and of where it stands.

So it does not matter which worker runs which piece, how many there are, or whether one is killed:
its piece is run again, from the same place, by another.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import openmm
from distributed import get_worker
from numpy.typing import NDArray

from .. import __version__
from ..integrator import TimewarpMCMCIntegrator
from ..potentials.serialization import deserialize_system
from ..simulation.langevin import get_positions
from ..simulation.systems import make_platform

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
    version : str
        Of this package, which workers must have.
    """

    key: str
    system: str
    integrator: str
    start: NDArray[np.float64]
    platform: str
    interval: int
    version: str = __version__


@dataclass(frozen=True)
class Standing:
    """Where a chain stands after so many frames.

    Attributes
    ----------
    frames : int
    checkpoint : bytes
        OpenMM's; empty before the first step.
    """

    frames: int = 0
    checkpoint: bytes = b""


@dataclass(frozen=True)
class Piece:
    """What a worker sends back.

    Attributes
    ----------
    positions : float32 array [F, N, 3], nm
    standing : Standing
        After the last frame.
    proposed, accepted, non_finite : int
        By the chain since it began.
    worker : str
        The address of who ran it.
    """

    positions: NDArray[np.float32]
    standing: Standing
    proposed: int
    accepted: int
    non_finite: int
    worker: str


@dataclass
class _Live:
    """A chain in this process, which has made so many frames."""

    context: openmm.Context
    integrator: TimewarpMCMCIntegrator
    frames: int


_live: OrderedDict[str, _Live] = OrderedDict()


def run_piece(task: ChainTask, standing: Standing, frames: int, seconds: float) -> Piece:
    """Run a chain on for so many frames, or until so many seconds are over.

    It makes one frame at least. Where it is cut makes no difference to its frames.

    Raises
    ------
    RuntimeError
        If the worker has another release of this package.
    """
    if task.version != __version__:
        raise RuntimeError(
            f"this worker has timewarp-openmm {__version__}, and the chain comes from "
            f"{task.version}; install the same release for workers and for the command"
        )
    chain = _chain_at(task, standing)
    positions: list[NDArray[np.float32]] = []
    began = time.monotonic()
    try:
        while len(positions) < frames:
            chain.integrator.step(task.interval)
            positions.append(get_positions(chain.context).astype(np.float32))
            chain.frames += 1
            if time.monotonic() - began >= seconds:
                break
    except BaseException:
        # It stands somewhere between two frames.
        del _live[task.key]
        raise
    return Piece(
        np.array(positions),
        Standing(chain.frames, chain.context.createCheckpoint()),
        chain.integrator.getNumProposed(),
        chain.integrator.getNumAccepted(),
        chain.integrator.getNumNonFinite(),
        str(get_worker().address),
    )


def _chain_at(task: ChainTask, standing: Standing) -> _Live:
    """Return the chain as it stands: the one of this process, or one made anew."""
    chain = _live.pop(task.key, None)
    if chain is None or chain.frames != standing.frames:
        chain = _make(task, standing)
    _live[task.key] = chain
    while len(_live) > _MOST_LIVE:
        _live.popitem(last=False)
    return chain


def _make(task: ChainTask, standing: Standing) -> _Live:
    # The user's own, sent by the command that was given it.
    system = deserialize_system(task.system, trusted=True)
    integrator = TimewarpMCMCIntegrator.cast(openmm.XmlSerializer.deserialize(task.integrator))
    context = openmm.Context(system, integrator, *make_platform(task.platform))
    context.setPositions(task.start)
    if standing.checkpoint:
        context.loadCheckpoint(standing.checkpoint)
    return _Live(context, integrator, standing.frames)
