"""Processes of this machine, each with one thread."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

from loky import ProcessPoolExecutor, process_executor

from .base import LostPieceError, Piece, Workers

T = TypeVar("T")

#: A piece is one thread's work: processes that each took all cores would stand in each other's way.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENMM_CPU_THREADS": "1",
}
#: Processes that may end under a piece before it is given up.
TRIES = 3


@dataclass
class _Order:
    """A piece, and what it takes to run it."""

    piece: Piece[Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    name: str
    near: str
    tries: int = 0


class _Slot:
    """A place for one process, which begins with its first piece."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.busy = False
        self._pool: ProcessPoolExecutor | None = None

    def run(self, order: _Order) -> Future[Any]:
        self.busy = True
        try:
            return self._submit(order)
        except BrokenProcessPool:
            # It was killed while it had nothing to do.
            self.end()
            return self._submit(order)

    def _submit(self, order: _Order) -> Future[Any]:
        if self._pool is None:
            # loky's processes do not import the caller's script again, which may have no main
            # guard. One pool for each process, so that one that is killed takes no other with it.
            self._pool = ProcessPoolExecutor(
                1, initializer=_begin_process, initargs=(os.getpid(),), env=ONE_THREAD
            )
        future: Future[Any] = self._pool.submit(order.function, *order.arguments)
        return future

    def end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, kill_workers=True)


class LocalWorkers(Workers):
    """Processes of this machine; they are started when they are needed, and again if killed."""

    def __init__(self, count: int) -> None:
        self._slots = [_Slot(f"process {number}") for number in range(count)]
        self._waiting: list[_Order] = []
        self._lock = threading.RLock()
        self._closed = False

    def count(self) -> int:
        return len(self._slots)

    def submit(
        self, function: Callable[..., T], *arguments: Any, name: str, near: str = ""
    ) -> Piece[T]:
        piece: Piece[T] = Piece()
        piece.set_running_or_notify_cancel()
        with self._lock:
            if self._closed:
                raise _closed()
            self._waiting.append(_Order(piece, function, arguments, name, near))
            self._hand_out()
        return piece

    def close(self) -> None:
        with self._lock:
            self._closed = True
            given_up, self._waiting = self._waiting, []
            for slot in self._slots:
                slot.end()
        for order in given_up:
            order.piece.set_exception(_closed())

    def __del__(self) -> None:
        self.close()

    def _hand_out(self) -> None:
        """Give free processes the pieces that are best run there, and then any."""
        free = [slot for slot in self._slots if not slot.busy]
        for kept in (True, False):
            for slot in free:
                fitting = (o for o in self._waiting if o.near == slot.name or not kept)
                order = None if slot.busy else next(fitting, None)
                if order is not None:
                    self._waiting.remove(order)
                    self._start(slot, order)

    def _start(self, slot: _Slot, order: _Order) -> None:
        try:
            future = slot.run(order)
        except Exception as error:  # no process can be started
            slot.busy = False
            order.piece.set_exception(error)
            return
        future.add_done_callback(lambda done: self._finish(slot, order, done))

    def _finish(self, slot: _Slot, order: _Order, done: Future[Any]) -> None:
        error = _closed() if done.cancelled() else done.exception()
        again = False
        with self._lock:
            slot.busy = False
            if self._closed:
                error = error or _closed()
            elif isinstance(error, BrokenProcessPool):
                slot.end()
                order.tries += 1
                again = order.tries < TRIES
                if again:
                    self._waiting.insert(0, order)
                else:
                    lost = LostPieceError(order.name)
                    lost.__cause__, error = error, lost
            if not self._closed:
                self._hand_out()
        if again:
            return
        order.piece.where = slot.name
        if error is not None:
            order.piece.set_exception(error)
        else:
            order.piece.set_result(done.result())


def _closed() -> RuntimeError:
    return RuntimeError("these workers are closed")


def _begin_process(parent: int) -> None:
    # What is kept from one piece to the next is bounded, and no leak for which loky should end this
    # process; nor are libraries that a later piece is the first to need.
    process_executor._MAX_MEMORY_LEAK_SIZE = math.inf
    _leave_with_parent(parent)


def _leave_with_parent(parent: int) -> None:
    """Have this process end when the one that started it has gone, for instance by kill -9."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
