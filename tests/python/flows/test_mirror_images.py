"""Molecules that an inverting atom makes achiral: one mirror image is learned, both are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from internal_flows import SMALL, draw
from molecules import make, shaken
from torch import Tensor, nn

from timewarp_openmm.flows.check import Calls, density_by_jacobian
from timewarp_openmm.flows.internal.chirality import Chirality
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.internal.flow import InternalFlow
from timewarp_openmm.flows.internal.mirror import MirrorImages

AMINE = "CCN(C)CCO"
MIRROR = torch.tensor([1.0, 1.0, -1.0])


def fitted(smiles: str, both: bool, scale: float = 0.002) -> tuple[InternalFlow, Tensor]:
    """Return a flow and the frames [F, N, 3] it was fitted to: one image, or as many of each."""
    molecule, positions = make(smiles, 1)
    torch.manual_seed(0)
    flow = InternalFlow(InternalFlowConfig(**SMALL), molecule)
    frames = torch.tensor(shaken(positions, 300, scale))
    if both:
        chirality = flow.shape.chirality
        reflected = frames[1::2] * MIRROR
        chirality.fit(frames, torch.ones(len(frames)))
        # Labels stay as dynamics keeps them.
        frames[1::2] = chirality.relabel(reflected, chirality.mirrored(reflected))
    flow.fit_normalisation(frames)
    for name, parameter in flow.named_parameters():
        if "last" in name:
            nn.init.normal_(parameter, std=0.02)
    return flow.double().requires_grad_(False), frames


def proposals(flow: InternalFlow, x: Tensor, count: int) -> tuple[Tensor, ...]:
    """Return noise, y, w, log_q and lag of proposals that lie on the chart."""
    noise, lag = draw(flow, count).double(), torch.full((count,), math.inf).double()
    y, w, log_q = flow.sample(x, noise, lag)
    inside = torch.isfinite(log_q)
    if int(inside.sum()) <= count // 2:
        # No AssertionError: what checks assert is about the others.
        raise RuntimeError(f"{int(inside.sum())} of {count} proposals lie on the chart")
    return noise[inside], y[inside], w[inside], log_q[inside], lag[inside]


@pytest.mark.parametrize(
    ("smiles", "both", "used"),
    [
        (AMINE, True, True),
        (AMINE, False, False),
        # A stereocentre has no mirror image in the data.
        ("C[C@H](F)N(C)CC", False, False),
        # Nothing inverts.
        ("CCC(C)CCO", False, False),
    ],
)
def test_one_image_is_learned_where_both_are_in_the_data(
    smiles: str, both: bool, used: bool
) -> None:
    flow, frames = fitted(smiles, both)
    assert bool(flow.shape.mirror.used) == used
    assert torch.isfinite(flow.shape.to_shape(frames)[3]).all()
    assert int((flow.shape.fold == 2).sum()) == int(used)


def test_a_flat_nitrogen_is_left_as_it_is() -> None:
    """Its images meet where most frames are."""
    flow, frames = fitted(AMINE, True, scale=0.002)
    chart, weights = flow.shape, torch.ones(len(frames), dtype=torch.float64)
    assert chart.mirror.suits(chart.internal, frames, weights)
    flat = frames.clone()
    centre, corners = chart.mirror.corners[0], chart.mirror.corners[1:]
    flat[:, centre] = flat[:, corners].mean(1)
    assert not chart.mirror.suits(chart.internal, flat, weights)


def check_sampled_density(flow: InternalFlow, x: Tensor) -> None:
    noise, y, w, log_q, lag = proposals(flow, x, 400)
    torch.testing.assert_close(flow.log_prob(y, w, x[None], lag), log_q, atol=1e-7, rtol=0)
    torch.testing.assert_close(flow.invert(y, w, x[None], lag), noise, atol=1e-6, rtol=0)


def check_both_are_drawn(flow: InternalFlow, x: Tensor) -> None:
    _, y, _, _, _ = proposals(flow, x, 400)
    positive = torch.gt(_offset_product(flow, y), 0)
    # Five standard deviations of a fair coin.
    assert abs(float(positive.double().mean()) - 0.5) < 2.5 / math.sqrt(len(y))


def check_labels_are_kept(flow: InternalFlow, x: Tensor) -> None:
    _, y, _, _, _ = proposals(flow, x, 400)
    signs = [torch.sign(_products(flow, positions)) for positions in (x[None], y)]
    assert (signs[0] == signs[1]).all()


def check_images_have_one_density(flow: InternalFlow, x: Tensor) -> None:
    _, y, w, log_q, lag = proposals(flow, x, 50)
    other = y * MIRROR.double()
    for first, second in flow.shape.chirality.pair.tolist():
        other[:, [first, second]] = other[:, [second, first]]
    assert (torch.sign(_offset_product(flow, other)) != torch.sign(_offset_product(flow, y))).all()
    torch.testing.assert_close(flow.log_prob(other, w, x[None], lag), log_q, atol=1e-7, rtol=0)


def check_jacobian(flow: InternalFlow, x: Tensor) -> None:
    noise, y, _, _, _ = proposals(flow, x, 12)
    positive = torch.gt(_offset_product(flow, y), 0)
    for chosen in (noise[positive][0], noise[~positive][0]):
        log_q, expected = density_by_jacobian(Calls(flow), x, chosen, math.inf)
        torch.testing.assert_close(log_q, expected, atol=1e-5, rtol=0)


def _products(flow: InternalFlow, positions: Tensor) -> Tensor:
    """Return the triple products [B, G] at the centres with two equivalent atoms."""
    corners = flow.shape.chirality.corners
    edges = positions[:, corners[:, 1:]] - positions[:, corners[:, :1]]
    return torch.linalg.det(edges.double())


def _offset_product(flow: InternalFlow, positions: Tensor) -> Tensor:
    """Return the triple product [B] whose sign tells the images apart."""
    corners = flow.shape.mirror.corners
    return torch.linalg.det((positions[:, corners[1:]] - positions[:, corners[:1]]).double())


CHECKS = (
    check_sampled_density,
    check_both_are_drawn,
    check_labels_are_kept,
    check_images_have_one_density,
    check_jacobian,
)


@pytest.mark.parametrize("check", CHECKS)
def test_both_images_are_drawn_and_their_density_is_known(
    check: Callable[[InternalFlow, Tensor], None],
) -> None:
    flow, frames = fitted(AMINE, True)
    check(flow, frames[0])


def _sees_no_image(mirror: MirrorImages, positions: Tensor) -> Tensor:
    return torch.zeros(len(positions), dtype=torch.bool)


def _leaves(module: nn.Module, positions: Tensor, which: Tensor) -> Tensor:
    return positions


def _halves_without_volume(mirror: MirrorImages, torsions: Tensor) -> Tensor:
    return torsions.index_copy(
        1, torch.tensor([mirror.place]), torsions[:, [mirror.place]].square() / math.pi
    )


FAULTS = {
    "the density forgets one image": (
        MirrorImages,
        "is_image",
        _sees_no_image,
        {check_sampled_density, check_images_have_one_density},
    ),
    "one image is never drawn": (
        MirrorImages,
        "reflect",
        _leaves,
        {check_both_are_drawn, check_sampled_density},
    ),
    "labels are left as the reflection makes them": (
        Chirality,
        "relabel",
        _leaves,
        {check_labels_are_kept, check_sampled_density},
    ),
    "the angle is stretched unevenly": (
        MirrorImages,
        "from_circle",
        _halves_without_volume,
        {check_sampled_density, check_jacobian},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, frames = fitted(AMINE, True)
    owner, name, planted, seen_by = FAULTS[fault]
    monkeypatch.setattr(owner, name, planted)
    for check in seen_by:
        with pytest.raises(AssertionError):
            check(flow, frames[0])


def test_scripted_and_saved_flows_do_the_same() -> None:
    flow, frames = fitted(AMINE, True)
    noise, y, _, log_q, lag = proposals(flow, frames[0], 20)
    other = InternalFlow(InternalFlowConfig(**SMALL), make(AMINE, 1)[0])
    other.load_state_dict(flow.state_dict())
    scripted = torch.jit.script(other.double().eval())
    again, _, log_q_again = scripted.sample(frames[0], noise, lag)
    torch.testing.assert_close(again, y, atol=1e-9, rtol=0)
    torch.testing.assert_close(log_q_again, log_q, atol=1e-7, rtol=0)
