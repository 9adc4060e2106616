"""Backbone torsions of a trajectory."""

from __future__ import annotations

import mdtraj
import numpy as np
from numpy.typing import NDArray


def phi_psi(trajectory: mdtraj.Trajectory, residue: int = 0) -> NDArray[np.float64]:
    """Return phi and psi of one residue over a trajectory.

    Parameters
    ----------
    trajectory : mdtraj.Trajectory
        F frames.
    residue : int
        Which of the residues that have both, counted from 0.

    Returns
    -------
    array [F, 2], radians in [-pi, pi]

    Raises
    ------
    ValueError
        If the topology has no such residue.
    """
    phi_atoms, phi = mdtraj.compute_phi(trajectory)
    psi_atoms, psi = mdtraj.compute_psi(trajectory)
    # Both are defined for the residue whose CA is the third atom of phi and the second of psi.
    columns = [
        (i, j)
        for i, phi_quadruple in enumerate(phi_atoms)
        for j, psi_quadruple in enumerate(psi_atoms)
        if phi_quadruple[2] == psi_quadruple[1]
    ]
    if residue >= len(columns):
        raise ValueError(
            f"the topology has {len(columns)} residues with phi and psi; there is no number "
            f"{residue} (counted from 0)"
        )
    i, j = columns[residue]
    return np.stack([phi[:, i], psi[:, j]], axis=1).astype(np.float64)


def count_crossings(angle: NDArray[np.float64], low: float = 0.0, high: float = 2.4) -> int:
    """Count how often a torsion goes from outside the window (low, high) to inside or back.

    Parameters
    ----------
    angle : array [F], radians
    low, high : float
        The window; the default is the basin phi > 0 of a dipeptide, between its two barriers.

    Examples
    --------
    >>> count_crossings(np.array([-1.0, 1.0, 1.1, -2.0, -1.5, 1.0]))
    3
    """
    inside = (angle > low) & (angle < high)
    return int(np.count_nonzero(inside[1:] != inside[:-1]))
