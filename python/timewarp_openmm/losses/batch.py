"""Pairs of states as losses get them."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Batch:
    """Pairs of states.

    Attributes
    ----------
    x, y : float32 tensors [B, N, 3], nm
        Conditioning and target positions; the centroid of x is the origin.
    w : float32 tensor [B, N, 3]
        Auxiliary velocities of the target, N(0, I).
    lag : float32 tensor [B], ps
    """

    x: torch.Tensor
    y: torch.Tensor
    w: torch.Tensor
    lag: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(t.to(device) for t in (self.x, self.y, self.w, self.lag)))

    def __getitem__(self, part: slice) -> Batch:
        return Batch(self.x[part], self.y[part], self.w[part], self.lag[part])

    def __len__(self) -> int:
        return len(self.lag)
