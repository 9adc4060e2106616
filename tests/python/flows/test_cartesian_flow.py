"""The Cartesian flow: density, inverse, symmetries, scripting."""

import math

import pytest
import torch
from flow_helpers import (
    PUBLISHED,
    chain_molecule,
    conformation,
    perturb,
    small_config,
    small_flow,
)
from pydantic import ValidationError

from timewarp_openmm.flows import CartesianFlowConfig, build_flow

CONFIGS = {
    "default": small_config(),
    "element types": small_config(embedding="element"),
    "published": small_config(**PUBLISHED),
}
LAG = torch.full((6,), 2.0)

each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def noise_for(size: int, batch: int = 6) -> torch.Tensor:
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(3))


@each_config
def test_density_is_that_of_the_jacobian(config: CartesianFlowConfig) -> None:
    flow = small_flow(config).double()
    x = conformation(3).double()
    noise = noise_for(flow.noise_size, 1)[0].double()

    def outputs(z: torch.Tensor) -> torch.Tensor:
        y, w, _ = flow.sample(x, z[None], LAG[:1])
        return torch.cat((y.flatten(), w.flatten()))

    jacobian = torch.autograd.functional.jacobian(outputs, noise)
    log_normal = -0.5 * (noise.square().sum() + noise.numel() * math.log(2 * math.pi))
    expected = log_normal - torch.linalg.slogdet(jacobian).logabsdet
    y, w, log_q = flow.sample(x, noise[None], LAG[:1])
    torch.testing.assert_close(log_q[0], expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(
        flow.log_prob(y, w, x[None], LAG[:1])[0], expected, atol=1e-9, rtol=0
    )


@each_config
def test_sample_and_inverse_agree(config: CartesianFlowConfig) -> None:
    flow = small_flow(config, "COHNCHH")
    x, noise = conformation(7), noise_for(flow.noise_size)
    with torch.inference_mode():
        y, w, log_q = flow.sample(x, noise, LAG)
        back = flow.invert(y, w, x[None], LAG)
        again, _, _ = flow.sample(x, back, LAG)
        log_prob = flow.log_prob(y, w, x[None], LAG)
    torch.testing.assert_close(back, noise, atol=1e-3, rtol=0)
    torch.testing.assert_close(again, y, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_prob, log_q, atol=1e-4, rtol=0)
    assert log_q.dtype == log_prob.dtype == torch.float64
    assert y.dtype == w.dtype == torch.float32


def test_noise_of_positions_and_velocities_both_matter() -> None:
    flow = small_flow(small_config())
    x, noise = conformation(3), noise_for(flow.noise_size, 1)
    for column in (0, 17):
        other = noise.clone()
        other[:, column] += 1.0
        first, second = flow.sample(x, noise, LAG[:1]), flow.sample(x, other, LAG[:1])
        assert not torch.allclose(first[0], second[0])
        assert not torch.allclose(first[1], second[1])


@each_config
def test_one_state_for_the_batch_gives_what_a_state_each_gives(config: CartesianFlowConfig) -> None:
    flow = small_flow(config)
    x, noise = conformation(3), noise_for(flow.noise_size)
    copies = x.expand(6, -1, -1)
    y, w, log_q = flow.sample(x, noise, LAG)
    y_each, w_each, log_q_each = flow.sample(copies, noise, LAG)
    torch.testing.assert_close(y_each, y)
    torch.testing.assert_close(w_each, w, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(log_q_each, log_q, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        flow.log_prob(y, w, copies, LAG), flow.log_prob(y, w, x[None], LAG), atol=1e-4, rtol=0
    )


@each_config
def test_moves_with_the_state(config: CartesianFlowConfig) -> None:
    flow = small_flow(config).double()
    x, noise = conformation(3).double(), noise_for(flow.noise_size).double()
    shift = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    y, w, log_q = flow.sample(x, noise, LAG)
    moved = flow.sample(x + shift, noise, LAG)
    torch.testing.assert_close(moved[0], y + shift)
    torch.testing.assert_close(moved[1], w)
    torch.testing.assert_close(moved[2], log_q)


def test_atoms_of_one_element_are_exchangeable_only_with_element_types() -> None:
    order = [0, 2, 1, 3]
    x = conformation(4).double()
    for embedding, exchangeable in (("element", True), ("atom", False)):
        flow = small_flow(small_config(embedding=embedding), "CHHO").double()
        noise = noise_for(flow.noise_size).double()
        swapped = noise.view(6, 2, 4, 3)[:, :, order].reshape(6, -1)
        y, _, log_q = flow.sample(x, noise, LAG)
        y_swapped, _, log_q_swapped = flow.sample(x[order], swapped, LAG)
        assert torch.allclose(y_swapped, y[:, order]) == exchangeable
        assert torch.allclose(log_q_swapped, log_q) == exchangeable


def test_untrained_flow_makes_small_displacements() -> None:
    torch.manual_seed(0)
    flow = build_flow(small_config(displacement_scale=0.03), chain_molecule("COH"))
    x, noise = conformation(3), noise_for(flow.noise_size)
    y, w, _ = flow.sample(x, noise, LAG)
    torch.testing.assert_close(y - x, 0.03 * noise[:, :9].view(6, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(w, noise[:, 9:].view(6, 3, 3))


def test_log_scale_stays_within_its_bound() -> None:
    flow = small_flow(small_config(log_scale_bound=0.5))
    perturb(flow, 30.0)
    x, noise = conformation(3), noise_for(flow.noise_size)
    noise_log_density = -0.5 * (noise.double().square().sum(1) + 18 * math.log(2 * math.pi))
    with torch.no_grad():
        log_det = noise_log_density - flow.sample(x, noise, LAG)[2]
        scales = 9.0 * flow.log_displacement_scales.double().mean()
    # 4 layers of 9 numbers each.
    assert (log_det - scales).abs().max() <= 4 * 9 * 0.5


def test_conditioning_velocities_count_only_if_asked_for() -> None:
    y, w = noise_for(9).view(6, 3, 3), noise_for(9).view(6, 3, 3)
    v = torch.ones(1, 3, 3)
    x = conformation(3)[None]
    for options, counts in ((PUBLISHED, True), ({}, False)):
        flow = small_flow(small_config(**options))
        without = flow.log_prob(y, w, x, LAG)
        assert torch.allclose(flow.log_prob_given_velocities(y, w, x, v), without) != counts
        assert torch.equal(flow.log_prob_given_velocities(y, w, x, 0 * v), without)


@each_config
def test_scripted_gives_what_python_gives(config: CartesianFlowConfig) -> None:
    flow = small_flow(config)
    scripted = torch.jit.script(flow)
    x, noise = conformation(3), noise_for(flow.noise_size)
    with torch.inference_mode():
        expected = flow.sample(x, noise, LAG)
        y, w, _ = expected
        for result, value in zip(scripted.sample(x, noise, LAG), expected, strict=True):
            torch.testing.assert_close(result, value)
        for method in ("log_prob", "invert"):
            torch.testing.assert_close(
                getattr(scripted, method)(y, w, x[None], LAG),
                getattr(flow, method)(y, w, x[None], LAG),
            )


@each_config
def test_all_weights_learn(config: CartesianFlowConfig) -> None:
    flow = small_flow(config, "COHS")
    x, noise = conformation(4), noise_for(flow.noise_size)
    y, w, _ = flow.sample(x, noise, LAG)
    flow.log_prob(y.detach() + 0.01, w.detach(), x[None], LAG).sum().backward()
    for name, parameter in flow.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_coupling_layers": 3}, "even"),
        ({"length_scales": ()}, "length_scales"),
        ({"length_scales": (0.1, -1.0)}, "length_scales"),
        ({"d_modle": 3}, "d_modle"),
        ({"elements": ("C",)}, "elements"),
    ],
)
def test_bad_configuration_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CartesianFlowConfig.model_validate(options)


def test_unknown_element_is_named() -> None:
    config = small_config(embedding="element", elements=("C", "H"))
    with pytest.raises(ValueError, match=r"MOL1:O1 \(atom 1\) is of element O"):
        build_flow(config, chain_molecule("COH"))
