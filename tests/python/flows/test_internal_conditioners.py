"""Attention conditioners and auxiliary velocities in the flow in internal coordinates."""

import math

import pytest
import torch
from internal_flows import INF, SMALL, draw, trained_like
from molecules import make
from pydantic import ValidationError
from torch import Tensor

from timewarp_openmm.flows.internal.attention_conditioner import BOND_LENGTH, AttentionContext
from timewarp_openmm.flows.internal.config import AttentionConfig, InternalFlowConfig
from timewarp_openmm.flows.internal.coordinate_places import CoordinatePlaces, coordinate_places
from timewarp_openmm.flows.internal.flow import InternalFlow
from timewarp_openmm.flows.internal.shape import ShapeChart

LAGS = (2.0, INF)
VARIANTS = [
    {"conditioner": "attention"},
    {"velocities": True},
    {"conditioner": "attention", "velocities": True},
]
#: Ten atoms with a chiral centre, and no equivalent atoms but a methyl group's.
SMALLEST = "C[C@H](F)O"


def in_double(name: str, **config: object) -> tuple[InternalFlow, Tensor]:
    small = {"lag_times": LAGS, "stiff_transform": "affine", "weights": 0.05}
    flow, x = trained_like(name, **{**small, **config})  # type: ignore[arg-type]
    return flow.double(), x.double()


def lags(batch: int) -> Tensor:
    return torch.tensor(LAGS, dtype=torch.float64).repeat(batch // len(LAGS))


def test_velocities_and_coordinates_depend_on_each_other() -> None:
    flow, x = in_double(SMALLEST, velocities=True)
    noise = draw(flow, 1).double()
    other = noise.clone()
    other[:, -1] += 1.0
    lag = torch.tensor([2.0], dtype=torch.float64)
    y, w, _ = flow.sample(x[0], noise, lag)
    y_other, w_other, _ = flow.sample(x[0], other, lag)
    assert (y_other - y).abs().max() > 1e-4
    other = noise.clone()
    other[:, 1] += 1.0
    _, w_other, _ = flow.sample(x[0], other, lag)
    assert (w_other - w).abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_infinite_lag_knows_nothing_of_x(variant: dict[str, object]) -> None:
    flow, x = in_double("ala", **variant)
    noise, lag = draw(flow, 8).double(), torch.full((8,), INF, dtype=torch.float64)
    y, w, log_q = flow.sample(x[0], noise, lag)
    other = x[5] + 0.02 * torch.randn(x[5].shape, generator=torch.Generator().manual_seed(1))
    y_other, w_other, log_q_other = flow.sample(other, noise, lag)
    assert torch.equal(log_q, log_q_other)
    assert torch.allclose(torch.cdist(y, y), torch.cdist(y_other, y_other), atol=1e-9)
    assert torch.equal(w, w_other)
    assert torch.equal(w.flatten(1), noise[:, flow.num_shape :])
    assert torch.equal(flow.log_prob(y, w, x[:1], lag), flow.log_prob(y, w, other[None], lag))
    # Also beside rows that do look at x.
    mixed = flow.sample(x[0], noise, lags(8))[2]
    assert torch.allclose(mixed[1::2], log_q[1::2], atol=1e-9)
    finite = flow.sample(other, noise, lags(8))[2]
    assert (mixed[::2] - finite[::2]).abs().min() > 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
def test_exchanging_atoms_alike_changes_nothing(variant: dict[str, object]) -> None:
    """In x, or in y and its velocities, cyclically or the other way round for both."""
    flow, x = in_double("ala", **variant)
    lag = lags(8)
    y, w, log_q = flow.sample(x[0], draw(flow, 8).double(), lag)
    group = next(g for g in _methyls(flow))
    order = list(range(flow.num_atoms))
    for i, atom in enumerate(group):
        order[atom] = group[(i + 1) % 3]
    assert (flow.log_prob(y[:, order], w[:, order], x[:1], lag) - log_q).abs().max() < 1e-7
    assert (flow.log_prob(y, w, x[:1, order], lag) - log_q).abs().max() < 1e-7
    order = list(range(flow.num_atoms))
    order[group[0]], order[group[1]] = group[1], group[0]
    mirrored = flow.log_prob(y[:, order], w[:, order], x[:1, order], lag)
    assert (mirrored - log_q).abs().max() < 1e-7


def _methyls(flow: InternalFlow) -> list[list[int]]:
    order = flow.shape.internal.order
    members = [m for module in flow.shape.symmetric for m in module.members.tolist()]
    return [[int(order[3 + i]) for i in group] for group in members]


def test_velocities_need_a_finite_lag() -> None:
    with pytest.raises(ValidationError, match="add a finite lag"):
        InternalFlowConfig(velocities=True)


def test_attention_weights_are_shared_between_molecules() -> None:
    """All but the embeddings could serve another molecule."""

    def shapes(name: str) -> dict[str, torch.Size]:
        flow = InternalFlow(
            InternalFlowConfig(**{**SMALL, "lag_times": LAGS, "conditioner": "attention"}),
            make(name)[0],
        )
        named = {n: p.shape for n, p in flow.named_parameters()}
        assert named.pop("context.embedding")[0] == flow.num_atoms
        return named

    assert shapes("ala") == shapes("phe")


def test_independent_draws_attend_along_bonds() -> None:
    molecule, _ = make("ethane")
    chart = ShapeChart(molecule)
    places = coordinate_places(chart, molecule, False)
    config = AttentionConfig(length_scales=(0.2,))
    condition = AttentionContext(config, molecule, places, False, 0).independent(
        torch.full((3,), math.inf)
    )
    weights = condition.weights[0]
    bonds = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0])  # of the first carbon
    expected = torch.softmax(-((bonds * BOND_LENGTH / 0.2) ** 2), dim=0)
    assert torch.allclose(weights[0], expected, atol=1e-6)


def test_two_coordinates_of_one_slot_are_refused() -> None:
    molecule, _ = make("ethane")
    places = CoordinatePlaces((0, 0), ((1, 0),), 0, ())
    with pytest.raises(ValueError, match="conditioner: mlp"):
        AttentionContext(AttentionConfig(), molecule, places, True, 0)


def test_one_step_of_training_changes_every_weight() -> None:
    """No part of the networks is left out of the density."""
    flow, x = trained_like("ala", lag_times=LAGS, conditioner="attention", velocities=True)
    flow.requires_grad_(True)
    y, lag = x[:16], torch.tensor(LAGS).repeat(8)
    w = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    flow.log_prob(y, w, x[16:32], lag).mean().backward()
    still = [n for n, p in flow.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
