"""The regression of log densities."""

import math
from types import SimpleNamespace

import pytest
import torch
from internal_flows import trained_like

from timewarp_openmm.losses.batch import Batch
from timewarp_openmm.losses.regression import (
    Redrawing,
    density_regression_loss,
    shake_contexts,
)


def test_own_samples_lead_to_the_target() -> None:
    """A Gaussian's mean and width, from the values of another one's log density."""
    generator = torch.Generator().manual_seed(0)
    mean, log_width = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    centre, width = torch.tensor([0.7, -0.4]), torch.tensor([0.5, 1.5])
    optimiser = torch.optim.Adam([mean, log_width], lr=0.03)
    for _ in range(400):
        noise = torch.randn(64, 2, generator=generator)
        y = (mean + noise * log_width.exp()).detach()
        log_q = (-0.5 * ((y - mean) / log_width.exp()) ** 2 - log_width).sum(1)
        log_target = (-0.5 * ((y - centre) / width) ** 2).sum(1) + 40.0
        optimiser.zero_grad()
        density_regression_loss(log_q, log_target).backward()
        optimiser.step()
    # With the misfit the noise of the gradient has gone: far below 1/sqrt(64).
    assert (mean - centre).abs().max() < 1e-3
    assert (log_width.exp() - width).abs().max() < 1e-3


def test_collisions_count_linearly_and_infinities_not_at_all() -> None:
    log_q = torch.zeros(101, requires_grad=True)
    log_target = torch.zeros(101)
    log_target[0] = -1e6
    density_regression_loss(log_q, log_target, bound=2.0).backward()
    assert log_q.grad is not None
    assert log_q.grad[0].item() == pytest.approx(2.0 / 101)
    log_target[0] = -math.inf
    assert density_regression_loss(log_q, log_target).item() == 0.0
    with pytest.raises(ValueError, match="finite energy"):
        density_regression_loss(log_q[:1], log_target[:1])


def test_each_context_has_a_constant_of_its_own() -> None:
    """Of a flow that moves a part: contexts of other energies do not count as misfits."""
    generator = torch.Generator().manual_seed(1)
    log_q = torch.randn(40, generator=generator, dtype=torch.float64, requires_grad=True)
    constants = 100 * torch.randn(5, generator=generator, dtype=torch.float64)
    log_target = log_q.detach() + constants.repeat_interleave(8)
    log_target[3] = -math.inf
    assert density_regression_loss(log_q, log_target, groups=5).item() < 1e-20
    assert density_regression_loss(log_q, log_target).item() > 10.0
    density_regression_loss(log_q, log_target + log_q.detach(), groups=5).backward()
    assert log_q.grad is not None
    assert log_q.grad[3] == 0
    assert torch.isfinite(log_q.grad).all()


def test_shaken_contexts_leave_what_moves_where_it_is() -> None:
    """Each state is in a context of its own, which is the same for what it is compared with."""
    x = torch.randn(50, 4, 3)
    batch = Batch(x, x.clone(), torch.zeros_like(x), torch.full((50,), math.inf))
    generator = torch.Generator().manual_seed(1)
    shaken = shake_contexts(SimpleNamespace(moved=[1, 3]), batch, generator)
    assert torch.equal(shaken.x, shaken.y)
    assert torch.equal(shaken.x[:, [1, 3]], x[:, [1, 3]])
    shifts = (shaken.x - x)[:, [0, 2]]
    # The standard error of the deviation of 300 numbers is 4 %.
    assert shifts.std().item() == pytest.approx(0.001, rel=0.2)
    assert torch.equal(batch.x, x)


def test_redrawn_states_keep_what_is_not_chosen() -> None:
    """Whatever the flow: its inverse finds the new numbers where they were chosen, and the old."""
    flow, x = trained_like("CCCCC")
    generator = torch.Generator().manual_seed(1)
    x = x[:64]
    w = torch.randn(x.shape, generator=generator)
    batch = Batch(x, x.clone(), w, torch.full((64,), math.inf))
    redrawing = Redrawing.of(flow.noise_size, 64, 0.2, generator)
    # 64 x 96 numbers: five standard errors of the share.
    assert redrawing.chosen.float().mean().item() == pytest.approx(0.2, abs=0.026)

    drawn = redrawing(flow, batch)
    own = flow.invert(batch.y, batch.w, batch.x[:1], batch.lag)
    now = flow.invert(drawn.y, drawn.w, drawn.x[:1], drawn.lag)
    wanted = torch.where(redrawing.chosen, redrawing.noise, own)
    assert (now - wanted).abs().max() < 0.01
    assert (now - own).abs()[redrawing.chosen].mean() > 0.5
    assert torch.equal(drawn.x, x)
    assert torch.equal(batch.w, w)


def test_states_that_cannot_be_redrawn_stay_as_they_are() -> None:
    """Where the numbers lead out of the chart, or the state has none."""
    x = torch.randn(3, 4, 3)
    batch = Batch(x, x.clone(), torch.zeros_like(x), torch.full((3,), math.inf))
    beyond = torch.zeros_like(x)
    beyond[0] = math.nan
    numbers = torch.zeros(3, 12)
    numbers[1, 0] = math.inf
    flow = SimpleNamespace(
        invert=lambda *given: numbers, sample=lambda *given: (beyond, torch.ones_like(x), None)
    )
    drawn = Redrawing.of(12, 3, 0.2, torch.Generator().manual_seed(1))(flow, batch)
    assert torch.equal(drawn.y[:2], x[:2])
    assert torch.equal(drawn.w[:2], torch.zeros_like(x[:2]))
    assert torch.equal(drawn.y[2], torch.zeros(4, 3))
    assert torch.equal(drawn.w[2], torch.ones(4, 3))
