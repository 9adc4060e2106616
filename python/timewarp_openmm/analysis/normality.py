"""Do auxiliary velocities follow N(0, 1)?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Normality:
    """Moments of a sample that should be standard normal.

    Attributes
    ----------
    count : int
    mean, variance, kurtosis : float
        0, 1, 3 for a standard normal.
    distance, critical : float
        Kolmogorov-Smirnov statistic against N(0, 1), and its 1 % critical value 1.63 / sqrt(n).
    """

    count: int
    mean: float
    variance: float
    kurtosis: float
    distance: float
    critical: float


def compare_with_normal(values: NDArray[np.floating]) -> Normality:
    """Compare independent values with N(0, 1).

    Raises
    ------
    ValueError
        If there are fewer than 100.
    """
    from scipy.stats import kstest

    flat = np.asarray(values, dtype=float).ravel()
    if len(flat) < 100:
        raise ValueError(f"{len(flat)} velocities are too few to compare with N(0, 1)")
    centred = flat - flat.mean()
    variance = float((centred**2).mean())
    return Normality(
        count=len(flat),
        mean=float(flat.mean()),
        variance=variance,
        kurtosis=float((centred**4).mean() / variance**2) if variance > 0 else float("nan"),
        distance=float(kstest(flat, "norm").statistic),
        critical=1.63 / np.sqrt(len(flat)),
    )
