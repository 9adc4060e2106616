"""Hyperparameters of the chained flow."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import model_validator

from ..internal.config import Atoms, InternalFlowConfig, ShapeFlowConfig


class ChainedFlowConfig(ShapeFlowConfig):
    """Hyperparameters of `ChainedFlow`; those of networks hold for the flow of each part.

    Attributes
    ----------
    later_parts : tuple of tuple of int
        Atoms of the parts that are made after the first, in their order. What they leave of the
        moved atoms comes first; without any, all comes at once.
    """

    coordinates: Literal["chained"] = "chained"
    later_parts: tuple[Atoms, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> ChainedFlowConfig:
        named = [atom for part in self.later_parts for atom in part]
        if twice := sorted({atom for atom in named if named.count(atom) > 1}):
            raise ValueError(f"more than one later part names the atoms {twice}")
        if self.moved is not None:
            if others := sorted(set(named) - set(self.moved)):
                raise ValueError(f"later parts name the atoms {others}, which moved does not")
            if set(named) == set(self.moved):
                raise ValueError("later parts name all moved atoms, so that none comes first")
        return self

    def of_part(self, moved: tuple[int, ...] | None) -> InternalFlowConfig:
        """Return the hyperparameters of one part's flow, which moves these atoms; None: all that
        are not made later."""
        shared = {name: getattr(self, name) for name in ShapeFlowConfig.model_fields}
        return InternalFlowConfig(**{**shared, "coordinates": "internal", "moved": moved})

    def check_lag_times(self, lag_times: tuple[float, ...]) -> None:
        """Check that the lag times of training, in ps, are those of independent draws."""
        if set(lag_times) != {math.inf}:
            raise ValueError(
                f"a chained flow draws independently: lag_times must be [inf], got "
                f"{list(lag_times)}"
            )
