"""Running chains piece by piece, wherever there are workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..analysis.autocorrelation import SamplingQuality
from ..simulation.checkpoints import Writes
from ..workers.base import Piece, Workers
from ..workers.jobs import Job, run_jobs
from .files import ChainFiles
from .pieces import ChainPiece, ChainTask, run_piece
from .quality import Target, slowest

#: Looks whether chains are enough, where they have frames enough for the least number between two.
_LOOKS, _FRAMES_BETWEEN_LOOKS = 50, (10, 1000)
#: s between writes of a chain, and between reports.
FLUSH_SECONDS = 30.0
_REPORT_SECONDS = 5.0


@dataclass(frozen=True)
class Progress:
    """Where the chains stand.

    Attributes
    ----------
    frames : int
        Of all chains.
    acceptance : float
    slowest : (int, SamplingQuality), optional
        Which torsion has the fewest effective samples, and how many; None where it is not known.
    """

    frames: int
    acceptance: float
    slowest: tuple[int, SamplingQuality] | None


def run_chains(
    workers: Workers,
    tasks: Sequence[ChainTask],
    files: Sequence[ChainFiles],
    frames: int,
    target: Target,
    report: Callable[[Progress], None] = lambda _: None,
    flush_seconds: float = FLUSH_SECONDS,
) -> Progress:
    """Run every chain until it has so many frames, or all together are enough.

    What is in the files does not depend on how many workers there are, or which of them are lost:
    a chain is a function of its task, and chains stop together, after a look at as many frames of
    each.

    Parameters
    ----------
    workers : Workers
    tasks, files : sequences of ChainTask and of ChainFiles
        Of each chain. Files that hold frames already are gone on with.
    frames : int
        Of each chain, at most.
    target : Target
        Ends all chains before that, if it is set.
    report : callable
        Told every few seconds where chains stand.
    flush_seconds : float
        At most so much of each chain's work is lost if this process is killed, or more where
        trajectories are so long that writing them would take much of the time.

    Raises
    ------
    LostPieceError
        If several workers end one after the other under the same piece.
    """
    farm = _Farm(workers, tasks, files, frames, target, report, flush_seconds)
    try:
        farm.run()
    finally:
        for file in files:
            file.flush()
    return farm.progress()


class _ChainJob(Job):
    """A chain that is run until it has `end` frames."""

    def __init__(self, task: ChainTask, file: ChainFiles, writes: Writes) -> None:
        self.name = file.path.stem
        self.end = 0
        self._task, self._file, self._writes = task, file, writes

    def is_done(self) -> bool:
        return self._file.standing.frames >= self.end

    def submit(self, workers: Workers) -> Piece[ChainPiece]:
        standing, seconds = self._file.standing, workers.piece_seconds
        frames = self.end - standing.frames
        return workers.submit(
            run_piece, self._task, standing, frames, seconds, name=self.name, near=self.place
        )

    def take(self, result: ChainPiece) -> None:
        self._file.add(result)
        if self._writes.is_due():
            self._writes.write(self._file.flush)

    def rank(self) -> float:
        # All together, so that it can be told whether they agree.
        return self._file.standing.frames


class _Farm:
    def __init__(
        self,
        workers: Workers,
        tasks: Sequence[ChainTask],
        files: Sequence[ChainFiles],
        frames: int,
        target: Target,
        report: Callable[[Progress], None],
        flush_seconds: float,
    ) -> None:
        self._workers, self._files = workers, files
        self._frames, self._target, self._report = frames, target, report
        least, most = _FRAMES_BETWEEN_LOOKS
        self._between_looks = min(most, max(least, frames // _LOOKS))
        self._jobs = [
            _ChainJob(task, file, Writes(flush_seconds, len(files)))
            for task, file in zip(tasks, files, strict=True)
        ]
        self._reported = time.monotonic()

    def progress(self) -> Progress:
        proposed = sum(file.proposed for file in self._files)
        accepted = sum(file.accepted for file in self._files)
        return Progress(
            sum(file.standing.frames for file in self._files),
            accepted / proposed if proposed else 0.0,
            slowest([file.angles for file in self._files]),
        )

    def run(self) -> None:
        if self._target.is_set():
            while not self._is_enough():
                self._run_to(self._next_end())
        else:
            self._run_to(self._frames)

    def _is_enough(self) -> bool:
        done = min(file.standing.frames for file in self._files)
        # After an interruption some chains are a piece ahead.
        found = slowest([file.angles[:done] for file in self._files])
        return done >= self._frames or self._target.is_met(found[1] if found else None)

    def _next_end(self) -> int:
        done = min(file.standing.frames for file in self._files)
        return min(self._frames, (done // self._between_looks + 1) * self._between_looks)

    def _run_to(self, end: int) -> None:
        """Run every chain until it has `end` frames, in pieces."""
        for job in self._jobs:
            job.end = end
        run_jobs(self._workers, self._jobs, self._report_if_due)

    def _report_if_due(self) -> None:
        if time.monotonic() - self._reported >= _REPORT_SECONDS:
            self._report(self.progress())
            self._reported = time.monotonic()
