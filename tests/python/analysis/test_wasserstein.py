"""Wasserstein distances against all assignments of small samples."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from timewarp_openmm.analysis.wasserstein import energy_w2, euclidean_w2, torus_w2


def brute_force(cost: NDArray[np.float64]) -> float:
    n = len(cost)
    return float(
        np.sqrt(min(sum(cost[i, p[i]] for i in range(n)) for p in permutations(range(n))) / n)
    )


@pytest.mark.parametrize("seed", range(5))
def test_torus_by_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-np.pi, np.pi, (2, 6, 3))
    turns = np.array([-2 * np.pi, 0.0, 2 * np.pi])
    # The nearest image of each angle, without using a modulus.
    difference = (a[:, None] - b[None])[..., None] + turns
    cost = (difference**2).min(-1).sum(-1)
    assert torus_w2(a, b) == pytest.approx(brute_force(cost))


@pytest.mark.parametrize("seed", range(5))
def test_plane_and_line_by_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 6, 2))
    assert euclidean_w2(a, b) == pytest.approx(brute_force(((a[:, None] - b[None]) ** 2).sum(-1)))
    line = brute_force((a[:, None, 0] - b[None, :, 0]) ** 2)
    assert energy_w2(a[:, 0], b[:, 0]) == pytest.approx(line)


def test_samples_of_different_size() -> None:
    assert energy_w2(np.array([0.0, 0.0, 3.0, 3.0]), np.array([0.0, 3.0])) == pytest.approx(0.0)
    a = np.array([[0.1], [0.1], [2.0], [2.0]])
    assert torus_w2(a, np.array([[0.1], [2.0]])) == pytest.approx(0.0, abs=1e-7)


def test_across_the_border_of_the_circle() -> None:
    a, b = np.full((4, 1), np.pi - 0.1), np.full((4, 1), -np.pi + 0.1)
    assert torus_w2(a, b) == pytest.approx(0.2)


def test_known_distance_of_normal_distributions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 100_000), rng.normal(2, 3, 80_000)
    assert energy_w2(a, b) == pytest.approx(np.sqrt(2**2 + (3 - 1) ** 2), rel=0.02)
