"""Laying conformations onto each other with the least squared distance, and what distance is left.

A best fit must not be used inside a proposal, where it is not reversible.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def superpose(
    mobile: NDArray[np.floating],
    target: NDArray[np.floating],
    atoms: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Return frames moved and rotated onto others with the least squared distance.

    Proper rotations only (Kabsch, Acta Cryst. A 32, 922 (1976)).

    Parameters
    ----------
    mobile : array [F, N, 3]
    target : array [F, N, 3] or [1, N, 3]
        One for each frame, or one for all.
    atoms : int array, optional
        Whose distance is least; all by default.
    """
    mobile, target = np.asarray(mobile, dtype=float), np.asarray(target, dtype=float)
    chosen = slice(None) if atoms is None else atoms
    centre = mobile[:, chosen].mean(axis=1, keepdims=True)
    goal = target[:, chosen].mean(axis=1, keepdims=True)
    covariance = np.swapaxes(mobile[:, chosen] - centre, 1, 2) @ (target[:, chosen] - goal)
    u, _, vt = np.linalg.svd(covariance)
    # The smallest singular direction is turned round where the fit would be a mirror image.
    u[:, :, 2] *= np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)[:, None]
    moved: NDArray[np.float64] = (mobile - centre) @ (u @ vt) + goal
    return moved


def pairwise_rmsd(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the least RMSD [F] between the frames of a and b [F, N, 3], pair by pair.

    b may be one frame [1, N, 3] for all of a.
    """
    distances = superpose(a, b) - b
    rmsd: NDArray[np.float64] = np.sqrt((distances**2).sum(axis=2).mean(axis=1))
    return rmsd


def rmsd_to(
    positions: NDArray[np.floating], conformations: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the RMSD [F, C] of frames [F, N, 3] to conformations [C, N, 3]."""
    return np.stack([pairwise_rmsd(positions, one[None]) for one in conformations], axis=1)
