"""Work for the next training step, done while this one goes on: by other processes, and by a thread
while gradients are computed."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, cast

Result = TypeVar("Result", covariant=True)
#: Steps ago that a result is of, so that there is a whole step for other processes to make it.
_STEPS = 2


class Pending(Protocol[Result]):
    """Work that has been begun."""

    def result(self) -> Result:
        """Wait for it."""


class Prefetch:
    """Keeps what each loss has begun for the next step.

    A step asks for it with `take`. The trainer then calls `begin` before it computes gradients and
    `settle` before it changes weights: between the two a thread of its own makes a flow's draws.
    Gradients are computed without Python, so that the thread need not wait for its lock.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="draws")
        self._planned: dict[str, Callable[[], Pending[Any]]] = {}
        self._begun: dict[str, deque[Future[Pending[Any]]]] = defaultdict(deque)

    def take(self, name: str, plan: Callable[[], Callable[[], Pending[Result]]]) -> Result:
        """Return what was begun two steps ago under this name, and plan what comes after it.

        Parameters
        ----------
        plan : callable
            Draws what random numbers are needed, at once, and returns what begins the work.
        """
        begun = self._begun[name]
        ready = plan()() if len(begun) < _STEPS else begun.popleft().result()
        result = ready.result()
        self._planned[name] = plan()
        return cast(Result, result)

    def begin(self) -> None:
        """Begin what is planned; the flow's weights must not change until it is settled."""
        for name, begin in self._planned.items():
            self._begun[name].append(self._thread.submit(begin))
        self._planned.clear()

    def settle(self) -> None:
        """Wait until nothing that was begun looks at the flow any more."""
        for begun in self._all():
            begun.result()

    def finish(self) -> None:
        """Drop what was begun: a run that goes on from a checkpoint has not begun it either."""
        for begun in self._all():
            begun.result().result()
        self._begun.clear()
        self._planned.clear()

    def _all(self) -> list[Future[Pending[Any]]]:
        return [future for begun in self._begun.values() for future in begun]
