"""A flow's own proposals, through which a loss is differentiated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .batch import Batch


@dataclass(frozen=True)
class Proposals:
    """Proposals from one state.

    Attributes
    ----------
    x, v : Tensor [B, N, 3]
        The state, the same for all, and its auxiliary velocities, drawn anew for each; 0 for
        context atoms.
    lag : Tensor [B], ps
    y, w : Tensor [B, N, 3]
    log_q : float64 Tensor [B]
    """

    x: torch.Tensor
    v: torch.Tensor
    lag: torch.Tensor
    y: torch.Tensor
    w: torch.Tensor
    log_q: torch.Tensor


def propose(flow: Any, state: Batch, count: int, generator: torch.Generator) -> Proposals:
    """Return `count` proposals from the one state of `state`."""
    device = state.x.device
    noise = torch.randn(count, flow.noise_size, generator=generator).to(device)
    v = torch.randn(count, *state.x.shape[1:], generator=generator).to(device)
    lag = state.lag.expand(count)
    if getattr(flow, "moved", None) is not None:
        moving = torch.zeros(state.x.size(1), 1, device=device)
        moving[flow.moved] = 1.0
        v = v * moving
    y, w, log_q = flow.sample(state.x[0], noise, lag)
    return Proposals(state.x.expand(count, -1, -1), v, lag, y, w, log_q)
