"""Where a stored piece of work stands: a value, so that nobody has to read it from an exception."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Missing:
    """Nothing is stored."""


@dataclass(frozen=True)
class Partial:
    """Begun with the same inputs and settings; the same call goes on with it.

    Attributes
    ----------
    seconds : float
        Wall time that it has taken so far.
    """

    seconds: float = 0.0


@dataclass(frozen=True)
class Done:
    """Finished with the same inputs and settings."""


@dataclass(frozen=True)
class Conflict:
    """Something made from other inputs or with other settings.

    Attributes
    ----------
    differences : tuple of str
        In words.
    """

    differences: tuple[str, ...]


Standing = Missing | Partial | Done | Conflict


def compare(there: dict[str, object], now: dict[str, object]) -> tuple[str, ...]:
    """Return in words which entries of an identity differ.

    Examples
    --------
    >>> compare({"seed": 1, "system": "ab12"}, {"seed": 2, "system": "ab12"})
    ('seed: 1 there, 2 now',)
    """
    return tuple(
        f"{name}: {there.get(name)!r} there, {value!r} now"
        for name, value in now.items()
        if there.get(name) != value
    )


def refuse(folder: Path, what: str, differences: Sequence[str]) -> FileExistsError:
    """Return the error for a folder that holds something else."""
    return FileExistsError(
        f"{folder} holds {what} (different: {'; '.join(differences)}); name another folder or "
        "pass --force to replace it"
    )
