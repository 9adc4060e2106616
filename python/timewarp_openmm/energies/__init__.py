"""The energy of a molecule in torch: the first of the two tests that a proposal can be put to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .surrogate import surrogate_energy

__all__ = ["surrogate_energy"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: processes that compute OpenMM's energies need no torch, which would take
    # up most of their memory.
    if name == "surrogate_energy":
        from .surrogate import surrogate_energy

        return surrogate_energy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
