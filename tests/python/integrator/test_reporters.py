"""OpenMM's reporters see the chain as they see dynamics."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from chains import TEMPERATURE, Chain, make_platform, positions_of, resume, velocities_of
from openmm import app

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.simulation.systems import named_molecule

STEPS, INTERVAL = 60, 5


@pytest.fixture
def simulation(models: dict[str, str], platform: str) -> app.Simulation:
    return Chain("wells", models["lags"], platform, batch_size=0, seed=3).simulation()


def run(simulation: app.Simulation, steps: int = STEPS) -> np.ndarray:
    """Step and return the positions after each interval."""
    frames = []
    for _ in range(steps // INTERVAL):
        simulation.step(INTERVAL)
        frames.append(positions_of(simulation.context))
    return np.array(frames)


@pytest.mark.parametrize(
    ("reporter", "suffix", "tolerance"),
    [
        (app.DCDReporter, "dcd", 1e-6),
        (app.PDBReporter, "pdb", 1e-4),
        (app.XTCReporter, "xtc", 1e-3),
    ],
)
def test_trajectories_hold_the_states(
    simulation: app.Simulation, tmp_path: Path, reporter: type, suffix: str, tolerance: float
) -> None:
    path = tmp_path / f"out.{suffix}"
    simulation.reporters.append(reporter(str(path), INTERVAL))
    expected = run(simulation)
    simulation.reporters.clear()  # closes the file
    topology = mdtraj.Topology.from_openmm(simulation.topology)
    found = mdtraj.load(str(path), top=topology)
    assert found.xyz.shape == expected.shape
    assert np.abs(found.xyz - expected).max() < tolerance
    assert len(np.unique(expected, axis=0)) > 3


def test_log_counts_steps_and_time(simulation: app.Simulation, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    simulation.reporters.append(
        app.StateDataReporter(
            str(path),
            INTERVAL,
            step=True,
            time=True,
            potentialEnergy=True,
            totalEnergy=True,
            temperature=True,
            speed=True,
            progress=True,
            remainingTime=True,
            elapsedTime=True,
            totalSteps=10 * STEPS,
        )
    )
    simulation.step(10 * STEPS)
    simulation.reporters.clear()
    rows = list(csv.DictReader(path.read_text().lstrip("#").splitlines()))
    lag = simulation.integrator.getStepSize()._value
    assert [int(row["Step"]) for row in rows] == list(range(INTERVAL, 10 * STEPS + 1, INTERVAL))
    for row in rows:
        assert float(row["Time (ps)"]) == pytest.approx(int(row["Step"]) * lag)
        assert float(row["Potential Energy (kJ/mole)"]) <= float(row["Total Energy (kJ/mole)"])
    assert all(float(row["Speed (ns/day)"]) > 0 for row in rows[1:])
    temperatures = [float(row["Temperature (K)"]) for row in rows]
    # 120 draws of 12 degrees of freedom; five standard errors.
    error = TEMPERATURE * np.sqrt(2 / 12 / len(rows))
    assert np.mean(temperatures) == pytest.approx(TEMPERATURE, abs=5 * error)
    assert np.std(temperatures) > 3 * error


@pytest.mark.parametrize("write_state", [False, True])
def test_checkpoint_reporter(simulation: app.Simulation, tmp_path: Path, write_state: bool) -> None:
    file = tmp_path / ("saved.xml" if write_state else "saved.chk")
    reporter = app.CheckpointReporter(str(file), 2 * INTERVAL, writeState=write_state)
    simulation.reporters.append(reporter)
    simulation.step(2 * INTERVAL)
    simulation.reporters.clear()
    expected = run(simulation)
    resume(simulation, str(file))
    assert simulation.currentStep == 2 * INTERVAL
    assert np.array_equal(run(simulation), expected)


@pytest.mark.parametrize("frequency", [1, 1000])
def test_temperature_of_a_system_without_momentum(platform: str, frequency: int) -> None:
    """ForceField's Systems have a CMMotionRemover, for which reporters count less freedom."""
    molecule = named_molecule("alanine-dipeptide")
    system = molecule.system
    removers = [
        i for i, f in enumerate(system.getForces()) if isinstance(f, openmm.CMMotionRemover)
    ]
    for i in reversed(removers):
        system.removeForce(i)
    system.addForce(openmm.CMMotionRemover(frequency))
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    integrator.setRandomNumberSeed(3)
    simulation = app.Simulation(molecule.topology, system, integrator, *make_platform(platform))
    simulation.context.setPositions(molecule.positions)
    masses = np.array([system.getParticleMass(i)._value for i in range(22)])
    simulation.reporters.append(app.StateDataReporter(log := io.StringIO(), 1, temperature=True))
    steps = 400
    for _ in range(steps):
        simulation.step(1)
        momentum = masses @ velocities_of(simulation.context)
        assert np.abs(momentum).max() < 1e-3
    temperatures = np.array([float(line) for line in log.getvalue().splitlines()[1:]])
    # Independent draws of 63 degrees of freedom; five standard errors. It was 5 % too high.
    error = 310.0 * np.sqrt(2 / 63 / steps)
    assert error < 0.2 * 0.05 * 310.0
    assert temperatures.mean() == pytest.approx(310.0, abs=5 * error)
