"""Hot walkers, piece by piece: dynamics whose frames are minimised."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import openmm
from numpy.typing import NDArray

from ..molecule.in_place import Fragment
from ..molecule.superposition import superpose
from ..potentials.serialization import deserialize_system
from ..units import KILOJOULE_PER_MOLE
from ..workers.base import Kept, Piece, Workers
from ..workers.jobs import Job, run_jobs
from ..workers.opening import using
from .langevin import Langevin, default_platform, get_positions
from .standing import Standing
from .systems import make_platform

#: kJ/mol/nm and iterations: enough to tell basins apart, not to find minima exactly.
MINIMISE_TOLERANCE = 10.0
MINIMISE_ITERATIONS = 300


def minimised(context: openmm.Context) -> tuple[float, NDArray[np.float64]]:
    """Return energy / (kJ/mol) and positions [N, 3] / nm of the minimum that a Context is near."""
    openmm.LocalEnergyMinimizer.minimize(context, MINIMISE_TOLERANCE, MINIMISE_ITERATIONS)
    energy = context.getState(energy=True).getPotentialEnergy()
    return energy.value_in_unit(KILOJOULE_PER_MOLE), get_positions(context)


@dataclass(frozen=True)
class WalkTask:
    """All that a worker needs for a walker.

    Attributes
    ----------
    system, minimised : str
        That it walks in, and that its frames are minimised in, as XML (see `serialize_system`).
    positions : array [N, 3], nm
        The start, of the particles of `minimised`.
    dynamics : Langevin
    interval : float
        ps between the frames that are minimised.
    frames : int
        With that of the start.
    seed : int
    key : str
        Different for different walkers, of all explorations.
    fragment : Fragment, optional
        If it walks among its known atoms alone, these are what `system` has. A whole molecule is
        put back where it was, as well as it lies on its start.
    """

    system: str
    minimised: str
    positions: NDArray[np.float64]
    dynamics: Langevin
    interval: float
    frames: int
    seed: int
    key: str
    fragment: Fragment | None = None

    @property
    def start(self) -> NDArray[np.float64]:
        """Where it begins, of the particles of `system`."""
        return (
            self.positions if self.fragment is None else self.positions[list(self.fragment.known)]
        )

    def put_back(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return positions [N, 3] of the particles of `minimised` with those that have walked."""
        if self.fragment is None:
            return positions
        if self.fragment.own_moved is None:
            positions = superpose(positions[None], self.start[None])[0]
        everything = self.positions.copy()
        everything[list(self.fragment.known)] = positions
        return everything


@dataclass
class Walk:
    """What a walker has found: the minimum of each frame.

    Attributes
    ----------
    energies : list of float, kJ/mol
    positions : list of array [N, 3], nm
    standing : Standing
        Of the walker after these frames.
    """

    energies: list[float]
    positions: list[NDArray[np.float64]]
    standing: Standing


@dataclass
class _Live:
    """A walker in this process, which has made so many frames, and who minimises them."""

    hot: openmm.Context
    cold: openmm.Context
    frames: int


_kept: Kept[_Live] = Kept(32)


def walk_on(task: WalkTask, standing: Standing, seconds: float) -> Walk:
    """Run a walker on for about so long, by a frame at least."""
    began = time.monotonic()
    live = _kept.take(task.key)
    if live is None or live.frames != standing.frames:
        live = _make(task, standing)
    elif standing.checkpoint:
        # All Contexts of a process draw from one generator on the Reference platform, so that this
        # one's random numbers are no longer where it has left them.
        live.hot.loadCheckpoint(standing.checkpoint)
    found = Walk([], [], standing)
    steps = task.dynamics.steps(task.interval)
    while live.frames < task.frames:
        if live.frames > 0:
            live.hot.getIntegrator().step(steps)
        live.frames += 1
        live.cold.setPositions(task.put_back(get_positions(live.hot)))
        energy, positions = minimised(live.cold)
        found.energies.append(energy)
        found.positions.append(positions)
        if time.monotonic() - began >= seconds:
            break
    found.standing = Standing(live.frames, live.hot.createCheckpoint())
    if live.frames < task.frames:
        _kept.put(task.key, live)
    return found


def _make(task: WalkTask, standing: Standing) -> _Live:
    # The user's own, sent by the command that was given it.
    system = deserialize_system(task.system, trusted=True)
    still = deserialize_system(task.minimised, trusted=True)
    hot = task.dynamics.context(system, default_platform(len(task.start)), task.seed)
    platform = make_platform(default_platform(len(task.positions)))
    cold = openmm.Context(still, openmm.VerletIntegrator(0.001), *platform)
    if standing.checkpoint:
        hot.loadCheckpoint(standing.checkpoint)
    else:
        task.dynamics.start(hot, task.start, task.seed, minimise=True)
    return _Live(hot, cold, standing.frames)


class _WalkJob(Job):
    def __init__(self, task: WalkTask, number: int, until: float) -> None:
        self.name = f"walker {number}"
        self.walk = Walk([], [], Standing())
        self._task, self._until = task, until

    @property
    def part(self) -> float:
        """The part that is done, in [0, 1]."""
        return 1.0 if self.is_done() else self.walk.standing.frames / self._task.frames

    def is_done(self) -> bool:
        frames = self.walk.standing.frames
        return frames >= self._task.frames or (frames > 0 and time.monotonic() > self._until)

    def submit(self, workers: Workers) -> Piece[Walk]:
        seconds = min(workers.piece_seconds, self._until - time.monotonic())
        standing = self.walk.standing
        return workers.submit(
            walk_on, self._task, standing, seconds, name=self.name, near=self.place
        )

    def take(self, result: Walk) -> None:
        self.walk.energies += result.energies
        self.walk.positions += result.positions
        self.walk.standing = result.standing

    def rank(self) -> float:
        # One after the other: a walker that another worker takes over is made anew there.
        return -self.walk.standing.frames


def run_walks(
    tasks: Sequence[WalkTask],
    workers: int | Workers,
    max_seconds: float = math.inf,
    report: Callable[[float], None] = lambda _: None,
) -> list[Walk]:
    """Run walkers to their ends, or for so long.

    Parameters
    ----------
    workers : int or Workers
        Who runs them, or so many processes of this machine.
    report : callable
        Told the part that is done, in [0, 1].
    """
    until = time.monotonic() + max_seconds
    jobs = [_WalkJob(task, number, until) for number, task in enumerate(tasks)]
    with using(workers) as where:
        run_jobs(where, jobs, lambda: report(sum(job.part for job in jobs) / len(jobs)))
    return [job.walk for job in jobs]
