"""Which networks a model file holds in double precision, and why."""

from __future__ import annotations

import math

import pytest
import torch
from internal_flows import draw, trained_like

from timewarp_openmm.flows.internal.flow import InternalFlow

MOLECULE = "CCCCCCC"
#: Of the last layers' weights: splines as steep as long trainings make them.
STEEP = 0.4


def of_layers(layers: int) -> tuple[InternalFlow, torch.Tensor]:
    flow, x = trained_like(
        MOLECULE, STEEP, rotatable_layers=layers, rotatable_hidden=64, stiff_transform="affine"
    )
    return flow, x[0].double() - x[0].double().mean(0)


def difference(flow: InternalFlow, x: torch.Tensor) -> float:
    """Return the largest change of log q of a proposal when others are made beside it."""
    noise = draw(flow, 256).double()
    lag = torch.full((256,), math.inf, dtype=torch.float64)
    _, _, together = flow.sample(x, noise, lag)
    found = 0.0
    for first in range(0, 256, 3):
        part = slice(first, first + 3)
        _, _, alone = flow.sample(x, noise[part], lag[part])
        inside = torch.isfinite(alone)
        found = max(found, float((alone - together[part])[inside].abs().max()))
    return found


def test_many_steep_splines_work_in_double_precision() -> None:
    flow, x = of_layers(8)
    single = difference(flow, x)
    flow.raise_precision()
    assert difference(flow, x) < 0.01 * single
    assert {p.dtype for p in flow.rotatable_couplings.parameters()} == {torch.float64}
    assert {p.dtype for p in flow.stiff_couplings.parameters()} == {torch.float32}


def test_what_is_raised_is_the_same_function() -> None:
    flow, x = of_layers(8)
    noise, lag = draw(flow, 64).double(), torch.full((64,), math.inf, dtype=torch.float64)
    before = flow.sample(x, noise, lag)
    flow.raise_precision()
    for old, new in zip(before, flow.sample(x, noise, lag), strict=True):
        inside = torch.isfinite(old)
        assert torch.equal(inside, torch.isfinite(new))
        assert (old - new)[inside].abs().max() < 0.01


@pytest.mark.parametrize("layers", [2, 4])
def test_few_layers_stay_as_they_are(layers: int) -> None:
    flow, _ = of_layers(layers)
    flow.raise_precision()
    assert {p.dtype for p in flow.parameters()} == {torch.float32}
