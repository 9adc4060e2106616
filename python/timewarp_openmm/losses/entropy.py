"""Entropy of the flow's own proposals (Klein et al. 2023, arXiv 2302.01170, section 4.2)."""

from __future__ import annotations

import torch
from pydantic import PositiveInt

from .base import Loss
from .step import Step


class Entropy(Loss):
    """mean log q(X~ | x) of the flow's own proposals X~, through which it is differentiated.

    With the same numbers of states and proposals these are the acceptance loss's own.

    Attributes
    ----------
    states : int
        Conditioning states per step.
    proposals : int
        From each.
    """

    states: PositiveInt = 4
    proposals: PositiveInt = 8

    def value(self, step: Step) -> torch.Tensor:
        found = step.proposals(self.states, self.proposals)
        return torch.stack([each.log_q.mean() for each in found]).mean()
