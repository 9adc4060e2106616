"""Which networks a model file holds in double precision, and why."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from internal_flows import draw, trained_like
from molecules import make

from timewarp_openmm.contract import ModelMetadata
from timewarp_openmm.flows import export_model
from timewarp_openmm.flows.internal.flow import InternalFlow

MOLECULE = "CCCCCCC"
#: Of the last layers' weights: splines as steep as long trainings make them.
STEEP = 0.4


def of_layers(layers: int, weights: float = STEEP) -> tuple[InternalFlow, torch.Tensor]:
    """Return a flow and a conformation [N, 3] / nm around the origin."""
    flow, x = trained_like(
        MOLECULE, weights, rotatable_layers=layers, rotatable_hidden=64, stiff_transform="affine"
    )
    return flow, x[0].double() - x[0].double().mean(0)


def difference(flow: torch.nn.Module, noise_size: int, x: torch.Tensor) -> float:
    """Return the largest change of log q of a proposal when others are made beside it."""
    noise = torch.randn(256, noise_size, generator=torch.Generator().manual_seed(1)).double()
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
    single = difference(flow, flow.noise_size, x)
    flow.raise_precision()
    assert difference(flow, flow.noise_size, x) < 0.01 * single
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


def test_a_model_file_holds_what_is_raised(tmp_path: Path) -> None:
    # Less steep: the check of the Jacobian takes differences.
    flow, x = of_layers(8, 0.05)
    molecule, _ = make(MOLECULE)
    metadata = ModelMetadata(
        molecule=molecule,
        noise_size=flow.noise_size,
        precision=flow.precision,
        temperature=310.0,
        coordinates="internal",
        lag_times=[math.inf],
        lag_weights=[1.0],
        reference_positions=x.tolist(),
    )
    single = difference(flow, flow.noise_size, x)
    model = torch.jit.load(str(export_model(flow, metadata, tmp_path / "model.pt")))
    assert difference(model, flow.noise_size, x) < 0.05 * single
    assert {p.dtype for p in flow.parameters()} == {torch.float32}, "the flow stays as it is"


@pytest.mark.parametrize("layers", [2, 4])
def test_few_layers_stay_as_they_are(layers: int) -> None:
    flow, _ = of_layers(layers)
    flow.raise_precision()
    assert {p.dtype for p in flow.parameters()} == {torch.float32}
