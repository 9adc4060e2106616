"""What a loss has to be, so that it can be configured and trained with. It enters by its line in
`registry`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, model_validator

from ..bounds import Count, NonNegative
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

    weight: NonNegative = 1.0

    @model_validator(mode="before")
    @classmethod
    def _from_weight(cls, section: Any) -> Any:
        number = isinstance(section, int | float) and not isinstance(section, bool)
        return {"weight": section} if number else section

    def value(self, step: Step) -> torch.Tensor:
        """Return the loss of a step, a scalar to be differentiated."""
        raise NotImplementedError


class LossOfProposals(Loss):
    """A loss of the flow's own proposals, through which it is differentiated.

    Losses with the same numbers of states and proposals share them.

    Attributes
    ----------
    states : int
        Conditioning states per step.
    proposals : int
        From each.
    """

    states: Count = 4
    proposals: Count = 8
