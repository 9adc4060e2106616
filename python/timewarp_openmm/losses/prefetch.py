"""Work for the next training step, done by other processes while this one goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

Result = TypeVar("Result", covariant=True)


class Pending(Protocol[Result]):
    """Work that has been begun."""

    def result(self) -> Result:
        """Wait for it."""


class Prefetch:
    """Keeps what each loss has begun for the next step."""

    def __init__(self) -> None:
        self._next: dict[str, Pending[Any]] = {}

    def take(self, name: str, begin: Callable[[], Pending[Result]]) -> Result:
        """Return what was begun one step ago under this name, and begin that of the next step."""
        ready = (self._next.pop(name, None) or begin()).result()
        self._next[name] = begin()
        return cast(Result, ready)

    def finish(self) -> None:
        """Drop what was begun: a run that goes on from a checkpoint has not begun it either."""
        for pending in self._next.values():
            pending.result()
        self._next.clear()
