"""Free energies from draws and chains whose distributions are normal, so that all is known.

Statistical tests have fixed seeds and allow four standard errors: a right program fails one
comparison in 16,000.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pymbar
import pytest
from numpy.typing import NDArray

from timewarp_openmm.analysis.configurational import (
    FreeEnergies,
    Sample,
    chain_sample,
    free_energies,
    independent_sample,
    weighted,
)
from timewarp_openmm.analysis.free_energy_doubts import doubts
from timewarp_openmm.importance import UNPHYSICAL

#: Mean, standard deviation and free energy of the states; the first is the density.
STATES = ((0.0, 1.2, 0.0), (0.5, 1.0, 3.0), (1.0, 0.9, -2.0))


def reduced(x: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the reduced energies [K, F], of the free energies that STATES have."""
    return np.stack(
        [
            0.5 * ((x - mean) / width) ** 2 + math.log(width * math.sqrt(2 * math.pi)) + f
            for mean, width, f in STATES[:count]
        ]
    )


def shifted(sample: Sample, *by: float) -> Sample:
    """Return a sample with a number added to the reduced energy in each state."""
    return replace(sample, reduced=sample.reduced + np.array(by)[:, None])


def positive(x: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.stack([x < 1, x >= 1], axis=1)


def correlated(
    rng: np.random.Generator, length: int, chains: int, memory: float
) -> NDArray[np.float64]:
    """Return standard normal autoregressive series of a correlation, one after the other."""
    x = rng.standard_normal((length, chains))
    for i in range(1, length):
        x[i] = memory * x[i - 1] + math.sqrt(1 - memory**2) * x[i]
    return x.T.ravel()


def sampled(
    count: int, frames: int = 4000, memory: float = 0.0, seed: int = 1, chains: int = 4
) -> tuple[Sample, list[Sample]]:
    """Return draws and chains of `count` states."""
    rng = np.random.default_rng(seed)
    draws = STATES[0][1] * rng.standard_normal(frames) + STATES[0][0]
    found = []
    for state, (mean, width, _) in enumerate(STATES[1:count], start=1):
        x = mean + width * correlated(rng, frames // chains, chains, memory)
        found.append(chain_sample(state, reduced(x, count), positive(x), chains))
    return independent_sample(reduced(draws, count), positive(draws)), found


@pytest.fixture(scope="module")
def found() -> FreeEnergies:
    return free_energies(*sampled(3), resamples=40)


def test_every_way_gives_what_is_known(found: FreeEnergies) -> None:
    for system, (_, _, f) in zip(found.systems, STATES[1:], strict=True):
        for estimate in (system.weighting, system.bar, system.mbar):
            assert 0 < estimate.error < 0.05
            assert abs(estimate.value - f) < 4 * estimate.error
    difference = found.difference
    assert difference is not None
    for estimate in (
        difference.weighting,
        difference.chains,
        difference.through_flow,
        difference.mbar,
    ):
        assert 0 < estimate.error < 0.05
        assert abs(estimate.value + 5.0) < 4 * estimate.error
    assert doubts(found) == []


def test_basins_are_parts_of_the_whole(found: FreeEnergies) -> None:
    for system, (mean, width, f) in zip(found.systems, STATES[1:], strict=True):
        share = 0.5 * (1 + math.erf((1 - mean) / width / math.sqrt(2)))
        below, above = system.basins
        for basin, expected in ((below, share), (above, 1 - share)):
            for population in (basin.population, basin.counted):
                assert abs(population.value - expected) < 4 * population.error
            whole = f - math.log(expected)
            assert abs(basin.free_energy.value - whole) < 4 * basin.free_energy.error
        assert below.relative.value == 0.0
        assert abs(above.relative.value - math.log(share / (1 - share))) < 4 * above.relative.error
        # All samples say more than the chain alone.
        assert below.population.error < below.counted.error


def test_overlap_is_that_of_pymbar() -> None:
    draws, chains = sampled(3, 1000)
    samples = [draws, *chains]
    assert {sample.size for sample in samples} == {1000}
    mbar = pymbar.MBAR(np.concatenate([s.reduced for s in samples], axis=1), [1000] * 3)
    expected = mbar.compute_overlap()["matrix"]
    found = free_energies(draws, chains, 2)
    assert found.overlap == pytest.approx(expected, abs=1e-6)
    # That of a pair is for equal numbers, whatever numbers there are.
    draws, chains = sampled(2, 4000)
    mbar = pymbar.MBAR(np.concatenate([s.reduced for s in (draws, *chains)], axis=1), [4000] * 2)
    pair = mbar.compute_overlap()["matrix"][0, 1]
    assert free_energies(draws, chains, 2).systems[0].overlap == pytest.approx(pair, abs=0.01)
    few = replace(chains[0], reduced=chains[0].reduced[:, :400], inside=chains[0].inside[:400])
    assert free_energies(draws, [few], 2).systems[0].overlap == pytest.approx(pair, abs=0.03)


@pytest.mark.parametrize("memory", [0.0, 0.95], ids=["independent", "correlated"])
def test_errors_are_those_that_are_made(memory: float) -> None:
    """Over 40 repetitions; of a right program, the ratio leaves these bounds once in 1,000."""
    results = [
        free_energies(*sampled(2, 1000, memory, seed, chains=2), resamples=10).systems[0]
        for seed in range(40)
    ]
    for name in ("weighting", "bar"):
        estimates = [getattr(result, name) for result in results]
        made = np.std([e.value for e in estimates], ddof=1)
        stated = np.sqrt(np.mean([e.error**2 for e in estimates]))
        assert 0.65 < stated / made < 1.6, name
    counted = [result.basins[0].counted for result in results]
    ratio = np.sqrt(np.mean([c.error**2 for c in counted])) / np.std([c.value for c in counted])
    assert 0.6 < ratio < 1.6
    # Taken for independent, the correlated frames would have errors six times too small.
    effective = np.mean([result.effective for result in results])
    assert effective == pytest.approx(1000 * (1 - memory) / (1 + memory), rel=0.5)


def test_draws_that_are_no_conformation_count() -> None:
    """Half of the draws being nowhere, the density of the other half is half as high."""
    draws, chains = sampled(2)
    nowhere = np.repeat([[np.inf], [np.nan]], draws.size, axis=1)
    mixed = independent_sample(
        np.concatenate([shifted(draws, math.log(2), 0.0).reduced, nowhere], axis=1),
        np.concatenate([draws.inside, np.zeros_like(draws.inside)]),
    )
    halved = [shifted(chains[0], math.log(2), 0.0)]
    system = free_energies(mixed, halved, 20).systems[0]
    for estimate in (system.weighting, system.bar, system.mbar):
        assert abs(estimate.value - STATES[1][2]) < 4 * estimate.error
    assert weighted(np.array([UNPHYSICAL, 0.0])) == pytest.approx(math.log(2))


def test_poor_overlap_is_doubted() -> None:
    """Of each pair of states that an estimate rests on."""
    draws, chains = sampled(3, 2000)
    far = [shifted(chain, 40.0, 0.0, 0.0) for chain in chains]
    away = independent_sample(reduced(np.linspace(-9, -5, 2000), 3), draws.inside)
    messages = doubts(free_energies(away, far, 2))
    assert any("System 1: importance weighting" in m for m in messages)
    assert any("System 2: BAR is not to be trusted" in m for m in messages)
    assert not any("between the two chains" in m for m in messages)
    apart = [shifted(chains[0], 0.0, 0.0, 30.0), shifted(chains[1], 0.0, 30.0, 0.0)]
    assert any("between the two chains" in m for m in doubts(free_energies(draws, apart, 2)))


def test_chains_that_stand_still_or_disagree_are_doubted() -> None:
    draws, chains = sampled(2, 2000)
    still = chain_sample(1, reduced(np.full(2000, 0.5), 2), positive(np.full(2000, 0.5)), 4)
    assert still.effective == 4.0
    assert any("4 effective samples" in m for m in doubts(free_energies(draws, [still], 2)))
    x = 0.5 + np.repeat([-2.0, -1.0, 1.0, 2.0], 500) + 0.1 * np.random.default_rng(1).random(2000)
    apart = chain_sample(1, reduced(x, 2), positive(x), 4)
    assert any("disagree" in m for m in doubts(free_energies(draws, [apart], 2)))
    assert doubts(free_energies(draws, chains, 20)) == []
