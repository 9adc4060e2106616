"""Laying one state onto another, for training data only.

A best fit must not be used inside a proposal, where it is not reversible; here it merely chooses
which of many equally probable orientations of y the flow is asked to learn.
"""

from __future__ import annotations

import torch


def superpose(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return y [B, N, 3] moved and rotated onto x [B, N, 3] with the least squared distance.

    Kabsch, Acta Cryst. A32, 922 (1976).
    """
    x_centre = x.mean(1, keepdim=True)
    y_centred = y - y.mean(1, keepdim=True)
    covariance = y_centred.transpose(1, 2) @ (x - x_centre)
    u, _, vt = torch.linalg.svd(covariance)
    # The smallest singular direction is turned round where the fit would be a mirror image.
    sign = torch.ones(len(y), 3, dtype=y.dtype)
    sign[:, 2] = torch.sign(torch.linalg.det(u @ vt))
    rotation = u @ (sign[:, :, None] * vt)
    moved: torch.Tensor = y_centred @ rotation + x_centre
    return moved


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
