"""Flows on another device than the CPU: torch's "meta" device, which has no values, stands for it.

Whatever looks at a value there fails, as it does while a CUDA graph is recorded.
"""

import math
import zipfile

import pytest
import torch
from flow_helpers import small_config, small_flow
from internal_flows import draw, trained_like
from torch import Tensor, nn

from timewarp_openmm.bundled import pretrained

FLOWS = {
    "draws": {"lag_times": [math.inf]},
    "lags": {"lag_times": [1.0, math.inf]},
    "attention": {"lag_times": [1.0, math.inf], "conditioner": "attention"},
    "velocities": {"lag_times": [1.0, math.inf], "velocities": True},
}
LAGS = ([math.inf] * 3, [1.0] * 3, [1.0, math.inf, 1.0])
DEVICE = 'torch.device("'


def flow_of(name: str) -> tuple[nn.Module, Tensor]:
    """Return a flow, and a conformation."""
    if name == "cartesian":
        return small_flow(small_config()), torch.randn(3, 3)
    flow, x = trained_like("ala", **FLOWS[name])
    return flow.eval(), x[0]


def propose(flow: nn.Module, x: Tensor, noise: Tensor, lag: Tensor) -> Tensor:
    """Call both methods that the chain calls, as it does."""
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        y, w, _ = flow.sample(x, noise, lag)
        result: Tensor = flow.log_prob(x.expand_as(y), w, y, lag)
        return result


#: A flow of one lag time has no mixed batches.
CASES = [(name, lags) for name in ("cartesian", "draws") for lags in LAGS[:2]]
CASES += [(name, lags) for name in list(FLOWS)[1:] for lags in LAGS]


@pytest.mark.parametrize(("name", "lags"), CASES)
def test_a_flow_looks_at_no_value_on_a_gpu(name: str, lags: list[float]) -> None:
    """So that a CUDA graph can hold it."""
    flow, x = flow_of(name)
    moved = torch.jit.script(flow).to("meta")
    if name != "cartesian":
        moved.shape.fitted = torch.tensor(True)  # a constant of exported flows
    noise = torch.empty(3, flow.noise_size, device="meta")
    log_q = propose(moved, x.to("meta"), noise, torch.tensor(lags).to("meta"))
    assert log_q.device.type == "meta"
    assert log_q.shape == (3,)


@pytest.mark.parametrize("name", FLOWS)
def test_nothing_changes_if_no_value_is_looked_at(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work that is left out on the CPU has no effect on rows that do not need it."""
    flow, x = flow_of(name)
    results = []
    for always in (False, True):
        if always:
            for module in ("flow", "attention_conditioner", "chirality"):
                place = f"timewarp_openmm.flows.internal.{module}.may_hold"
                monkeypatch.setattr(place, lambda gate: True)
        for lags in LAGS:
            lag = torch.tensor(lags)
            y, w, log_q = flow.sample(x, draw(flow, 3), lag)
            results.append((y, w, log_q, flow.log_prob(y, w, x.unsqueeze(0), lag)))
    half = len(results) // 2
    for looked, always in zip(results[:half], results[half:], strict=True):
        for a, b in zip(looked, always, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["cartesian", *FLOWS])
def test_a_frozen_flow_names_no_device(name: str) -> None:
    """What export writes runs where its weights are loaded to."""
    flow, _ = flow_of(name)
    frozen = torch.jit.freeze(torch.jit.script(flow), ["sample", "log_prob", "invert"])
    for method in (frozen.sample, frozen.log_prob, frozen.invert):
        assert DEVICE not in method.code


@pytest.mark.parametrize(
    "name", ["alanine-dipeptide", "alanine-dipeptide-lags", "alanine-dipeptide-cartesian"]
)
def test_bundled_models_run_on_a_gpu(name: str) -> None:
    """They name no device, and look at values only where those are on the CPU."""
    with zipfile.ZipFile(pretrained(name)) as archive:
        code = "".join(
            archive.read(file).decode() for file in archive.namelist() if file.endswith(".py")
        )
    assert DEVICE not in code
    assert code.count("bool(") == code.count(".type(ops.prim.device")
