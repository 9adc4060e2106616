"""Likelihood of the data's pairs (Klein et al. 2023, arXiv 2302.01170, section 4.2)."""

from __future__ import annotations

from typing import Any

import torch

from .base import Loss
from .batch import Batch
from .step import Step


class Likelihood(Loss):
    """-mean log q(y, w | x) of a batch, in nats per pair."""

    def value(self, step: Step) -> torch.Tensor:
        return negative_log_likelihood(step.flow, step.batch)


def negative_log_likelihood(flow: Any, batch: Batch) -> torch.Tensor:
    """Return -mean log q(y, w | x) of a batch, in nats per pair."""
    log_prob: torch.Tensor = flow.log_prob(batch.y, batch.w, batch.x, batch.lag)
    return -log_prob.mean()
