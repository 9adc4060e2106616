"""Workers of a dask scheduler, on any machines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import dask
from distributed import Client, KilledWorker, get_worker
from distributed import Future as ClusterFuture
from distributed.client import ClosedClientError

from .. import __version__
from .base import LostPieceError, Piece, Workers

T = TypeVar("T")

#: s that a scheduler may take to answer.
_PATIENCE = 30
#: s for which the number of workers is taken to be what it was.
_COUNTED = 2.0
#: Held by the piece that a worker runs.
_alone = threading.Lock()


@contextmanager
def open_cluster(scheduler: str) -> Iterator[ClusterWorkers]:
    """Connect to a scheduler.

    Parameters
    ----------
    scheduler : str
        Its address, such as ``tcp://node1:8786``, or the file that ``dask scheduler
        --scheduler-file`` has written. Its workers are used as they are, also those that come or go
        meanwhile.

    Raises
    ------
    ConnectionError
        If no scheduler answers at the address.
    """
    # A model or a System is no mistake.
    settings = {"distributed.admin.large-graph-warning-threshold": "1GB"}
    with (
        dask.config.set(settings),
        _connect(scheduler) as client,
        ClusterWorkers(client, scheduler) as workers,
    ):
        yield workers


def _connect(scheduler: str) -> Client:
    try:
        if Path(scheduler).is_file():
            return Client(scheduler_file=scheduler, timeout=_PATIENCE)
        return Client(scheduler, timeout=_PATIENCE)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"no dask scheduler answers at {scheduler} ({error}); start one with: dask scheduler, "
            "and workers with: dask worker ADDRESS --nthreads 1"
        ) from error


class ClusterWorkers(Workers):
    """The workers of a scheduler, as many as there are."""

    # System, model and positions go with each piece, through the network.
    piece_seconds = 10.0
    elsewhere = True

    def __init__(self, client: Client, scheduler: str) -> None:
        self._client, self._scheduler = client, scheduler
        # dask forgets what nobody holds.
        self._running: set[ClusterFuture] = set()
        self._count, self._counted = 0, -_COUNTED

    def count(self) -> int:
        return max(1, self._workers())

    def is_empty(self) -> bool:
        return self._workers() == 0

    def _workers(self) -> int:
        if time.monotonic() - self._counted >= _COUNTED:
            self._count = len(self._client.nthreads())
            self._counted = time.monotonic()
        return self._count

    def submit(
        self, function: Callable[..., T], *arguments: Any, name: str, near: str = ""
    ) -> Piece[T]:
        piece: Piece[T] = Piece()
        piece.set_running_or_notify_cancel()
        try:
            future = self._client.submit(
                _run,
                __version__,
                function,
                arguments,
                key=f"{name}-{uuid4().hex}",
                workers=[near] if near else None,
                # Another one if that is lost, or has more to do than others.
                allow_other_workers=bool(near),
                pure=False,
            )
        except ClosedClientError as error:
            raise self._gone() from error
        self._running.add(future)
        future.add_done_callback(lambda done: self._finish(piece, name, done))
        return piece

    def close(self) -> None:
        # A client has closed itself where the scheduler is gone.
        if self._client.status == "running":
            self._client.cancel(list(self._running))

    def _finish(self, piece: Piece[Any], name: str, done: ClusterFuture) -> None:
        self._running.discard(done)
        try:
            where, result = done.result()
        except KilledWorker:
            piece.set_exception(LostPieceError(name))
        except CancelledError:
            piece.set_exception(self._gone())
        except BaseException as error:
            piece.set_exception(error)
        else:
            piece.where = where
            piece.set_result(result)

    def _gone(self) -> ConnectionError:
        return ConnectionError(
            f"the dask scheduler at {self._scheduler} is gone; start it again, and go on with the "
            "same command"
        )


def _run(version: str, function: Callable[..., T], arguments: tuple[Any, ...]) -> tuple[str, T]:
    """Run a piece, and say where: one at a time, however many threads the worker has.

    OpenMM's Reference platform has one random number generator for all Contexts of a process.
    """
    if version != __version__:
        raise RuntimeError(
            f"this worker has timewarp-openmm {__version__}, and the work comes from {version}; "
            "install the same release for workers and for the command"
        )
    with _alone:
        return str(get_worker().address), function(*arguments)
