"""What a loss has to be, so that it can be configured and trained with. It enters by its line in
`registry`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, model_validator

from .step import Step


class Loss(BaseModel):
    """A term of the training loss. Its fields are its section of the configuration.

    A section that is a number is the weight, with all else by default.

    Attributes
    ----------
    weight : float
        What `value` is multiplied by; 0 leaves it out.
    needs_energy : bool
        Whether `value` asks for energies.
    needs_independent_draws : bool
        Whether it is about independent draws, which the lag times must then include.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs_energy: ClassVar[bool] = False
    needs_independent_draws: ClassVar[bool] = False

    weight: NonNegativeFloat = 1.0

    @model_validator(mode="before")
    @classmethod
    def _from_weight(cls, section: Any) -> Any:
        number = isinstance(section, int | float) and not isinstance(section, bool)
        return {"weight": section} if number else section

    def value(self, step: Step) -> torch.Tensor:
        """Return the loss of a step, a scalar to be differentiated."""
        raise NotImplementedError
