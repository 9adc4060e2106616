"""Running chains piece by piece, wherever there are workers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from distributed import Client, Future, KilledWorker, wait

from ..analysis.autocorrelation import SamplingQuality
from .files import ChainFiles
from .pieces import ChainTask, run_piece
from .quality import Target, slowest

#: s that a piece of a chain may take: what a worker that is killed loses.
_PIECE_SECONDS = 3.0
#: Looks whether chains are enough, where they have frames enough for the least number between two.
_LOOKS, _FRAMES_BETWEEN_LOOKS = 50, (10, 1000)
#: s between writes of a chain, and between reports.
FLUSH_SECONDS = 30.0
_REPORT_SECONDS = 5.0
#: A write reads back all of a trajectory; it may take this share of the time.
_FLUSH_SHARE = 0.04
#: s after which is looked whether there are workers.
_WAIT_SECONDS = 5.0


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
    client: Client,
    tasks: Sequence[ChainTask],
    files: Sequence[ChainFiles],
    frames: int,
    target: Target,
    report: Callable[[Progress], None] = lambda _: None,
    flush_seconds: float = FLUSH_SECONDS,
    patience: float = math.inf,
) -> Progress:
    """Run every chain until it has so many frames, or all together are enough.

    What is in the files does not depend on how many workers there are, or which of them are lost:
    a chain is a function of its task, and chains stop together, after a look at as many frames of
    each.

    Parameters
    ----------
    client : distributed.Client
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
    patience : float
        s that there may be no workers. A cluster's may come and go; those of this machine are
        started again at once.

    Raises
    ------
    RuntimeError
        If a piece ends one worker after the other, or there are none for too long.
    """
    farm = _Farm(client, tasks, files, frames, target, report, flush_seconds, patience)
    try:
        farm.run()
    finally:
        for file in files:
            file.flush()
    return farm.progress()


class _Farm:
    def __init__(
        self,
        client: Client,
        tasks: Sequence[ChainTask],
        files: Sequence[ChainFiles],
        frames: int,
        target: Target,
        report: Callable[[Progress], None],
        flush_seconds: float,
        patience: float,
    ) -> None:
        self._client, self._tasks, self._files = client, tasks, files
        self._frames, self._target, self._report = frames, target, report
        least, most = _FRAMES_BETWEEN_LOOKS
        self._between_looks = min(most, max(least, frames // _LOOKS))
        self._flush_seconds, self._patience = flush_seconds, patience
        self._flush_due = [time.monotonic() + flush_seconds] * len(tasks)
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
        pending = {
            future: number
            for number in range(len(self._tasks))
            if (future := self._submit(number, end)) is not None
        }
        while pending:
            for future in self._finished(pending):
                number = pending.pop(future)
                self._take(number, future)
                following = self._submit(number, end)
                if following is not None:
                    pending[following] = number
                self._flush_if_due(number)
            self._report_if_due()

    def _finished(self, pending: Iterable[Future]) -> set[Future]:
        """Wait until some pieces are done, and return them."""
        alone = 0.0
        while True:
            began = time.monotonic()
            try:
                return set(wait(list(pending), _WAIT_SECONDS, "FIRST_COMPLETED").done)
            except TimeoutError:
                waited = time.monotonic() - began
                alone = 0.0 if self._client.scheduler_info()["workers"] else alone + waited
                if alone > self._patience:
                    raise RuntimeError(
                        f"there have been no workers for {alone:.0f} s; see why they ended (is "
                        "there enough memory?), and go on with the same command"
                    ) from None

    def _take(self, number: int, future: Future) -> None:
        file = self._files[number]
        try:
            file.add(future.result())
        except KilledWorker as error:
            raise RuntimeError(
                f"several workers ended one after the other while they ran {file.path.name}; see "
                "their logs: is there enough memory?"
            ) from error

    def _submit(self, number: int, end: int) -> Future | None:
        task, file = self._tasks[number], self._files[number]
        done = file.standing.frames
        if done >= end:
            return None
        return self._client.submit(
            run_piece,
            task,
            file.standing,
            end - done,
            _PIECE_SECONDS,
            key=f"{task.key}-{done}",
            priority=-done,
            # Where its Context is, unless that worker is lost or has more to do than others.
            workers=[file.worker] if file.worker else None,
            allow_other_workers=bool(file.worker),
            pure=False,
        )

    def _flush_if_due(self, number: int) -> None:
        began = time.monotonic()
        if began >= self._flush_due[number]:
            self._files[number].flush()
            ended = time.monotonic()
            pause = len(self._files) * (ended - began) / _FLUSH_SHARE
            self._flush_due[number] = ended + max(self._flush_seconds, pause)

    def _report_if_due(self) -> None:
        if time.monotonic() - self._reported >= _REPORT_SECONDS:
            self._report(self.progress())
            self._reported = time.monotonic()
