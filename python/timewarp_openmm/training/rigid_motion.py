"""Small rigid motions, for training data only."""

from __future__ import annotations

import torch


def small_rigid_motion(y: torch.Tensor, scale: float, generator: torch.Generator) -> torch.Tensor:
    """Shift y [B, N, 3] by normal deviates of width `scale` (nm), and rotate it about its centroid.

    The rotation's angle is so wide that it moves an atom at the radius of gyration by `scale`.
    """
    centre = y.mean(1, keepdim=True)
    centred = y - centre
    radius = centred.square().sum(2).mean(1).sqrt()
    angles = torch.randn(len(y), 3, generator=generator) * (scale / radius)[:, None]
    shift = torch.randn(len(y), 1, 3, generator=generator) * scale
    moved: torch.Tensor = centred @ rotation_matrices(angles).transpose(1, 2) + centre + shift
    return moved


def rotation_matrices(vectors: torch.Tensor) -> torch.Tensor:
    """Return the rotations [B, 3, 3] about `vectors` [B, 3] by their lengths in radians."""
    generators = torch.zeros(len(vectors), 3, 3, dtype=vectors.dtype)
    x, y, z = vectors.unbind(1)
    generators[:, 0, 1], generators[:, 0, 2], generators[:, 1, 2] = -z, y, -x
    generators = generators - generators.transpose(1, 2)
    matrices: torch.Tensor = torch.linalg.matrix_exp(generators)
    return matrices
