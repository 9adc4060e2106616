"""The losses that a flow can be trained with: a new one is a line in `LOSSES`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, create_model, model_validator

from .acceptance import Acceptance
from .base import Loss
from .entropy import Entropy
from .likelihood import Likelihood
from .regression import Regression

#: By the name of their section. In this order they are summed, and draw random numbers.
LOSSES: dict[str, type[Loss]] = {
    "regression": Regression,
    "likelihood": Likelihood,
    "acceptance": Acceptance,
    "entropy": Entropy,
}


class _Losses(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="after")
    def _check(self) -> _Losses:
        if not self.used():
            names = list(LOSSES)
            raise ValueError(
                f"the weight of {', '.join(names[:-1])} or {names[-1]} must be positive"
            )
        return self

    def used(self) -> list[Loss]:
        """Return the losses of positive weight."""
        sections: list[Loss | None] = [getattr(self, name) for name in LOSSES]
        return [loss for loss in sections if loss is not None and loss.weight > 0]


if TYPE_CHECKING:
    LossConfig = _Losses
else:
    #: The configuration's section `loss`: a section for each loss that is used.
    LossConfig = create_model(
        "LossConfig",
        __base__=_Losses,
        **{name: (loss | None, None) for name, loss in LOSSES.items()},
    )


def losses(**sections: Any) -> LossConfig:
    """Return the configuration of the named losses, each by its section or its weight alone.

    Examples
    --------
    >>> losses(likelihood=1.0, regression={"draws": 32}).used()[1]
    Likelihood(weight=1.0)
    """
    return LossConfig.model_validate(sections)
