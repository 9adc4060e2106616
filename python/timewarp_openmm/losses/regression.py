"""Regression of the log density of independent draws on that of the Boltzmann distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from ..bounds import Count, Positive
from ..energies.base import BatchEnergy, PendingEnergies
from ..flows.gaussian import log_normal
from ..importance import UNPHYSICAL
from .base import Loss
from .batch import Batch
from .step import Step

#: Of a flow that moves a part: states in one context, the data's own and draws.
_GROUP = 8
#: nm, by which context atoms of the data are moved at random. Any context will do for a comparison
#: within it, and a flow soon knows those of the data by heart.
_SHAKEN = 0.001


class Regression(Loss):
    """How far log q of independent draws and of data is from -U/kT, up to a constant.

    The states are drawn with the weights of two steps ago, so that there is time for their energies
    while other steps go on.

    Those of the data are not taken as they are, since a flow can learn the frames by heart and stay
    as wrong as before elsewhere. A share of the numbers that the flow makes a frame of is drawn
    anew each time, so that no state comes twice, and each lies near one of the data, also in basins
    that the flow's own draws miss. Any state will do for a comparison.

    A flow that moves a part of a molecule is compared within each context: the constant is that
    context's own. There the context atoms are moved at random instead.

    Attributes
    ----------
    draws : int
        The flow's own draws per step.
    states : int
        States of the data per step.
    redrawn : float
        The chance of each of a state's latent numbers to be drawn anew; 0 takes states as they are.
    bound : float
        kT; errors above it count linearly.
    """

    needs_energy = True
    needs_independent_draws = True

    draws: Annotated[Count, Field(ge=2)] = 320
    states: Count = 192
    redrawn: Annotated[float, Field(ge=0, lt=1)] = 0.2
    bound: Positive = 2.0

    def value(self, step: Step) -> Tensor:
        states = step.prefetch.take("regression", lambda: self._plan(step))
        return regression_loss(step.flow, states, self.bound)

    def _plan(self, step: Step) -> Callable[[], PendingStates]:
        """Draw the random numbers of a step's states, and return what makes the states of them."""
        flow, energy, generator = step.flow, step.energy, step.generator
        if step.own_context:
            groups = max(1, (self.draws + self.states) // _GROUP)
            batch = step.draw(groups)
            noise = torch.randn(groups * (_GROUP - 1), flow.noise_size, generator=generator)
            batch = shake_contexts(flow, batch, generator)
            noise = noise.to(batch.x.device)
            return lambda: begin_states_in_contexts(flow, energy, batch, noise)
        batch = step.draw(self.states)
        noise = torch.randn(self.draws, flow.noise_size, generator=generator).to(batch.x.device)
        redrawing = None
        if self.redrawn > 0:
            redrawing = Redrawing.of(flow.noise_size, len(batch), self.redrawn, generator)
        return lambda: begin_regression_states(flow, energy, batch, noise, redrawing)


@dataclass(frozen=True)
class Redrawing:
    """Which latent numbers of states are drawn anew, and as what.

    Attributes
    ----------
    noise : Tensor [B, D]
    chosen : Tensor [B, D], bool
    """

    noise: Tensor
    chosen: Tensor

    @staticmethod
    def of(size: int, count: int, share: float, generator: torch.Generator | None) -> Redrawing:
        """Choose of the `size` numbers of each of `count` states, each with chance `share`."""
        chosen = torch.rand(count, size, generator=generator) < share
        return Redrawing(torch.randn(count, size, generator=generator), chosen)

    @torch.no_grad()
    def __call__(self, flow: Any, batch: Batch) -> Batch:
        """Return a flow's independent draws, `batch`, with these numbers in place of their own.

        A state without such numbers, or from which they lead nowhere, stays as it is.
        """
        device = batch.y.device
        lag = torch.full((len(batch),), math.inf, device=device)
        own = flow.invert(batch.y, batch.w, batch.x[:1], lag)
        noise = torch.where(self.chosen.to(device), self.noise.to(device), own)
        y, w, _ = flow.sample(batch.x[0], noise, lag)
        inside = torch.isfinite(y).flatten(1).all(1) & torch.isfinite(own).all(1)
        inside = inside.view(-1, 1, 1)
        return replace(batch, y=torch.where(inside, y, batch.y), w=torch.where(inside, w, batch.w))


@dataclass(frozen=True)
class RegressionStates:
    """States of which the density is regressed on the energy: a flow's draws, then data.

    Attributes
    ----------
    y : Tensor [B, N, 3], nm
    w : Tensor [B, N, 3]
    x : Tensor [1, N, 3], nm
        Any state; independent draws do not depend on it.
    log_target : float64 Tensor [B]
        log of exp(-U/kT) N(w; 0, I); -inf without an energy.
    groups : int
        Into how many groups of one size the states fall, each with a constant of its own.
    """

    y: Tensor
    w: Tensor
    x: Tensor
    log_target: Tensor
    groups: int = 1


@dataclass(frozen=True)
class PendingStates:
    """`RegressionStates` whose energies are being computed."""

    y: Tensor
    w: Tensor
    x: Tensor
    energies: PendingEnergies
    groups: int = 1

    def result(self) -> RegressionStates:
        """Wait for the energies."""
        values, _ = self.energies.result()
        reduced = torch.from_numpy(values).to(self.y.device)
        log_target = log_normal(self.w.flatten(1)) - reduced
        log_target = torch.where(reduced < UNPHYSICAL, log_target, -math.inf)
        return RegressionStates(self.y, self.w, self.x, log_target, self.groups)


@torch.no_grad()
def begin_regression_states(
    flow: Any,
    energy: BatchEnergy,
    batch: Batch,
    noise: Tensor,
    redrawing: Redrawing | None = None,
) -> PendingStates:
    """Make an independent draw of each row of noise, add `batch`'s, and begin their energies."""
    if redrawing is not None:
        batch = redrawing(flow, batch)
    lag = torch.full((len(noise),), math.inf, device=noise.device)
    y, w, _ = flow.sample(batch.x[0], noise, lag)
    inside = torch.isfinite(y).flatten(1).all(1)
    y, w = torch.cat([y[inside], batch.y]), torch.cat([w[inside], batch.w])
    return PendingStates(y, w, batch.x[:1], energy.begin(y))


def shake_contexts(flow: Any, batch: Batch, generator: torch.Generator | None) -> Batch:
    """Return states [B, N, 3] whose context atoms are elsewhere by a little, at random."""
    shifts = _SHAKEN * torch.randn(batch.x.shape, generator=generator)
    shifts[:, flow.moved] = 0.0
    shifts = shifts.to(batch.x.device)
    return replace(batch, x=batch.x + shifts, y=batch.y + shifts)


@torch.no_grad()
def begin_states_in_contexts(
    flow: Any, energy: BatchEnergy, batch: Batch, noise: Tensor
) -> PendingStates:
    """Make draws in the context of each of `batch`'s states, as many as there is noise for, and
    begin the energies of these and of the states."""
    groups, each = len(batch), len(noise) // len(batch)
    x = batch.x.repeat_interleave(each, dim=0)
    y, w, _ = flow.sample(x, noise, torch.full((len(noise),), math.inf, device=noise.device))
    # A draw that leads nowhere gives way to the state, so that groups remain of one size.
    inside = torch.isfinite(y).flatten(1).all(1).view(-1, 1, 1)
    y, w = torch.where(inside, y, x), torch.where(inside, w, torch.zeros_like(w))

    def joined(draws: Tensor, states: Tensor) -> Tensor:
        rows = draws.view(groups, each, *states.shape[1:])
        return torch.cat([rows, states.unsqueeze(1)], dim=1).flatten(0, 1)

    y, w, x = joined(y, batch.y), joined(w, batch.w), joined(x, batch.x)
    return PendingStates(y, w, x, energy.begin(y), groups)


def regression_loss(flow: Any, states: RegressionStates, bound: float) -> Tensor:
    """Return how far log q of independent draws is from the log of the Boltzmann density.

    No gradient runs through the sampling (see `density_regression_loss`), so the states may come
    from an earlier version of the flow. Those of the data keep basins alive that the flow has
    ceased to draw.
    """
    lag = torch.full((len(states.y),), math.inf, device=states.y.device)
    log_q = flow.log_prob(states.y, states.w, states.x, lag)
    return density_regression_loss(log_q, states.log_target, bound, states.groups)


def density_regression_loss(
    log_q: Tensor, log_target: Tensor, bound: float = 2.0, groups: int = 1
) -> Tensor:
    """Return the Huber loss of log target - log q around its median, in nats.

    For independent draws. With frames of which -U/kT is known and the flow's own (detached)
    proposals, it asks each one for a number, not just for more likelihood: near the end the
    gradient's noise vanishes with the misfit, and own proposals are fresh in every step, so that
    the flow cannot overfit the frames. It is the log-variance loss of Richter et al., NeurIPS 2020,
    arXiv 2010.10436, with large misfits (atoms that collide) counted linearly.

    Parameters
    ----------
    log_q : Tensor [B]
        Log density of proposals or frames that do not depend on the flow's weights.
    log_target : Tensor [B]
        -U/kT of the same, plus any constant. Entries that are not finite are left out.
    bound : float
        Misfit in nats beyond which the loss grows linearly.
    groups : int
        B falls into so many groups of one size; the median is that of each.

    Raises
    ------
    ValueError
        If nothing is finite.

    Examples
    --------
    >>> log_q = torch.tensor([0.0, 1.0, 2.0])
    >>> density_regression_loss(log_q, log_q + 7.0).item()
    0.0
    """
    finite = torch.isfinite(log_q) & torch.isfinite(log_target)
    if not bool(finite.any()):
        raise ValueError("no proposal or frame has a finite energy and density")
    misfit = (log_target - log_q).detach().masked_fill(~finite, math.nan).view(groups, -1)
    median = misfit.nanmedian(dim=1, keepdim=True).values.expand_as(misfit).flatten()
    centred = log_target[finite] - log_q[finite] - median[finite]
    return torch.nn.functional.huber_loss(centred, torch.zeros_like(centred), delta=bound)
