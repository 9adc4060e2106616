"""Longer works, run piece by piece: each goes on from where its last piece has ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from typing import Any

from .base import Piece, Workers

#: s between looks at how far jobs are.
_LOOK_SECONDS = 1.0


class Job(ABC):
    """A work that is done piece by piece.

    Attributes
    ----------
    name : str
        What to call it in messages.
    place : str
        Where its last piece was run.
    """

    name: str
    place: str = ""

    @abstractmethod
    def is_done(self) -> bool: ...

    @abstractmethod
    def submit(self, workers: Workers) -> Piece[Any]:
        """Have the next piece run, best at its place."""

    @abstractmethod
    def take(self, result: Any) -> None:
        """Take what the piece has brought."""

    @abstractmethod
    def rank(self) -> float:
        """Return by what jobs are chosen if there are too few workers; the lowest comes first."""


def run_jobs(
    workers: Workers, jobs: Sequence[Job], look: Callable[[], None] = lambda: None
) -> None:
    """Run jobs to their ends, as many at once as there are workers.

    Parameters
    ----------
    look : callable
        Called every second or so, and after each piece.

    Raises
    ------
    LostPieceError
        If several workers end one after the other under the same piece.
    """
    waiting = [job for job in jobs if not job.is_done()]
    running: dict[Piece[Any], Job] = {}
    while waiting or running:
        while waiting and len(running) < workers.count():
            job = min(waiting, key=lambda job: job.rank())
            waiting.remove(job)
            running[job.submit(workers)] = job
        done = wait(running, _LOOK_SECONDS, FIRST_COMPLETED).done
        for piece in [piece for piece in running if piece in done]:
            job = running.pop(piece)
            job.take(piece.result())
            job.place = piece.where
            if not job.is_done():
                waiting.append(job)
        look()
