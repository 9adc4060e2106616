"""A run that goes on from a saved state equals the one that was never stopped, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import chains
import numpy as np
import openmm
import pytest
from chains import Chain, counters_of, record, resume
from openmm import app

BEFORE, AFTER = 37, 40
KINDS = ("state.xml", "checkpoint.chk")


def save(simulation: app.Simulation, file: Path) -> None:
    if file.suffix == ".xml":
        simulation.saveState(str(file))
    else:
        simulation.saveCheckpoint(str(file))


def uninterrupted(chain: Chain, file: Path) -> tuple[app.Simulation, np.ndarray, list[int]]:
    """Run, save on the way, and return what follows and the counters at the end."""
    simulation = chain.simulation()
    simulation.step(BEFORE)
    save(simulation, file)
    frames = record(simulation, AFTER)
    counters = counters_of(simulation.integrator)
    assert 0 < counters[1] < counters[0] == BEFORE + AFTER
    assert len(np.unique(frames[:, 0], axis=0)) > 3
    return simulation, frames, counters


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 64, 0])
def test_in_the_same_process(
    models: dict[str, str], platform: str, batch_size: int, kind: str, tmp_path: Path
) -> None:
    # The seed is picked, so that whoever resumes must take it from the file.
    chain = Chain("wells", models["lags"], platform, batch_size, seed=0)
    simulation, expected, counters = uninterrupted(chain, tmp_path / kind)
    for resumed in (simulation, chain.simulation()):
        resume(resumed, str(tmp_path / kind))
        assert resumed.currentStep == BEFORE
        assert np.array_equal(record(resumed, AFTER), expected)
        assert counters_of(resumed.integrator) == counters


@pytest.mark.parametrize(("kind", "bundled"), [(KINDS[0], False), (KINDS[1], True)])
def test_in_a_new_process(
    models: dict[str, str], platform: str, bundled: bool, kind: str, tmp_path: Path
) -> None:
    chain = (
        Chain("alanine-dipeptide", chains.bundled(), platform, 0)
        if bundled
        else Chain("wells", models["lags"], platform, 64, seed=0)
    )
    _, expected, counters = uninterrupted(chain, tmp_path / kind)
    todo = chains.specification(chain, tmp_path / kind, AFTER, tmp_path / "resumed.npz")
    done = subprocess.run(
        [sys.executable, chains.__file__, todo], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "resumed.npz") as resumed:
        assert np.array_equal(resumed["frames"], expected)
        assert resumed["counters"].tolist() == counters


@pytest.mark.parametrize("kind", KINDS)
def test_within_a_compound_integrator(
    models: dict[str, str], platform: str, kind: str, tmp_path: Path
) -> None:
    chain = Chain("wells", models["lags"], platform, 64, seed=0)

    def make() -> app.Simulation:
        compound = openmm.CompoundIntegrator()
        compound.addIntegrator(chain.integrator())
        compound.addIntegrator(openmm.VerletIntegrator(0.002))
        return chain.simulation(compound)

    def go_on(simulation: app.Simulation) -> np.ndarray:
        frames = []
        for current in (1, 0, 1, 0):
            simulation.integrator.setCurrentIntegrator(current)
            frames.append(record(simulation, 10))
        return np.concatenate(frames)

    simulation = make()
    simulation.step(BEFORE)
    save(simulation, tmp_path / kind)
    expected = go_on(simulation)
    for resumed in (simulation, make()):
        resume(resumed, str(tmp_path / kind))
        assert np.array_equal(go_on(resumed), expected)
