"""Slow coordinates, metastable states and what samples do among them, on a process made for it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from timewarp_openmm.analysis.states import OUTSIDE, find_states, occupation
from timewarp_openmm.analysis.tica import fit_slow_coordinates

NAMES = ["phi", "psi"]


def hopping(frames: int, rate: float, seed: int, start: int = 0) -> NDArray[np.float64]:
    """Two torsions: one hops between -1.5 and 1.5 with `rate` per frame, the other is fast."""
    rng = np.random.default_rng(seed)
    state = (start + np.cumsum(rng.random(frames) < rate)) % 2
    angles = np.where(state == 0, -1.5, 1.5) + 0.2 * rng.standard_normal(frames)
    return np.stack([angles, rng.vonmises(0.0, 0.5, frames)], axis=1)


def test_tica_finds_the_hopping_torsion_and_its_timescale() -> None:
    trajectories = [hopping(20_000, 0.01, seed) for seed in range(3)]
    slow = fit_slow_coordinates(trajectories, lag=10)
    first = slow.project(trajectories[0])[:, 0]
    correlation = np.corrcoef(first, np.sin(trajectories[0][:, 0]))[0, 1]
    assert abs(correlation) > 0.99
    # Hops of rate k either way decay with 2 k.
    assert slow.timescales[0] == pytest.approx(-1 / np.log(1 - 0.02), rel=0.15)
    pooled = np.concatenate([slow.project(t) for t in trajectories])
    np.testing.assert_allclose(pooled.mean(0), 0.0, atol=1e-8)
    np.testing.assert_allclose(pooled.std(0), 1.0, atol=1e-8)


@pytest.mark.parametrize(
    ("trajectories", "message"),
    [
        ([np.zeros((100, 0))], "no torsions"),
        ([np.zeros((5, 2))], "too short"),
        ([np.ones((500, 2))], "no torsion of the reference moves"),
    ],
)
def test_tica_says_what_it_cannot_do(trajectories: list[NDArray[np.float64]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_slow_coordinates(trajectories, lag=10)


def test_states_of_the_hopping_torsion() -> None:
    trajectory = hopping(20_000, 0.01, 1)
    states = find_states([trajectory], NAMES, lag=5)
    assert len(states.names) == 2
    assert states.connected
    assert all("phi" in name and "psi" not in name for name in states.names)
    assigned = states.assign(trajectory)
    truth = (trajectory[:, 0] > 0).astype(int)
    agreement = np.mean(assigned == truth)
    assert max(agreement, 1 - agreement) > 0.99
    far = states.assign(np.array([[np.pi, 0.0]]))
    assert far.tolist() == [OUTSIDE]


def test_states_that_the_reference_does_not_connect() -> None:
    parts = [hopping(5000, 0.0, 1), hopping(2500, 0.0, 2, start=1)]
    states = find_states(parts, NAMES, lag=5)
    assert len(states.names) == 2
    assert not states.connected
    # The more populated one first.
    assert "-86" in states.names[0]


def test_a_path_has_no_states() -> None:
    steps = np.linspace(-3.0, 3.0, 4000) + 0.01 * np.random.default_rng(1).standard_normal(4000)
    path = np.stack([steps, np.zeros(4000)], axis=1)
    with pytest.raises(ValueError, match="falls apart into"):
        find_states([path], NAMES, lag=5)


def test_states_need_frames_and_torsions() -> None:
    with pytest.raises(ValueError, match="too few"):
        find_states([hopping(50, 0.1, 1)], NAMES, lag=5)
    with pytest.raises(ValueError, match="no torsions"):
        find_states([np.zeros((500, 0))], [], lag=5)


def test_occupation_by_hand() -> None:
    result = occupation([np.array([0, 0, 1, -1, 1, 2]), np.array([2, 2, 0])], 4)
    assert result.populations == pytest.approx([3 / 9, 2 / 9, 3 / 9, 0.0])
    assert result.visits.tolist() == [2, 1, 2, 0]
    assert result.transitions.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0] * 4]
    assert result.outside == pytest.approx(1 / 9)


def test_error_of_populations_is_their_spread() -> None:
    shares, errors = [], []
    for seed in range(30):
        chain = (hopping(4000, 0.1, seed)[:, 0] > 0).astype(int)
        found = occupation([chain], 2)
        shares.append(found.populations[1])
        errors.append(found.errors[1])
    assert np.mean(errors) == pytest.approx(np.std(shares, ddof=1), rel=0.4)


def test_basins_visited_once_or_never_are_warned_of() -> None:
    from timewarp_openmm.report.distributions import _warn_of_states
    from timewarp_openmm.report.study import LONG

    states = find_states([hopping(20_000, 0.01, 1)], NAMES, lag=5)

    def warnings(chain: list[int]) -> str:
        found: list[str] = []
        _warn_of_states(found, states, {LONG: occupation([np.array(chain)], 2)})
        return "; ".join(found)

    assert warnings([0, 1] * 50) == ""
    assert "never visited: S2" in warnings([0] * 100)
    assert "visited once only: S2" in warnings([0] * 50 + [1] * 20 + [0] * 30)
    assert "no state that the MD knows" in warnings([0, 1] * 50 + [OUTSIDE] * 5)
