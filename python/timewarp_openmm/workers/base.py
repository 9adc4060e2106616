"""What all that has work done asks of those who do it.

A piece of work is a function of what it is sent, and needs no file. So it does not matter who runs
it, how many there are, or whether one is killed: its piece is run again by another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


class LostPieceError(RuntimeError):
    """Every worker that was given a piece has ended."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"several workers ended one after the other while they ran {name}; see their logs: is "
            "there enough memory?"
        )
        self.name = name

    def __reduce__(self) -> tuple[type[LostPieceError], tuple[str]]:
        return type(self), (self.name,)


class Piece(Future[T]):
    """A piece of work that was given to workers.

    Attributes
    ----------
    where : str
        Who has run it, once it is done: to be named for a piece that goes on with it.
    """

    where: str = ""


class Workers(ABC):
    """Those who run pieces.

    Attributes
    ----------
    piece_seconds : float
        What a piece of a longer work should take, about: so much is lost with a worker, and so
        long it takes until work that was given up has ended.
    elsewhere : bool
        Whether they are on machines of their own, so that a long work is best done by one alone.
    """

    piece_seconds: float = 3.0
    elsewhere: bool = False

    @abstractmethod
    def count(self) -> int:
        """Return how many pieces can be run at once, which may change; at least one."""

    def is_empty(self) -> bool:
        """Tell whether there is nobody yet, so that pieces wait."""
        return False

    @abstractmethod
    def submit(
        self, function: Callable[..., T], *arguments: Any, name: str, near: str = ""
    ) -> Piece[T]:
        """Have a function called, whose result or error the piece will have.

        Parameters
        ----------
        function : callable
            Of a module, so that it is found elsewhere.
        name : str
            What to call the piece in messages.
        near : str
            Where it is best run (`Piece.where`), as something was kept there.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up what is not finished."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Kept(Generic[T]):
    """Things that a worker keeps from one piece to the next, of which the oldest go.

    What is in use is not in it, so that no two threads of a worker use the same.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: OrderedDict[Hashable, T] = OrderedDict()

    def take(self, key: Hashable) -> T | None:
        return self._things.pop(key, None)

    def put(self, key: Hashable, thing: T) -> None:
        self._things[key] = thing
        while len(self._things) > self._most:
            self._things.popitem(last=False)
