"""Angles and torsions in torch: differentiable, and scripted into models.

`torsions` measures those of whole trajectories in NumPy.
"""

import torch
from torch import Tensor


def dot(u: Tensor, v: Tensor) -> Tensor:
    """Return the scalar product of vectors [..., 3].

    Much faster than ``sum(-1)``, which is slow along so short a dimension.
    """
    x, y, z = (u * v).unbind(-1)
    return x + y + z


def angle_between(u: Tensor, v: Tensor) -> Tensor:
    """Return the angle / rad between vectors [..., 3], accurate near 0 and pi too."""
    across = torch.linalg.vector_norm(torch.linalg.cross(u, v, dim=-1), dim=-1)
    return torch.atan2(across, dot(u, v))


def bend_and_torsion(bond: Tensor, axis: Tensor, third: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angle i-p-q and the torsion i-p-q-r / rad (IUPAC sign).

    Parameters
    ----------
    bond, axis, third : Tensor [..., 3]
        i - p, q - p and r - q.
    """
    normal = torch.linalg.cross(bond, axis, dim=-1)
    other = torch.linalg.cross(axis, third, dim=-1)
    bend = torch.atan2(torch.linalg.vector_norm(normal, dim=-1), dot(bond, axis))
    length = torch.linalg.vector_norm(axis, dim=-1)
    return bend, torch.atan2(-dot(bond, other) * length, -dot(normal, other))
