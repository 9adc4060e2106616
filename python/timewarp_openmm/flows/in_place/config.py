"""Hyperparameters of the flow of a fragment in place."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import model_validator

from ...molecule.in_place import Fragment
from ..internal.config import Atoms, InternalFlowConfig, ShapeFlowConfig


class InPlaceFlowConfig(ShapeFlowConfig):
    """Hyperparameters of `InPlaceFlow`; those of networks hold for the flow of the fragment.

    Attributes
    ----------
    known : tuple of int, optional
        The atoms that the flow knows, among which are those that it moves; all by default.
    moved : tuple of int, optional
        The atoms that proposals move; by default all known ones.
    """

    coordinates: Literal["in place"] = "in place"
    known: Atoms | None = None

    @model_validator(mode="after")
    def _check(self) -> InPlaceFlowConfig:
        if self.known is not None and (others := set(self.moved or ()) - set(self.known)):
            raise ValueError(f"moved names the atoms {sorted(others)}, which known does not")
        return self

    @property
    def part(self) -> tuple[int, ...] | None:
        return self.moved or self.known

    @property
    def fragment(self) -> Fragment | None:
        if self.known is None:
            return None
        return Fragment(self.known, self.moved or self.known)

    def of_fragment(self, fragment: Fragment) -> InternalFlowConfig:
        """Return the hyperparameters of the flow of the known atoms alone."""
        shared = {name: getattr(self, name) for name in ShapeFlowConfig.model_fields}
        own = {"coordinates": "internal", "moved": fragment.own_moved}
        return InternalFlowConfig(**{**shared, **own})

    def check_lag_times(self, lag_times: tuple[float, ...]) -> None:
        """Check that the lag times of training, in ps, are those of independent draws."""
        if set(lag_times) != {math.inf}:
            raise ValueError(
                f"a flow in place draws independently: lag_times must be [inf], got "
                f"{list(lag_times)}"
            )
