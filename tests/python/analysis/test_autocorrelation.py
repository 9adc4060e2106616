"""ESS, autocorrelation times, R-hat and equilibration against processes that are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from timewarp_openmm.analysis.autocorrelation import (
    autocorrelation_function,
    circular_quality,
    detect_equilibration,
    sampling_quality,
    stack_chains,
)


def ar1(phi: float, chains: int, frames: int, seed: int) -> NDArray[np.float64]:
    """Stationary AR(1): autocorrelation phi^k, so tau = (1 + phi) / (1 - phi)."""
    from scipy.signal import lfilter

    noise = np.random.default_rng(seed).standard_normal((chains, frames))
    noise[:, 0] /= np.sqrt(1 - phi**2)
    return np.asarray(lfilter([1.0], [1.0, -phi], noise, axis=1))


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("chains", [1, 4])
def test_tau_of_ar1(phi: float, chains: int) -> None:
    tau = (1 + phi) / (1 - phi)
    quality = sampling_quality(ar1(phi, chains, 80_000 // chains, seed=1))
    assert quality.tau == pytest.approx(tau, rel=0.1)
    assert quality.ess == pytest.approx(80_000 / tau, rel=0.1)
    assert quality.rhat < 1.01


def test_quoted_error_is_the_spread_over_repetitions() -> None:
    qualities = [sampling_quality(ar1(0.9, 1, 10_000, seed)) for seed in range(40)]
    spread = np.std([q.tau for q in qualities], ddof=1)
    quoted = np.mean([q.tau_error for q in qualities])
    assert 0.5 < quoted / spread < 2.0
    inside = [abs(q.tau - 19.0) < 2 * q.tau_error for q in qualities]
    assert np.mean(inside) > 0.8


def test_antithetic_chain_has_more_than_its_frames() -> None:
    quality = sampling_quality(ar1(-0.5, 1, 20_000, seed=2))
    assert quality.tau == pytest.approx(1 / 3, rel=0.15)


def test_angle_takes_the_worse_of_sine_and_cosine() -> None:
    slow, fast = ar1(0.95, 1, 20_000, 3)[0], ar1(0.0, 1, 20_000, 4)[0]
    angle = np.where(slow > 0, 1.0, -1.0) * (np.pi / 2) + 0.1 * fast
    sine, cosine = sampling_quality(np.sin(angle)), sampling_quality(np.cos(angle))
    assert sine.ess < 0.3 * cosine.ess
    assert circular_quality(angle).ess == sine.ess
    # A turn by 2 pi changes nothing.
    assert circular_quality(angle + 2 * np.pi).ess == pytest.approx(sine.ess)


def test_chains_that_disagree_have_few_effective_samples() -> None:
    chains = ar1(0.5, 4, 2000, 5)
    chains[0] += 3.0
    quality = sampling_quality(chains)
    assert quality.rhat > 1.1
    assert quality.ess < 20


@pytest.mark.parametrize("shape", [(1, 501), (3, 501), (4, 500)])
def test_odd_lengths(shape: tuple[int, int]) -> None:
    assert np.isfinite(sampling_quality(ar1(0.5, *shape, seed=10)).rhat)


def test_rhat_is_of_ranks() -> None:
    chains = ar1(0.2, 4, 1000, 6)
    assert sampling_quality(chains).rhat == pytest.approx(
        sampling_quality(np.exp(chains)).rhat, abs=0.01
    )


def test_autocorrelation_function_by_brute_force() -> None:
    series = ar1(0.7, 1, 300, 7)[0]
    centred = series - series.mean()
    brute = [float((centred[: 300 - k] * centred[k:]).sum()) for k in range(6)]
    np.testing.assert_allclose(
        autocorrelation_function(series, 5), np.array(brute) / brute[0], atol=1e-12
    )


def test_equilibration_of_a_transient() -> None:
    series = ar1(0.5, 1, 4000, 8)[0]
    series[:1000] += 10.0
    found = detect_equilibration(series)
    assert 900 <= found.start <= 1300
    assert detect_equilibration(ar1(0.5, 1, 4000, 9)[0]).start < 1000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(100), "constant"),
        (np.zeros(3), "too few"),
        (np.array([1.0, np.nan] * 50), "not all finite"),
    ],
)
def test_what_cannot_be_estimated_is_said(values: NDArray[np.float64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampling_quality(values)
    with pytest.raises(ValueError, match=message):
        detect_equilibration(values)


def test_chains_are_cut_to_the_shortest_from_the_front() -> None:
    stacked = stack_chains([np.arange(5.0), np.arange(3.0)])
    assert stacked.tolist() == [[2.0, 3.0, 4.0], [0.0, 1.0, 2.0]]
