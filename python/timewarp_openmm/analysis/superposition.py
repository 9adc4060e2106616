"""Root-mean-square deviations after superposition."""

from __future__ import annotations

import mdtraj
import numpy as np
from numpy.typing import NDArray


def pairwise_rmsd(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the least RMSD [F] between the frames of a and b [F, N, 3], pair by pair, in nm.

    Proper rotations only (Kabsch, Acta Cryst. A 32, 922 (1976)).
    """
    a = np.asarray(a, dtype=float) - np.mean(a, axis=1, keepdims=True, dtype=float)
    b = np.asarray(b, dtype=float) - np.mean(b, axis=1, keepdims=True, dtype=float)
    covariance = np.einsum("fni,fnj->fij", a, b)
    singular = np.linalg.svd(covariance, compute_uv=False)
    singular[:, 2] *= np.where(np.linalg.det(covariance) < 0, -1.0, 1.0)
    squares = (a**2).sum((1, 2)) + (b**2).sum((1, 2)) - 2 * singular.sum(1)
    deviation: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0.0) / a.shape[1])
    return deviation


def rmsd_to(
    positions: NDArray[np.floating],
    conformations: NDArray[np.floating],
    atoms: NDArray[np.int64],
    topology: mdtraj.Topology,
) -> NDArray[np.float64]:
    """Return the RMSD [F, C] / nm of frames [F, N, 3] to conformations [C, N, 3] over `atoms`."""
    frames = mdtraj.Trajectory(positions, topology)
    targets = mdtraj.Trajectory(conformations, topology)
    columns = [
        mdtraj.rmsd(frames, targets, frame=c, atom_indices=atoms) for c in range(len(conformations))
    ]
    return np.stack(columns, axis=1).astype(float)
