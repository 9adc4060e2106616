"""openmm.app.ReplicaExchangeSampler drives the integrator, and its replicas are independent."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import numpy as np
import pytest
from chains import NUM_ATOMS, Chain, virial_temperature
from openmm import app, unit

ITERATIONS, BURN_IN, STEPS = 160, 10, 4
TEMPERATURES = (300.0, 380.0, 480.0)  # K
STIFFNESSES = (40.0, 60.0, 90.0)  # kJ/mol/nm^2


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """The sampler takes its own random numbers from Python's generator."""
    before = random.getstate()
    random.seed(1)
    yield
    random.setstate(before)


def run(simulation: app.Simulation, states: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Return positions [iterations, state, N, 3] and the states [iterations, replica]."""
    sampler = app.ReplicaExchangeSampler(states, simulation, STEPS)
    frames, assignments = [], []

    def report(sampler: app.ReplicaExchangeSampler) -> None:
        positions = [c.getPositions(asNumpy=True)._value for c in sampler.replicaConformation]
        frames.append([positions[sampler.replicaStateIndex.index(i)] for i in range(len(states))])
        assignments.append(list(sampler.replicaStateIndex))

    sampler.reporters.append(report)
    sampler.simulate(ITERATIONS)
    return np.array(frames), np.array(assignments)


def check_independent(frames: np.ndarray) -> None:
    """Different states have nothing in common, at no time and on average."""
    for first, second in itertools.combinations(range(frames.shape[1]), 2):
        a, b = frames[BURN_IN:, first].reshape(-1, 12), frames[BURN_IN:, second].reshape(-1, 12)
        assert not np.isclose(a, b, rtol=0, atol=1e-9).any()
        correlations = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(12)]
        # Five standard errors of the mean of twelve, with a third of the frames independent.
        assert abs(np.mean(correlations)) < 5 / np.sqrt(12 * len(a) / 3)


def check_exchanges(assignments: np.ndarray) -> None:
    """Every replica was in every state."""
    for replica in assignments.T:
        assert len(np.unique(replica)) == assignments.shape[1]


def test_temperatures(models: dict[str, str], platform: str) -> None:
    simulation = Chain("wells", models["lags"], platform, 4, seed=3).simulation()
    states = [{"temperature": t * unit.kelvin} for t in TEMPERATURES]
    frames, assignments = run(simulation, states)
    check_exchanges(assignments)
    check_independent(frames)
    for index, temperature in enumerate(TEMPERATURES):
        found, error = virial_temperature(simulation, frames[BURN_IN:, index])
        assert found == pytest.approx(temperature, abs=5 * error)
        assert error < 40


def test_parameters(models: dict[str, str], platform: str) -> None:
    simulation = Chain("wells", models["lags"], platform, 4, seed=4).simulation()
    frames, assignments = run(simulation, [{"k": k} for k in STIFFNESSES])
    check_exchanges(assignments)
    check_independent(frames)
    for index, k in enumerate(STIFFNESSES):
        simulation.context.setParameter("k", k)
        found, error = virial_temperature(simulation, frames[BURN_IN:, index])
        assert found == pytest.approx(300.0, abs=5 * error)
        assert error < 40


def test_velocities_follow_the_temperature(models: dict[str, str]) -> None:
    simulation = Chain("wells", models["walk"], "Reference", 8, seed=4).simulation()
    states = [{"temperature": t} for t in TEMPERATURES]
    sampler = app.ReplicaExchangeSampler(states, simulation, 1, reinitializeVelocities=True)
    kinetic: dict[int, list[float]] = {i: [] for i in range(len(states))}
    masses = np.array([12.0 + i for i in range(NUM_ATOMS)])

    def report(sampler: app.ReplicaExchangeSampler) -> None:
        for state, conformation in zip(
            sampler.replicaStateIndex, sampler.replicaConformation, strict=True
        ):
            v = conformation.getVelocities(asNumpy=True)._value
            kinetic[state].append(0.5 * float(np.sum(masses[:, None] * v**2)))

    sampler.reporters.append(report)
    sampler.simulate(100)
    for state, temperature in enumerate(TEMPERATURES):
        expected = 0.5 * 12 * 8.31446261815324e-3 * temperature
        error = expected * np.sqrt(2 / 12 / 100)
        assert np.mean(kinetic[state]) == pytest.approx(expected, abs=5 * error)


def test_replicas_in_equal_states(models: dict[str, str], platform: str) -> None:
    """They begin with one State, take turns in one Context, and have nothing in common."""
    simulation = Chain("wells", models["lags"], platform, 4, seed=5).simulation()
    frames, _ = run(simulation, [{"temperature": 300.0 * unit.kelvin}] * 3)
    check_independent(frames)
    for replica in range(3):
        found, error = virial_temperature(simulation, frames[BURN_IN:, replica])
        assert found == pytest.approx(300.0, abs=5 * error)
        assert error < 40
