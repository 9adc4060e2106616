"""The energy of a molecule in torch: the first of the two tests that a proposal can be put to."""

from __future__ import annotations

from .surrogate import surrogate_energy

__all__ = ["surrogate_energy"]
