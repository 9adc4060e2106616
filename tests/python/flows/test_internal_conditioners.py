"""Attention conditioners and auxiliary velocities in the flow in internal coordinates."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from internal_flows import INF, SMALL, draw, trained_like
from molecules import make
from pydantic import ValidationError
from torch import Tensor

from timewarp_openmm.contract import ModelMetadata
from timewarp_openmm.flows import export_model
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
#: Ten atoms with a chiral centre, and no atoms alike but a methyl group's.
SMALLEST = "C[C@H](F)O"


def in_double(name: str, **config: object) -> tuple[InternalFlow, Tensor]:
    small = {"lag_times": LAGS, "narrow_transform": "affine", "weights": 0.05}
    flow, x = trained_like(name, **{**small, **config})  # type: ignore[arg-type]
    return flow.double(), x.double()


def lags(batch: int) -> Tensor:
    return torch.tensor(LAGS, dtype=torch.float64).repeat(batch // len(LAGS))


@pytest.mark.parametrize("variant", VARIANTS)
def test_round_trip_scripted_or_not(variant: dict[str, object]) -> None:
    flow, x = in_double("ala", **variant)
    noise, lag = draw(flow, 8).double(), lags(8)
    y, w, log_q = flow.sample(x[0], noise, lag)
    assert (flow.invert(y, w, x[:1], lag) - noise).abs().max() < 1e-9
    assert (flow.log_prob(y, w, x[:1], lag) - log_q).abs().max() < 1e-9
    each = x[:1].expand(8, -1, -1)
    assert (flow.log_prob(y, w, each, lag) - log_q).abs().max() < 1e-9
    scripted = torch.jit.script(flow)
    theirs = scripted.sample(x[0], noise, lag)
    assert all(torch.equal(a, b) for a, b in zip((y, w, log_q), theirs, strict=True))
    assert torch.equal(flow.log_prob(y, w, x[:1], lag), scripted.log_prob(y, w, x[:1], lag))


@pytest.mark.parametrize("variant", VARIANTS)
def test_density_is_that_of_the_noise_by_autodiff(variant: dict[str, object]) -> None:
    flow, x = in_double(SMALLEST, **variant)
    chart, frame, noise = flow.shape, x[:1], draw(flow, 1).double()
    for lag_time in LAGS:
        lag = torch.tensor([lag_time], dtype=torch.float64)

        def shape_and_velocities(noise: Tensor, lag: Tensor = lag) -> Tensor:
            y, w, _ = flow.sample(frame[0], noise[None], lag)
            rotors, _, narrow, _ = chart.to_shape(y)
            return torch.cat([rotors, narrow, w.flatten(1)], dim=1)[0]

        jacobian = torch.autograd.functional.jacobian(shape_and_velocities, noise[0])
        y, _, log_q = flow.sample(frame[0], noise, lag)
        _, _, _, log_volume = chart.to_shape(y)
        log_noise = -0.5 * (noise.square() + math.log(2 * math.pi)).sum()
        # A symmetric rotor's angle is that of the whole circle times its fold.
        log_volume = log_volume[0] - chart.fold.log().sum()
        expected = log_noise - torch.linalg.slogdet(jacobian).logabsdet - log_volume
        assert abs(float(expected - log_q)) < 1e-7


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
def test_rigid_motion_has_no_part_in_the_density(variant: dict[str, object]) -> None:
    flow, x = in_double("ala", **variant)
    q, r = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    turn = torch.tensor(q * np.linalg.det(q))
    lag, noise = lags(8), draw(flow, 8).double()
    y, w, log_q = flow.sample(x[0], noise, lag)
    log_q_moved = flow.log_prob(y @ turn + 1.0, w @ turn, x[:1] @ turn - 2.0, lag)
    assert (log_q_moved - log_q).abs().max() < 1e-8
    # A proposal follows x, and at a finite lag so do its velocities.
    y_turned, w_turned, _ = flow.sample(x[0] @ turn, noise, lag)
    assert (y_turned - y @ turn).abs().max() < 1e-9
    if flow.auxiliary_velocities:
        assert (w_turned[::2] - (w @ turn)[::2]).abs().max() < 1e-9


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


@pytest.mark.parametrize("variant", VARIANTS)
def test_exported_model_keeps_the_contract(variant: dict[str, object], tmp_path: Path) -> None:
    molecule, positions = make("ala")
    flow, x = trained_like("ala", lag_times=LAGS, **variant)  # type: ignore[arg-type]
    assert flow.auxiliary_velocities == variant.get("velocities", False)
    metadata = ModelMetadata(
        molecule=molecule,
        noise_size=flow.noise_size,
        temperature=310.0,
        coordinates="internal",
        lag_times=list(LAGS),
        lag_weights=[0.5, 0.5],
        auxiliary_velocities=flow.auxiliary_velocities,
        precision=flow.precision,
        reference_positions=positions[0].tolist(),
    )
    model = torch.jit.load(str(export_model(flow, metadata, tmp_path / "model.pt")))
    noise, lag = draw(flow, 8).double(), lags(8)
    assert torch.allclose(
        model.sample(x[0].double(), noise, lag)[2],
        flow.sample(x[0].double(), noise, lag)[2],
        atol=1e-6,
    )


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
    condition = AttentionContext(config, molecule, places, False).independent(
        torch.full((3,), math.inf)
    )
    weights = condition.weights[0]
    bonds = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0])  # of the first carbon
    expected = torch.softmax(-((bonds * BOND_LENGTH / 0.2) ** 2), dim=0)
    assert torch.allclose(weights[0], expected, atol=1e-6)


def test_two_coordinates_of_one_slot_are_refused() -> None:
    molecule, _ = make("ethane")
    places = CoordinatePlaces((0, 0), ((1, 0),), ())
    with pytest.raises(ValueError, match="conditioner: mlp"):
        AttentionContext(AttentionConfig(), molecule, places, True)


def test_one_step_of_training_changes_every_weight() -> None:
    """No part of the networks is left out of the density."""
    flow, x = trained_like("ala", lag_times=LAGS, conditioner="attention", velocities=True)
    flow.requires_grad_(True)
    y, lag = x[:16], torch.tensor(LAGS).repeat(8)
    w = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    flow.log_prob(y, w, x[16:32], lag).mean().backward()
    still = [n for n, p in flow.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
