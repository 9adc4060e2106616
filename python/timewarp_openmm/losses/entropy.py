"""Entropy of the flow's own proposals (Klein et al. 2023, arXiv 2302.01170, section 4.2)."""

from __future__ import annotations

import torch

from .base import LossOfProposals
from .step import Step


class Entropy(LossOfProposals):
    """mean log q(X~ | x) of the flow's own proposals X~."""

    def value(self, step: Step) -> torch.Tensor:
        found = step.proposals(self.states, self.proposals)
        return torch.stack([each.log_q.mean() for each in found]).mean()
