"""Metastable states of a reference, and how other samples populate them.

k-means on the torsions, a Markov state model at a lag time, PCCA+ (deeptime). Where the reference
never goes from one region to another and back, each region gets its states by itself: no count
matrix says anything about populations across them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .tica import torsion_features

#: A process counts as metastable where its timescale exceeds the lag by so much.
SLOW = 2.0
MOST_STATES = 8
CLUSTERS = 60
#: Frames that k-means sees; the others are only assigned.
_FITTED_FRAMES = 20_000
#: Frames of the reference farther than this quantile define what is outside of it.
_REACH_QUANTILE = 0.9995
OUTSIDE = -1


@dataclass(frozen=True)
class MetastableStates:
    """A partition of conformations into metastable states.

    Attributes
    ----------
    centres : array [K, 2T]
        k-means centres in sines and cosines of torsions.
    states : int array [K]
        State of each cluster, 0 ... M-1, the most populated in the reference first.
    names : list of M str
        "S1 (phi A:ALA2 -70, psi A:ALA2 -18)" with the mean torsions in degrees.
    reach : float
        Frames farther from every centre are outside of what the reference knows.
    connected : bool
        Whether the reference goes between all states and back.
    lag : int
        Frames.
    """

    centres: NDArray[np.float64]
    states: NDArray[np.int64]
    names: list[str]
    reach: float
    connected: bool
    lag: int

    def assign(self, torsions: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the state of each frame [F, T] / rad; OUTSIDE (-1) where there is none."""
        cluster, distance = nearest_centre(torsion_features(torsions), self.centres)
        return np.where(distance <= self.reach, self.states[cluster], OUTSIDE)


def nearest_centre(
    points: NDArray[np.float64], centres: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return index and distance of the nearest centre [K, D] for each point [F, D]."""
    index = np.zeros(len(points), dtype=np.int64)
    distance = np.zeros(len(points))
    for start in range(0, len(points), 20_000):
        part = points[start : start + 20_000]
        squares = (part**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * part @ centres.T
        index[start : start + 20_000] = squares.argmin(1)
        distance[start : start + 20_000] = np.sqrt(np.maximum(squares.min(1), 0.0))
    return index, distance


def find_states(
    trajectories: Sequence[NDArray[np.floating]],
    names: Sequence[str],
    lag: int,
    clusters: int = CLUSTERS,
    seed: int = 0,
) -> MetastableStates:
    """Find the metastable states of reference trajectories.

    Parameters
    ----------
    trajectories : sequence of array [F, T], rad
    names : sequence of T str
        Of the torsions, for the names of the states; those that tell states apart are used.
    lag : int
        Frames of the Markov state model.

    Raises
    ------
    ValueError
        If there are no torsions, too few frames, or so many separate regions that the reference
        is no more than a path.
    """
    if not trajectories or trajectories[0].shape[1] == 0:
        raise ValueError("the molecule has no torsions to tell states apart by")
    frames = sum(len(t) for t in trajectories)
    if frames < 10 * lag or frames < 100:
        raise ValueError(
            f"{frames} frames of reference are too few for metastable states at a lag of {lag}"
        )
    features = [torsion_features(t) for t in trajectories]
    pooled = np.concatenate(features)
    centres = _cluster(pooled, min(clusters, frames // 20), seed)
    assigned = [nearest_centre(f, centres) for f in features]
    discrete = [a[0] for a in assigned]
    reach = float(np.quantile(np.concatenate([a[1] for a in assigned]), _REACH_QUANTILE))
    labels, regions = _lump(discrete, len(centres), lag)
    weights = np.bincount(np.concatenate(discrete), minlength=len(centres)).astype(float)
    order = np.argsort(-np.bincount(labels, weights))
    labels = np.argsort(order)[labels]
    return MetastableStates(
        centres,
        labels,
        _describe(centres, labels, weights, names),
        reach,
        regions == 1,
        lag,
    )


def _cluster(points: NDArray[np.float64], clusters: int, seed: int) -> NDArray[np.float64]:
    from deeptime.clustering import KMeans

    fitted = points[:: -(-len(points) // _FITTED_FRAMES)]
    estimator = KMeans(clusters, fixed_seed=seed + 1, max_iter=50, n_jobs=1)
    with warnings.catch_warnings():
        # Centres that still move a little serve as well as settled ones.
        warnings.filterwarnings("ignore", message="Algorithm did not reach convergence")
        return np.asarray(estimator.fit_fetch(fitted).cluster_centers, dtype=float)


def _lump(
    discrete: list[NDArray[np.int64]], clusters: int, lag: int
) -> tuple[NDArray[np.int64], int]:
    """Return the state of each cluster and how many separate regions there are."""
    from deeptime.markov import TransitionCountEstimator

    usable = [d.astype(np.int32) for d in discrete if len(d) > lag]
    counts = TransitionCountEstimator(lag, "sliding", n_states=clusters).fit_fetch(usable)
    labels = np.full(clusters, -1, dtype=np.int64)
    found = regions = 0
    whole = np.asarray(counts.count_matrix, dtype=float)
    for members in counts.connected_sets(directed=True):
        members = np.asarray(members)
        # Less than a thousandth of the counts, or a cluster that is entered once and left once,
        # is no region of its own; it joins a neighbour below.
        if whole[np.ix_(members, members)].sum() < 1e-3 * whole.sum():
            continue
        parts = _metastable(counts.submodel(members), len(members), lag)
        labels[members] = found + parts
        found += int(parts.max()) + 1
        regions += 1
    if found > MOST_STATES:
        raise ValueError(
            f"the reference falls apart into {regions} regions that it does not leave and come "
            "back to; it is too short to have metastable states"
        )
    return _join_rest(labels, whole), regions


def _metastable(counts: object, size: int, lag: int) -> NDArray[np.int64]:
    from deeptime.markov.msm import MaximumLikelihoodMSM

    model = MaximumLikelihoodMSM(reversible=True).fit_fetch(counts)
    if size < 3:
        return np.zeros(size, dtype=np.int64)
    slow = int(np.sum(np.asarray(model.timescales(k=min(size - 1, MOST_STATES))) > SLOW * lag))
    states = min(slow + 1, MOST_STATES, size - 1)
    if states < 2:
        return np.zeros(size, dtype=np.int64)
    assignments = np.asarray(model.pcca(states).assignments, dtype=np.int64)
    # PCCA+ may leave a state without members.
    return np.unique(assignments, return_inverse=True)[1].astype(np.int64)


def _join_rest(labels: NDArray[np.int64], counts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give clusters outside of every region the state with which they exchange most."""
    if (labels < 0).all():
        return np.zeros(len(labels), dtype=np.int64)
    joined = labels.copy()
    exchange = counts + counts.T
    known = np.flatnonzero(labels >= 0)
    for cluster in np.flatnonzero(labels < 0):
        joined[cluster] = labels[known[exchange[cluster, known].argmax()]]
    return joined


def _describe(
    centres: NDArray[np.float64],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    names: Sequence[str],
) -> list[str]:
    half = centres.shape[1] // 2
    vectors = centres[:, half:] + 1j * centres[:, :half]
    means = np.stack(
        [np.average(vectors[labels == s], axis=0, weights=weights[labels == s] + 1e-9)
         for s in range(int(labels.max()) + 1)]
    )  # fmt: skip
    # At most the two torsions that differ most between the states.
    spread = np.abs(means[:, None] - means[None, :]).max(axis=(0, 1))
    shown = [i for i in np.argsort(-spread)[:2] if spread[i] > 0.2] if len(means) > 1 else []
    angles = np.degrees(np.angle(means))
    return [
        f"S{s + 1}"
        + (
            f" ({', '.join(f'{names[i]} {angles[s, i]:.0f}°' for i in sorted(shown))})"
            if shown
            else ""
        )
        for s in range(len(means))
    ]


@dataclass(frozen=True)
class Occupation:
    """What chains did among M states.

    Attributes
    ----------
    populations, errors : array [M]
        Share of the frames, and its standard error from blocks (NaN from fewer than 2 blocks).
    visits : int array [M]
        How many separate stays there were, over all chains.
    transitions : int array [M, M]
        From row to column, between successive frames that are in a state; diagonal 0.
    outside : float
        Share of frames in no state of the reference.
    """

    populations: NDArray[np.float64]
    errors: NDArray[np.float64]
    visits: NDArray[np.int64]
    transitions: NDArray[np.int64]
    outside: float


def occupation(chains: Sequence[NDArray[np.int64]], states: int, blocks: int = 20) -> Occupation:
    """Count populations, stays and transitions of chains of states [F].

    Examples
    --------
    >>> result = occupation([np.array([0, 0, 1, 1, -1, 1, 0])], 2)
    >>> result.visits.tolist(), result.transitions.tolist()
    ([2, 1], [[0, 1], [1, 0]])
    """
    transitions = np.zeros((states, states), dtype=np.int64)
    visits = np.zeros(states, dtype=np.int64)
    for chain in chains:
        inside = chain[chain != OUTSIDE]
        if len(inside) == 0:
            continue
        changed = np.flatnonzero(inside[1:] != inside[:-1])
        np.add.at(transitions, (inside[changed], inside[changed + 1]), 1)
        np.add.at(visits, inside[np.concatenate([[0], changed + 1])], 1)
    pooled = np.concatenate(chains)
    pieces = [p for c in chains for p in np.array_split(c, max(1, blocks // len(chains))) if len(p)]
    shares = np.array([[np.mean(p == s) for s in range(states)] for p in pieces])
    errors = np.full(states, np.nan)
    if len(pieces) > 1:
        errors = shares.std(axis=0, ddof=1) / np.sqrt(len(pieces))
    return Occupation(
        np.array([np.mean(pooled == s) for s in range(states)]),
        errors,
        visits,
        transitions,
        float(np.mean(pooled == OUTSIDE)),
    )
