"""A piece of a trajectory: a function of the trajectory and of where it stands."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import openmm
from numpy.typing import NDArray

from ..molecule.graph import Molecule
from ..molecule.in_place import Fragment
from ..molecule.stereochemistry import Stereochemistry
from ..molecule.torsions import backbone_torsions, torsion
from ..potentials.serialization import deserialize_system
from ..workers.base import Kept
from .langevin import get_positions
from .protocol import Protocol
from .standing import Standing
from .starts import equilibrated_start

#: nm; no molecule diffuses so far, and float32 still holds it. NaN is not less than this either.
FARTHEST = 1e6


@dataclass(frozen=True)
class TrajectoryTask:
    """All that a worker needs for a trajectory.

    Attributes
    ----------
    key : str
        Different for different trajectories, of all runs.
    index : int
        Within its run.
    seed : int
        Its own.
    system : str
        As XML (see `serialize_system`).
    reference, start : array [N, 3], nm
        What its stereochemistry is told by, and where it begins (see `equilibrated_start`).
    fragment : Fragment, optional
        Whose stereochemistry is looked after; by default that of all atoms.
    """

    key: str
    index: int
    seed: int
    protocol: Protocol
    system: str
    molecule: Molecule
    reference: NDArray[np.float64]
    start: NDArray[np.float64]
    fragment: Fragment | None = None


@dataclass(frozen=True)
class Beginning:
    """What is known of a trajectory once it has begun.

    Attributes
    ----------
    torsions : dict of str to float, degrees
        Those of the backbone, in the first frame.
    dropped : int
        Starts that had lost their stereochemistry.
    """

    torsions: dict[str, float]
    dropped: int


@dataclass(frozen=True)
class TrajectoryPiece:
    """What a worker sends back.

    Attributes
    ----------
    positions : float32 array [F, N, 3], nm
    standing : Standing
        After the last frame.
    beginning : Beginning, optional
        With the first frame.
    seconds : float
        That dynamics took, without what comes before the first frame.
    """

    positions: NDArray[np.float32]
    standing: Standing
    beginning: Beginning | None
    seconds: float


@dataclass
class _Live:
    """A trajectory in this process, which has made so many frames."""

    context: openmm.Context
    frames: int


_kept: Kept[_Live] = Kept(32)


def run_on(task: TrajectoryTask, standing: Standing, seconds: float) -> TrajectoryPiece:
    """Run a trajectory on for about so long, by a frame at least.

    Raises
    ------
    ValueError
        If positions stop being finite, or no start keeps its stereochemistry.
    """
    live = _kept.take(task.key)
    if live is None or live.frames != standing.frames:
        live = _make(task, standing)
    elif standing.checkpoint:
        # All Contexts of a process draw from one generator on the Reference platform, so that this
        # one's random numbers are no longer where it has left them.
        live.context.loadCheckpoint(standing.checkpoint)
    positions: list[NDArray[np.float64]] = []
    beginning = None
    if live.frames == 0:
        beginning = _begin(task, live.context)
        positions.append(get_positions(live.context))
        live.frames = 1
    began = time.monotonic()
    while live.frames < task.protocol.frames:
        if positions and time.monotonic() - began >= seconds:
            break
        live.context.getIntegrator().step(task.protocol.steps_per_frame)
        positions.append(get_positions(live.context))
        _check(task, positions[-1], live.frames)
        live.frames += 1
    reached = Standing(live.frames, live.context.createCheckpoint())
    if live.frames < task.protocol.frames:
        _kept.put(task.key, live)
    frames = np.array(positions, dtype=np.float32)
    return TrajectoryPiece(frames, reached, beginning, time.monotonic() - began)


def _make(task: TrajectoryTask, standing: Standing) -> _Live:
    # The user's own, sent by the command that was given it.
    system = deserialize_system(task.system, trusted=True)
    protocol = task.protocol
    context = protocol.dynamics.context(system, protocol.platform, task.seed)
    if standing.checkpoint:
        context.loadCheckpoint(standing.checkpoint)
    return _Live(context, standing.frames)


def _begin(task: TrajectoryTask, context: openmm.Context) -> Beginning:
    check = Stereochemistry(task.molecule, task.reference, task.fragment)
    dropped = equilibrated_start(
        context,
        task.molecule,
        task.reference,
        task.protocol,
        task.index,
        task.seed,
        task.start,
        check,
    )
    positions = get_positions(context)
    torsions = {
        name: round(float(np.degrees(torsion(positions, atoms))), 1)
        for name, atoms in backbone_torsions(task.molecule).items()
    }
    return Beginning(torsions, dropped)


def _check(task: TrajectoryTask, positions: NDArray[np.float64], frames: int) -> None:
    if not (np.abs(positions) < FARTHEST).all():
        now = frames * task.protocol.interval
        raise ValueError(
            f"the simulation blew up: positions of trajectory {task.index} are out of bounds at "
            f"{now:g} ps; use a shorter time step or a better starting structure"
        )
