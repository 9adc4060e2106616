"""Profiles, bands and map differences against distributions that are known."""

from __future__ import annotations

import numpy as np
import pytest

from timewarp_openmm.analysis.free_energy import (
    PROFILE_BINS,
    block_counts,
    bootstrap,
    cut_blocks,
    free_energy_profile,
    half_distances,
    map_difference,
    total_variation,
)


def test_profile_of_a_von_mises_distribution() -> None:
    rng = np.random.default_rng(1)
    kappa = 2.0
    inside = []
    for _ in range(20):
        profile = free_energy_profile([rng.vonmises(0.5, kappa, 20_000)])
        exact = -kappa * np.cos(profile.centres - 0.5)
        exact -= exact.min()
        # The profile's zero is its own lowest bin, whose noise moves all of it.
        shift = np.average(profile.free_energy - exact, weights=np.exp(-exact))
        inside.append((profile.low - shift <= exact) & (exact <= profile.high - shift))
        low = exact < 2.0
        np.testing.assert_allclose((profile.free_energy - shift)[low], exact[low], atol=0.35)
    assert 0.85 < np.mean(inside) < 0.99


def test_correlated_frames_make_wider_bands() -> None:
    rng = np.random.default_rng(2)
    repeated = np.repeat(rng.vonmises(0.0, 1.0, 400), 50)
    naive = free_energy_profile([repeated], tau=1.0)
    aware = free_energy_profile([repeated], tau=500.0)
    independent = free_energy_profile([rng.vonmises(0.0, 1.0, 20_000)])
    middle = PROFILE_BINS // 2
    width = [float(p.high[middle] - p.low[middle]) for p in (naive, aware, independent)]
    assert width[1] > 3 * width[2]
    assert aware.blocks == 20


def test_blocks_are_not_longer_than_half_a_chain() -> None:
    assert [len(b) for b in cut_blocks([np.zeros(10)], 1e6)] == [5, 5]
    assert cut_blocks([np.zeros(1)], 1.0)[0].shape == (1,)


def test_one_frame_has_no_profile() -> None:
    with pytest.raises(ValueError, match="one frame"):
        free_energy_profile([np.zeros(1)])


def test_bootstrap_keeps_the_number_of_blocks() -> None:
    counts = np.eye(6)
    drawn = bootstrap(counts, resamples=500)
    assert (drawn.sum(1) == 6).all()
    assert drawn.mean(0) == pytest.approx(np.ones(6), abs=0.2)
    assert drawn.std() == pytest.approx(np.sqrt(5 / 6), rel=0.1)


def test_counts_of_angles_wrap() -> None:
    counts = block_counts([np.array([-np.pi, np.pi, 3 * np.pi, 0.0])], 4)
    assert counts.tolist() == [[3, 0, 1, 0]]


def test_total_variation_by_brute_force() -> None:
    rng = np.random.default_rng(3)
    p, q = rng.random(8), rng.random(8)
    p, q = p / p.sum(), q / q.sum()
    best = max(
        abs(sum(p[i] - q[i] for i in range(8) if mask >> i & 1)) for mask in range(256)
    )  # the largest difference of the probability of any event
    assert total_variation(p, q) == pytest.approx(best)


def test_difference_of_equal_distributions_is_at_the_noise_floor() -> None:
    rng = np.random.default_rng(4)
    blocks = [rng.vonmises(0, 1, (400, 2)) for _ in range(40)]
    others = [rng.vonmises(0, 1, (400, 2)) for _ in range(40)]
    moved = [rng.vonmises(0.8, 1, (400, 2)) for _ in range(40)]
    same, different = map_difference(others, blocks), map_difference(moved, blocks)
    # Halves of 8,000 frames differ by more than two samples of 16,000.
    assert 0.5 < same.distance / same.floor < 1.0
    assert different.distance > 1.5 * different.floor_high
    assert half_distances(block_counts(blocks, 12, 2)).std() > 0
    ratio = same.difference[same.noise > 0] / same.noise[same.noise > 0]
    assert ratio.std() == pytest.approx(1.0, rel=0.15)


def test_an_empty_bin_of_a_short_sample_is_noise() -> None:
    rng = np.random.default_rng(5)
    blocks = [rng.vonmises(0, 1, (400, 2)) for _ in range(40)]
    short = [rng.vonmises(0, 1, (20, 2)) for _ in range(10)]
    found = map_difference(short, blocks)
    empty = (block_counts(short, 36, 2).sum(0) == 0) & (found.noise > 0)
    assert empty.mean() > 0.5
    ratio = found.difference[empty] / found.noise[empty]
    assert np.abs(ratio).max() < 3.0
