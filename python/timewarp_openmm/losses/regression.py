"""Regression of the log density of independent draws on that of the Boltzmann distribution."""

from __future__ import annotations

import math
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

    The states are drawn with the weights of one step ago, so that their energies can be computed
    while that step goes on.

    A flow that moves a part of a molecule is compared within each context: the constant is that
    context's own.

    Attributes
    ----------
    draws : int
        The flow's own draws per step.
    states : int
        States of the data per step.
    bound : float
        kT; errors above it count linearly.
    """

    needs_energy = True
    needs_independent_draws = True

    draws: Annotated[Count, Field(ge=2)] = 320
    states: Count = 192
    bound: Positive = 2.0

    def value(self, step: Step) -> Tensor:
        states = step.prefetch.take("regression", lambda: self._begin(step))
        return regression_loss(step.flow, states, self.bound)

    def _begin(self, step: Step) -> PendingStates:
        if step.own_context:
            groups = max(1, (self.draws + self.states) // _GROUP)
            batch = step.draw(groups)
            size = (groups * (_GROUP - 1), step.flow.noise_size)
            noise = torch.randn(size, generator=step.generator)
            batch = shake_contexts(step.flow, batch, step.generator)
            return begin_states_in_contexts(step.flow, step.energy, batch, noise.to(batch.x.device))
        batch = step.draw(self.states)
        noise = torch.randn(self.draws, step.flow.noise_size, generator=step.generator)
        return begin_regression_states(step.flow, step.energy, batch, noise.to(batch.x.device))


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
    flow: Any, energy: BatchEnergy, batch: Batch, noise: Tensor
) -> PendingStates:
    """Make an independent draw of each row of noise, add `batch`'s, and begin their energies."""
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
