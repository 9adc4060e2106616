"""Work done by this process itself, at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .base import Piece, Workers

T = TypeVar("T")


class Here(Workers):
    """One worker: the thread that has the work to be done, which waits for it."""

    def count(self) -> int:
        return 1

    def submit(
        self, function: Callable[..., T], *arguments: Any, name: str, near: str = ""
    ) -> Piece[T]:
        piece: Piece[T] = Piece()
        try:
            piece.set_result(function(*arguments))
        except Exception as error:
            piece.set_exception(error)
        return piece

    def close(self) -> None:
        """Nothing is left unfinished."""
