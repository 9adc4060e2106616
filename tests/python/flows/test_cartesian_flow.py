"""What is peculiar to the Cartesian flow."""

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

LAG = torch.full((6,), 2.0)


def noise_for(size: int, batch: int = 6) -> torch.Tensor:
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(3))


def test_noise_of_positions_and_velocities_both_matter() -> None:
    flow = small_flow(small_config())
    x, noise = conformation(3), noise_for(flow.noise_size, 1)
    for column in (0, 17):
        other = noise.clone()
        other[:, column] += 1.0
        first, second = flow.sample(x, noise, LAG[:1]), flow.sample(x, other, LAG[:1])
        assert not torch.allclose(first[0], second[0])
        assert not torch.allclose(first[1], second[1])


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
