"""One thread for libraries that would take all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


class OneThread:
    """Calls functions with OpenMP on one thread, and leaves its setting as it was.

    Molecules are small, and OpenMP's threads that wait for each other on a busy machine were
    measured to be 40 times slower.
    """

    def __init__(self) -> None:
        self._pools: Any = None

    def call(self, function: Callable[[], _T]) -> _T:
        """Return what a function returns. Its library must be loaded by the first call."""
        if self._pools is None:
            from threadpoolctl import ThreadpoolController

            self._pools = ThreadpoolController()
        with self._pools.limit(limits=1, user_api="openmp"):
            return function()
