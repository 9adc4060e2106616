"""Every number of a training configuration has bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from timewarp_openmm.flows import FLOWS
from timewarp_openmm.flows.internal.config import AttentionConfig
from timewarp_openmm.losses.registry import LOSSES
from timewarp_openmm.training.config import AugmentationConfig, DataConfig, TrainingConfig

SECTIONS: list[type[BaseModel]] = [
    *(flow.config_class for flow in FLOWS),
    *LOSSES.values(),
    AttentionConfig,
    AugmentationConfig,
    DataConfig,
    TrainingConfig,
]


def kinds_of(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from kinds_of(part)


def numbers() -> Iterator[tuple[type[BaseModel], str, bool]]:
    """Yield each section, its fields that hold numbers, and whether a field holds several."""
    for section in SECTIONS:
        for name, field in section.model_fields.items():
            kinds = list(kinds_of(field.annotation))
            if int in kinds or float in kinds:
                yield (
                    section,
                    name,
                    any(getattr(kind, "__origin__", None) is tuple for kind in kinds),
                )


def label(value: Any) -> str:
    return str(getattr(value, "__name__", value))


@pytest.mark.parametrize(("section", "name", "several"), list(numbers()), ids=label)
def test_no_number_goes_beyond_all_bounds(
    section: type[BaseModel], name: str, several: bool
) -> None:
    # An infinite lag time is an independent draw.
    beyond = [math.nan, -1, -math.inf, *([] if name == "lag_times" else [math.inf])]
    for value in beyond:
        with pytest.raises(ValidationError) as caught:
            section.model_validate({name: (value,) if several else value})
        places = {str(error["loc"][0]) for error in caught.value.errors() if error["loc"]}
        assert name in places, value
