"""What is kept of a trajectory read in pieces is what reading it at once would give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from timewarp_openmm.analysis.chain import ChainWatch
from timewarp_openmm.analysis.series import BlockHistograms, BlockMeans, ThinnedSeries
from timewarp_openmm.molecule.superposition import pairwise_rmsd

cuts = st.lists(st.integers(1, 40), min_size=1, max_size=20)


def pieces(values: NDArray, sizes: list[int]) -> list[NDArray]:
    return np.split(values, np.cumsum(sizes)[:-1])


@given(sizes=cuts, most=st.integers(2, 30))
def test_thinned_series(sizes: list[int], most: int) -> None:
    whole = np.arange(sum(sizes))
    series = ThinnedSeries(most)
    for piece in pieces(whole, sizes):
        series.append(piece)
    np.testing.assert_array_equal(series.values, whole[:: series.stride])
    assert len(series.values) <= most
    assert len(series.values) * 2 * series.stride > len(whole)
    assert series.count == len(whole)


@given(sizes=cuts, most=st.integers(2, 10))
def test_block_means(sizes: list[int], most: int) -> None:
    whole = np.random.default_rng(sum(sizes)).random(sum(sizes))
    means = BlockMeans(most)
    for piece in pieces(whole, sizes):
        means.append(piece)
    expected = [whole[i : i + means.size].mean() for i in range(0, len(whole), means.size)]
    np.testing.assert_allclose(means.values, expected)
    assert len(expected) <= most


@given(sizes=cuts)
@settings(deadline=None)
def test_block_histograms(sizes: list[int]) -> None:
    whole = np.random.default_rng(1).normal(0, 1, (sum(sizes), 2))
    histograms = BlockHistograms(np.full(2, -2.0), np.full(2, 2.0), bins=8, most=4, first=3)
    for piece in pieces(whole, sizes):
        histograms.append(piece)
    edges = np.concatenate([[-np.inf], np.linspace(-2, 2, 9), [np.inf]])
    for k in range(2):
        np.testing.assert_array_equal(
            histograms.counts.sum(0)[k], np.histogram(whole[:, k], edges)[0]
        )
    blocks = histograms.counts.sum(axis=(1, 2)) // 2
    assert len(blocks) <= 4
    assert (blocks[:-1] == blocks[0]).all()


@given(sizes=cuts, seed=st.integers(0, 50))
@settings(deadline=None, max_examples=40)
def test_chain_watch_by_brute_force(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = sum(sizes)
    accepted = rng.random(frames) < 0.3
    states = rng.standard_normal((frames + 1, 5, 3)).astype(np.float32)
    whole = states[np.cumsum(accepted)]
    watch = ChainWatch(np.arange(5))
    for piece in pieces(whole, sizes):
        watch.append(piece)
    moved = [bool((whole[i] != whole[i - 1]).any()) for i in range(1, frames)]
    longest = stay = 0
    for now in moved:
        stay = 0 if now else stay + 1
        longest = max(longest, stay)
    assert watch.frames == frames
    assert watch.moved == sum(moved)
    assert watch.longest_stay == longest
    if longest:
        stuck = whole[watch.longest_at : watch.longest_at + longest + 1]
        assert (stuck == stuck[0]).all()
    if frames > 1:
        assert watch.moved_share == pytest.approx(np.mean(moved))
        np.testing.assert_allclose(
            watch.steps.values, pairwise_rmsd(whole[1:], whole[:-1]), atol=1e-6
        )
