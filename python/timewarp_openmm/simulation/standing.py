"""Where something that is run piece by piece stands."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4


@dataclass(frozen=True)
class Standing:
    """Where a chain or a trajectory stands after so many frames.

    Attributes
    ----------
    frames : int
    checkpoint : bytes
        OpenMM's; empty before the first step.
    """

    frames: int = 0
    checkpoint: bytes = b""


def new_key() -> str:
    """Return a key that no other work has: workers of a scheduler may serve several commands."""
    return uuid4().hex
