"""How many independent samples a chain holds, and whether chains agree.

ArviZ does the estimating: Geyer's initial monotone sequence over several chains, whose differences
count against them (Vehtari et al., Bayesian Analysis 16, 667 (2021), arXiv 1903.08008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .mbar import pymbar

#: Fewer effective samples than this are no basis for an estimate.
ENOUGH = 20.0
#: R-hat above which chains do not agree. Of a thousand independent frames it is up to 1.02 (Vehtari
#: et al. have 1.01 for longer chains).
LARGEST_RHAT = 1.05
#: Draws below which nothing is estimated.
FEWEST_DRAWS = 10
#: Points that equilibration detection looks at; its time grows with their square.
_EQUILIBRATION_POINTS = 400


@dataclass(frozen=True)
class SamplingQuality:
    """How well chains have sampled one quantity.

    Attributes
    ----------
    ess : float
        Effective samples in all chains together.
    tau : float
        Statistical inefficiency N / ESS = 1 + 2 (sum of autocorrelations), in frames.
    tau_error : float
        Standard error of `tau`, tau sqrt((4 M + 2) / N) with a window M of 5 tau (Madras and Sokal,
        J. Stat. Phys. 50, 109 (1988), eq. 3.19).
    rhat : float
        Rank-normalised split R-hat; 1 where chains agree.
    """

    ess: float
    tau: float
    tau_error: float
    rhat: float

    @property
    def ess_error(self) -> float:
        """Standard error of `ess`, of the same relative size as that of `tau`."""
        return self.ess * self.tau_error / self.tau


def stack_chains(chains: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Return chains as an array [C, F], each cut to the last F frames of the shortest."""
    frames = min(len(chain) for chain in chains)
    return np.stack([np.asarray(chain, dtype=float)[len(chain) - frames :] for chain in chains])


def sampling_quality(chains: NDArray[np.floating]) -> SamplingQuality:
    """Estimate ESS, autocorrelation time and R-hat of a real quantity.

    Parameters
    ----------
    chains : array [C, F] or [F]
        A value for each frame of each chain.

    Raises
    ------
    ValueError
        If there are too few frames, they are not finite, or the quantity is constant: its
        autocorrelation is not defined.
    """
    from arviz_stats.base import array_stats

    values = np.atleast_2d(np.asarray(chains, dtype=float))
    _check(values)
    # A chain that stands still has no variance within; ArviZ would divide by it.
    with np.errstate(divide="ignore", invalid="ignore"):
        ess = float(array_stats.ess(values, chain_axis=0, draw_axis=1, method="mean"))
        # ArviZ wants two chains; the halves of one are what it would compare anyway.
        compared = values
        if len(values) == 1:
            compared = values[0][: values.size // 2 * 2].reshape(2, -1)
        rhat = float(array_stats.rhat(compared, chain_axis=0, draw_axis=1, method="rank"))
    tau = values.size / ess
    window = 5 * max(tau, 1.0)
    error = tau * math.sqrt((4 * window + 2) / values.size)
    return SamplingQuality(ess, tau, error, rhat)


def circular_quality(chains: NDArray[np.floating]) -> SamplingQuality:
    """Estimate the quality of an angle / rad: the worse of its sine and cosine.

    Raises
    ------
    ValueError
        As `sampling_quality`.
    """
    values = np.asarray(chains, dtype=float)
    qualities = [sampling_quality(part) for part in (np.sin(values), np.cos(values))]
    return min(qualities, key=lambda quality: quality.ess)


def autocorrelation_function(series: NDArray[np.floating], most: int) -> NDArray[np.float64]:
    """Return the normalised autocorrelation of a series [F] at lags 0 ... `most`."""
    centred = np.asarray(series, dtype=float) - np.mean(series)
    size = len(centred)
    spectrum = np.abs(np.fft.rfft(centred, 2 * size)) ** 2
    covariance = np.fft.irfft(spectrum)[: min(most + 1, size)] / size
    normalised: NDArray[np.float64] = covariance / covariance[0]
    return normalised


@dataclass(frozen=True)
class Equilibration:
    """Where a series has settled: from `start` frames on it holds the most effective samples."""

    start: int
    tau: float
    ess: float


def detect_equilibration(series: NDArray[np.floating]) -> Equilibration:
    """Find the end of the initial transient (Chodera, J. Chem. Theory Comput. 12, 1799 (2016)).

    A long series is thinned to 400 points first.

    Raises
    ------
    ValueError
        As `sampling_quality`.
    """
    values = np.asarray(series, dtype=float)
    _check(values[None])
    stride = max(1, -(-len(values) // _EQUILIBRATION_POINTS))
    start, tau, ess = pymbar().timeseries.detect_equilibration(values[::stride])
    return Equilibration(int(start) * stride, float(tau) * stride, float(ess))


def _check(values: NDArray[np.float64]) -> None:
    if values.shape[1] < FEWEST_DRAWS:
        raise ValueError(
            f"{values.shape[1]} frames are too few to estimate an autocorrelation; "
            f"it takes at least {FEWEST_DRAWS}"
        )
    if not np.isfinite(values).all():
        raise ValueError("the values are not all finite")
    if np.ptp(values) < 1e-10 * max(1.0, float(np.abs(values).max())):
        raise ValueError("the quantity is constant, its autocorrelation is not defined")
