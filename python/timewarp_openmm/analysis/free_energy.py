"""Free-energy profiles with bootstrap bands, and how far two maps differ beyond noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Bins of a torsion from -pi to pi.
PROFILE_BINS = 72
MAP_BINS = 36
#: Blocks that a sample is cut into, at most.
MOST_BLOCKS = 50
RESAMPLES = 200


@dataclass(frozen=True)
class Profile:
    """A free-energy profile -ln p in kT, its lowest bin at 0.

    Attributes
    ----------
    centres, free_energy, low, high : array [bins]
        `low` and `high` are the 2.5 % and 97.5 % quantiles of the bootstrap; empty bins are NaN.
    blocks : int
        Independent pieces that the bootstrap had.
    """

    centres: NDArray[np.float64]
    free_energy: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    blocks: int


def cut_blocks(
    chains: Sequence[NDArray[Any]], tau: float, most: int = MOST_BLOCKS
) -> list[NDArray[Any]]:
    """Cut chains into blocks of one length, at least 2 tau frames where the chains allow it.

    Blocks shorter than the correlation would make the bootstrap's bands too narrow.

    Parameters
    ----------
    chains : sequence of array [F, ...]
    tau : float
        Statistical inefficiency in frames; NaN counts as 1.

    Examples
    --------
    >>> [len(block) for block in cut_blocks([np.zeros(100), np.zeros(50)], 10.0)]
    [20, 20, 20, 20, 20, 20, 20]
    """
    frames = sum(len(chain) for chain in chains)
    wanted = max(frames / most, 2 * tau if math.isfinite(tau) else 1.0, 1.0)
    # At least two blocks from the longest chain: one block has no spread at all.
    size = max(1, min(math.ceil(wanted), max(len(chain) for chain in chains) // 2))
    return [
        chain[start : start + size]
        for chain in chains
        for start in range(0, len(chain) - size + 1, size)
    ]


def block_counts(
    blocks: Sequence[NDArray[np.floating]], bins: int, dimensions: int = 1
) -> NDArray[np.float64]:
    """Return counts [B, bins, ...] of angles / rad in each block ([F] or [F, 2])."""
    edges = np.linspace(-np.pi, np.pi, bins + 1)
    wrapped = [(np.asarray(b, dtype=float) + np.pi) % (2 * np.pi) - np.pi for b in blocks]
    if dimensions == 1:
        return np.stack([np.histogram(b, edges)[0] for b in wrapped]).astype(float)
    maps = [np.histogram2d(b[:, 0], b[:, 1], bins=[edges, edges])[0] for b in wrapped]
    return np.stack(maps)


def bootstrap(
    counts: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Return the sums [R, ...] of counts [B, ...] over blocks drawn with replacement."""
    rng = np.random.default_rng(seed)
    blocks = len(counts)
    weights = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)
    drawn: NDArray[np.float64] = np.tensordot(weights.astype(float), counts, axes=1)
    return drawn


def free_energy_profile(
    chains: Sequence[NDArray[np.floating]], tau: float = 1.0, bins: int = PROFILE_BINS
) -> Profile:
    """Return the profile of an angle / rad over chains of [F] frames.

    Raises
    ------
    ValueError
        If there are no two blocks to compare, that is, one frame only.
    """
    blocks = cut_blocks(chains, tau)
    if len(blocks) < 2:
        raise ValueError("one frame has no distribution; a profile takes at least two")
    counts = block_counts(blocks, bins)
    total = sum(block_counts([chain], bins)[0] for chain in chains)
    drawn = bootstrap(counts)
    # One offset for all: were each resample's lowest bin its zero, that bin's noise would be in
    # every other bin.
    with np.errstate(divide="ignore"):
        free_energy = -np.log(total / total.sum())
        spread = -np.log(drawn / drawn.sum(axis=1, keepdims=True))
        # Resamples in which a bin is empty say that it may be arbitrarily high.
        low, high = np.quantile(spread, [0.025, 0.975], axis=0, method="nearest")
    lowest = float(free_energy.min())
    edges = np.linspace(-np.pi, np.pi, bins + 1)
    empty = total == 0
    return Profile(
        centres=(edges[:-1] + edges[1:]) / 2,
        free_energy=np.where(empty, np.nan, free_energy - lowest),
        low=np.where(empty, np.nan, low - lowest),
        high=np.where(empty, np.nan, high - lowest),
        blocks=len(blocks),
    )


@dataclass(frozen=True)
class MapDifference:
    """How two distributions over (phi, psi) differ.

    Attributes
    ----------
    difference : array [bins, bins]
        p(sample) - p(reference).
    noise : array [bins, bins]
        Standard deviation of the difference, by bootstrap of both. Where a bin is empty in one,
        it has the noise that the other's share of it would have there.
    distance : float
        Total variation distance, half the sum of absolute differences, in [0, 1].
    floor : float
        Mean total variation between random halves of the reference's blocks.
    floor_high : float
        95 % quantile of the same.
    """

    difference: NDArray[np.float64]
    noise: NDArray[np.float64]
    distance: float
    floor: float
    floor_high: float


def map_difference(
    sample: Sequence[NDArray[np.floating]], reference: Sequence[NDArray[np.floating]]
) -> MapDifference:
    """Compare maps of blocks [F, 2] of (phi, psi) / rad.

    Raises
    ------
    ValueError
        If either has fewer than two blocks.
    """
    if len(sample) < 2 or len(reference) < 2:
        raise ValueError("comparing maps takes at least two blocks of each")
    counts = block_counts(sample, MAP_BINS, 2)
    reference_counts = block_counts(reference, MAP_BINS, 2)
    difference = normalise(counts.sum(0)) - normalise(reference_counts.sum(0))
    both = normalise(counts.sum(0) + reference_counts.sum(0))
    noise = np.hypot(_noise(counts, both, seed=1), _noise(reference_counts, both, seed=2))
    halves = half_distances(reference_counts)
    return MapDifference(
        difference,
        noise,
        total_variation(counts.sum(0), reference_counts.sum(0)),
        float(halves.mean()),
        float(np.quantile(halves, 0.95)),
    )


def _noise(
    counts: NDArray[np.float64], both: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Return the standard deviation of the shares of counts [B, bins, bins] of blocks.

    The bootstrap knows no noise in a bin without counts. There, that of a binomial share `both` is
    taken, enlarged as the bootstrap's is in the other bins.
    """
    total = counts.sum()
    share = normalise(counts.sum(0))
    drawn = normalise(bootstrap(counts, seed=seed)).var(0)
    binomial = float((share * (1 - share) / total).sum())
    # All counts in one bin: there is nothing to compare.
    enlarged = float(drawn.sum()) / binomial if binomial > 0 else 1.0
    expected = enlarged * both * (1 - both) / total
    deviation: NDArray[np.float64] = np.sqrt(np.where(share > 0, drawn, expected))
    return deviation


def total_variation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return half the sum of absolute differences of two histograms after normalisation.

    Examples
    --------
    >>> total_variation(np.array([1.0, 1.0]), np.array([0.0, 5.0]))
    0.5
    """
    return float(0.5 * np.abs(a / a.sum() - b / b.sum()).sum())


def half_distances(
    counts: NDArray[np.float64], splits: int = 50, seed: int = 3
) -> NDArray[np.float64]:
    """Return the total variation between random halves of blocks [B, ...], for each split."""
    rng = np.random.default_rng(seed)
    distances = np.zeros(splits)
    for split in range(splits):
        order = rng.permutation(len(counts))
        half = len(order) // 2
        distances[split] = total_variation(counts[order[:half]].sum(0), counts[order[half:]].sum(0))
    return distances


def normalise(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return maps [..., bins, bins] as probabilities."""
    shares: NDArray[np.float64] = counts / counts.sum(axis=(-1, -2), keepdims=True)
    return shares
