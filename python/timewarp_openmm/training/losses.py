"""The training losses of Klein et al. 2023 (arXiv 2302.01170), section 4.2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from ..energies.openmm_energy import UNPHYSICAL, OpenMMEnergy
from ..energies.workers import PendingEnergies
from .batches import Batch
from .config import LossConfig
from .density_regression import density_regression_loss


def likelihood_loss(flow: Any, batch: Batch) -> torch.Tensor:
    """Return -mean log q(y, w | x) of a batch, in nats per pair."""
    log_prob: torch.Tensor = flow.log_prob(batch.y, batch.w, batch.x, batch.lag)
    return -log_prob.mean()


def sample_losses(
    flow: Any,
    energy: OpenMMEnergy,
    batch: Batch,
    config: LossConfig,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the acceptance loss -mean log r(X, X~) and the entropy loss mean log q(X~ | x).

    X~ are the flow's own proposals, through which both are differentiated, from the first states of
    `batch`. r is the Metropolis-Hastings ratio before the minimum with 1 is taken.
    """
    acceptance = []
    entropy = []
    for i in range(min(config.states, len(batch))):
        log_ratio, log_q = _proposals(flow, energy, batch[i : i + 1], config, generator)
        acceptance.append(-log_ratio.mean())
        entropy.append(log_q.mean())
    return torch.stack(acceptance).mean(), torch.stack(entropy).mean()


def _proposals(
    flow: Any,
    energy: OpenMMEnergy,
    state: Batch,
    config: LossConfig,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log r and log q of proposals from one state, both [proposals]."""
    device = state.x.device
    count = config.proposals
    noise = torch.randn(count, flow.noise_size, generator=generator).to(device)
    v = torch.randn(count, *state.x.shape[1:], generator=generator).to(device)
    lag = state.lag.expand(count)
    y, w, log_q = flow.sample(state.x[0], noise, lag)
    log_reverse = flow.log_prob(state.x.expand(count, -1, -1), v, y, lag)
    rise = soft_cap(energy(y) - energy(state.x), config.energy_cap)
    log_ratio = -rise + log_normal(w) - log_normal(v) + log_reverse - log_q
    return log_ratio, log_q


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
    """

    y: torch.Tensor
    w: torch.Tensor
    x: torch.Tensor
    log_target: torch.Tensor


@dataclass(frozen=True)
class PendingStates:
    """`RegressionStates` whose energies are being computed."""

    y: torch.Tensor
    w: torch.Tensor
    x: torch.Tensor
    energies: PendingEnergies

    def result(self) -> RegressionStates:
        """Wait for the energies."""
        values, _ = self.energies.result()
        reduced = torch.from_numpy(values).to(self.y.device)
        log_target = torch.where(reduced < UNPHYSICAL, log_normal(self.w) - reduced, -math.inf)
        return RegressionStates(self.y, self.w, self.x, log_target)


@torch.no_grad()
def begin_regression_states(
    flow: Any, energy: OpenMMEnergy, batch: Batch, noise: torch.Tensor
) -> PendingStates:
    """Make an independent draw of each row of noise, add `batch`'s, and begin their energies."""
    lag = torch.full((len(noise),), math.inf, device=noise.device)
    y, w, _ = flow.sample(batch.x[0], noise, lag)
    inside = torch.isfinite(y).flatten(1).all(1)
    y, w = torch.cat([y[inside], batch.y]), torch.cat([w[inside], batch.w])
    return PendingStates(y, w, batch.x[:1], energy.begin(y))


def regression_loss(flow: Any, states: RegressionStates, bound: float) -> torch.Tensor:
    """Return how far log q of independent draws is from the log of the Boltzmann density.

    No gradient runs through the sampling (see `density_regression_loss`), so the states may come
    from an earlier version of the flow. Those of the data keep basins alive that the flow has
    ceased to draw.
    """
    lag = torch.full((len(states.y),), math.inf, device=states.y.device)
    log_q = flow.log_prob(states.y, states.w, states.x, lag)
    return density_regression_loss(log_q, states.log_target, bound)


def soft_cap(value: torch.Tensor, cap: float) -> torch.Tensor:
    """Return `value`, growing only logarithmically above `cap`; slope and value are continuous.

    Examples
    --------
    >>> soft_cap(torch.tensor([5.0, 10.0]), 10.0).tolist()
    [5.0, 10.0]
    """
    return torch.where(value > cap, cap + torch.log1p((value - cap).clamp(min=0)), value)


def log_normal(v: torch.Tensor) -> torch.Tensor:
    """Return log N(v; 0, I) of v [B, N, 3], summed in float64."""
    flat = v.double().flatten(1)
    return -0.5 * flat.square().sum(1) - 0.5 * flat.shape[1] * math.log(2 * math.pi)
