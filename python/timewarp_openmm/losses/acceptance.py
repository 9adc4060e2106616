"""Acceptance of the flow's own proposals (Klein et al. 2023, arXiv 2302.01170, section 4.2)."""

from __future__ import annotations

import torch

from ..bounds import Positive
from ..flows.gaussian import log_normal
from .base import LossOfProposals
from .proposals import Proposals
from .step import Step


class Acceptance(LossOfProposals):
    """-mean log r(X, X~) of the flow's own proposals X~.

    r is the Metropolis-Hastings ratio before the minimum with 1 is taken.

    Attributes
    ----------
    energy_cap : float
        kT; an energy difference above this counts logarithmically, which bounds the forces.
    """

    needs_energy = True

    energy_cap: Positive = 100.0

    def value(self, step: Step) -> torch.Tensor:
        found = step.proposals(self.states, self.proposals)
        return -torch.stack([self._log_ratio(step, each).mean() for each in found]).mean()

    def _log_ratio(self, step: Step, made: Proposals) -> torch.Tensor:
        log_reverse = step.flow.log_prob(made.x, made.v, made.y, made.lag)
        rise = soft_cap(step.energy(made.y) - step.energy(made.x[:1]), self.energy_cap)
        log_velocities = log_normal(made.w.flatten(1)) - log_normal(made.v.flatten(1))
        log_ratio: torch.Tensor = -rise + log_velocities + log_reverse - made.log_q
        return log_ratio


def soft_cap(value: torch.Tensor, cap: float) -> torch.Tensor:
    """Return `value`, growing only logarithmically above `cap`; slope and value are continuous.

    Examples
    --------
    >>> soft_cap(torch.tensor([5.0, 10.0]), 10.0).tolist()
    [5.0, 10.0]
    """
    return torch.where(value > cap, cap + torch.log1p((value - cap).clamp(min=0)), value)
