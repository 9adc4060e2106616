"""Wasserstein metrics as the literature on Boltzmann generators defines them (docs/metrics.md).

Energy-W2 and torus-W2: Tan et al., "Scalable equilibrium sampling with sequential Boltzmann
generators", arXiv 2502.18462. TICA-W2: Tan et al., "Amortized sampling with transferable
normalizing flows", arXiv 2508.18175. POT solves the transport.
"""

from __future__ import annotations

import math
import os

import numpy as np
from numpy.typing import NDArray

# Several backends would each import their array library.
os.environ.setdefault("POT_BACKEND_DISABLE_PYTORCH", "1")

#: Points of each sample in an exact transport problem; the time grows with their cube.
MOST_POINTS = 1000


def energy_w2(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Return the 2-Wasserstein distance of two samples of energies, in their unit.

    In one dimension the transport is that of sorted values, so all of them are used.

    Examples
    --------
    >>> energy_w2(np.array([0.0, 1.0]), np.array([4.0, 3.0]))
    3.0
    """
    import ot

    return math.sqrt(float(ot.emd2_1d(np.asarray(a, dtype=float), np.asarray(b, dtype=float))))


def torus_w2(
    a: NDArray[np.floating], b: NDArray[np.floating], most: int = MOST_POINTS, seed: int = 0
) -> float:
    """Return the 2-Wasserstein distance of two samples of angles, in rad.

    Parameters
    ----------
    a, b : array [F, T], rad
        The squared cost of a pair is the sum over T of the squared differences, each wrapped to
        [-pi, pi]. At most `most` rows of each are drawn.
    """
    left, right = _draw(a, most, seed), _draw(b, most, seed + 1)
    cost = np.zeros((len(left), len(right)))
    for x, y in zip(left.T, right.T, strict=True):
        turn = x[:, None] - y[None, :]
        cost += ((turn + np.pi) % (2 * np.pi) - np.pi) ** 2
    return _transport(cost)


def euclidean_w2(
    a: NDArray[np.floating], b: NDArray[np.floating], most: int = MOST_POINTS, seed: int = 0
) -> float:
    """Return the 2-Wasserstein distance of two samples of points [F, K]; for TICA, K = 2."""
    left, right = _draw(a, most, seed), _draw(b, most, seed + 1)
    return _transport(((left[:, None, :] - right[None, :, :]) ** 2).sum(-1))


def _draw(points: NDArray[np.floating], most: int, seed: int) -> NDArray[np.float64]:
    values = np.asarray(points, dtype=float)
    if len(values) <= most:
        return values
    rows = np.random.default_rng(seed).choice(len(values), most, replace=False)
    return np.asarray(values[np.sort(rows)])


def _transport(cost: NDArray[np.float64]) -> float:
    import ot

    # Rounding may leave a tiny negative number for identical samples.
    return math.sqrt(max(0.0, float(ot.emd2([], [], cost, numItermax=1_000_000))))
