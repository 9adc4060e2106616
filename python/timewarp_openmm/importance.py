"""Importance weights: how draws of one distribution stand in for those of another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: kT; stands in for energies that are not finite, far above any that are: no weight at all.
UNPHYSICAL = 1e10


def normalised_weights(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights of sum 1."""
    weights: NDArray[np.float64] = np.exp(log_weights - log_weights.max())
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


def kish_size(log_weights: NDArray[np.float64]) -> float:
    """Return Kish's effective sample size, (sum of weights)^2 / (sum of their squares).

    Examples
    --------
    >>> round(kish_size(np.zeros(10)), 6), kish_size(np.array([0.0, -np.inf]))
    (10.0, 1.0)
    """
    return float(1 / (normalised_weights(log_weights) ** 2).sum())
