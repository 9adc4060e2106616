"""Molecular dynamics between the proposals: times, samples, reporters, barostats, resumption."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from block_systems import NUM_PARTICLES, two_block_integrator, wells_simulation
from chains import TEMPERATURE, make_platform, positions_of, record, virial_temperature
from openmm import app, unit

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.simulation.systems import named_molecule

STEPS, STEP_SIZE, FRICTION = 5, 0.01, 20.0

#: Dynamics are those of OpenMM's own kernels; the C++ tests run on the others, too.
both_platforms = pytest.mark.parametrize("platform", ["Reference", "CPU"])


def integrator_with_dynamics(models: dict[str, str], seed: int = 3) -> TimewarpMCMCIntegrator:
    integrator = two_block_integrator(models, seed)
    integrator.setDynamics(STEPS, STEP_SIZE, FRICTION)
    return integrator


@both_platforms
def test_steps_and_times(models: dict[str, str], platform: str) -> None:
    integrator = integrator_with_dynamics(models)
    integrator.setProposalsPerStep(3)
    simulation = wells_simulation(integrator, platform)
    for steps in (1, 7, 12):
        simulation.step(steps)
    state = simulation.context.getState()
    assert state.getStepCount() == simulation.currentStep == 20
    assert state.getTime()._value == pytest.approx(20 * STEPS * STEP_SIZE)
    assert integrator.getNumProposed() == 60


def test_dynamics_alone_are_those_of_openmm() -> None:
    """The same seed gives the same random numbers on Reference, and the same trajectory."""
    alone = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    alone.setDynamics(STEPS, STEP_SIZE, FRICTION)
    openmms = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, STEP_SIZE)
    frames = []
    for integrator, steps in ((alone, 1), (openmms, STEPS)):
        integrator.setRandomNumberSeed(11)
        simulation = wells_simulation(integrator, "Reference")
        simulation.context.setVelocities(np.zeros((NUM_PARTICLES, 3)))
        for _ in range(20):
            simulation.step(steps)
            frames.append(positions_of(simulation.context))
    assert np.array_equal(frames[:20], frames[20:])
    assert alone.getNumBlocks() == alone.getNumProposed() == 0


@both_platforms
def test_temperature_with_blocks(models: dict[str, str], platform: str) -> None:
    """Positions and velocities have the temperature; only one half of the particles has a block."""
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    integrator.addBlock(models["lags"], [0, 1, 2, 3])
    integrator.setDynamics(STEPS, STEP_SIZE, FRICTION)
    integrator.setRandomNumberSeed(3)
    simulation = wells_simulation(integrator, platform)
    frames = record(simulation, 900)[100:]
    assert 0 < integrator.getNumAccepted() < integrator.getNumProposed()
    temperature, error = virial_temperature(simulation, frames[::2, 0])
    assert temperature == pytest.approx(TEMPERATURE, abs=5 * error)
    assert error < 25
    masses = np.array([12.0 + i for i in range(NUM_PARTICLES)])
    kinetic = 0.5 * (masses * np.square(frames[:, 1]).sum(2))
    kinetic_temperatures = kinetic / (1.5 * 8.31446261815324e-3)
    for half in (kinetic_temperatures[:, :4], kinetic_temperatures[:, 4:]):
        blocks = np.array([b.mean() for b in np.array_split(half.mean(1), 20)])
        error = blocks.std(ddof=1) / np.sqrt(20)
        assert half.mean() == pytest.approx(TEMPERATURE, abs=5 * error)
        assert error < 25


def test_checkpoints_resume_bit_for_bit(models: dict[str, str], tmp_path: Path) -> None:
    simulation = wells_simulation(integrator_with_dynamics(models, seed=0), "Reference")
    file = tmp_path / "saved.chk"
    simulation.reporters.append(app.CheckpointReporter(str(file), 17))
    simulation.step(17)
    simulation.reporters.clear()
    expected = record(simulation, 30)
    counts = [simulation.integrator.getBlockStatistics(i) for i in (0, 1)]
    assert all(0 < found.accepted < found.tried for found in counts)
    fresh = wells_simulation(integrator_with_dynamics(models, seed=0), "Reference")
    for resumed in (simulation, fresh):
        resumed.loadCheckpoint(str(file))
        assert resumed.currentStep == 17
        assert np.array_equal(record(resumed, 30), expected)
        assert [resumed.integrator.getBlockStatistics(i) for i in (0, 1)] == counts


def test_reporters(models: dict[str, str], tmp_path: Path) -> None:
    simulation = wells_simulation(integrator_with_dynamics(models), "Reference")
    log, trajectory = tmp_path / "log.csv", tmp_path / "out.dcd"
    simulation.reporters.append(app.DCDReporter(str(trajectory), 4))
    simulation.reporters.append(
        app.StateDataReporter(
            str(log), 4, step=True, time=True, potentialEnergy=True, temperature=True, speed=True
        )
    )
    frames = []
    for _ in range(30):
        simulation.step(4)
        frames.append(positions_of(simulation.context))
    simulation.reporters.clear()
    rows = list(csv.DictReader(log.read_text().lstrip("#").splitlines()))
    assert [int(row["Step"]) for row in rows] == list(range(4, 121, 4))
    for row in rows:
        assert float(row["Time (ps)"]) == pytest.approx(int(row["Step"]) * STEPS * STEP_SIZE)
    # Thirty draws of 24 degrees of freedom, nearly independent; five standard errors.
    temperatures = [float(row["Temperature (K)"]) for row in rows]
    error = TEMPERATURE * np.sqrt(2 / 24 / 15)
    assert np.mean(temperatures) == pytest.approx(TEMPERATURE, abs=5 * error)
    topology = mdtraj.Topology.from_openmm(simulation.topology)
    assert np.allclose(mdtraj.load(str(trajectory), top=topology).xyz, frames, atol=1e-6)


def test_two_members_of_a_compound_integrator(models: dict[str, str]) -> None:
    """One moves each half by proposals, and one of them everything by dynamics."""
    compound = openmm.CompoundIntegrator()
    for number, particles in enumerate(([0, 1, 2, 3], [4, 5, 6, 7])):
        member = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
        member.addBlock(models["lags"], particles)
        member.setRandomNumberSeed(5)
        if number == 1:
            member.setDynamics(STEPS, STEP_SIZE, FRICTION)
        compound.addIntegrator(member)
    simulation = wells_simulation(compound, "Reference")
    frames = []
    for _ in range(250):
        for current in (0, 1):
            compound.setCurrentIntegrator(current)
            frames.append(record(simulation, 2)[:, 0])
    members = [TimewarpMCMCIntegrator.cast(compound.getIntegrator(i)) for i in (0, 1)]
    assert [member.getNumProposed() for member in members] == [500, 500]
    assert all(member.getNumAccepted() > 50 for member in members)
    temperature, error = virial_temperature(simulation, np.concatenate(frames)[100::2])
    assert temperature == pytest.approx(TEMPERATURE, abs=5 * error)
    assert error < 25


def test_replica_exchange(models: dict[str, str]) -> None:
    random_state = random.getstate()
    random.seed(1)
    temperatures = (300.0, 400.0)
    simulation = wells_simulation(integrator_with_dynamics(models), "Reference")
    sampler = app.ReplicaExchangeSampler(
        [{"temperature": t * unit.kelvin} for t in temperatures], simulation, 2
    )
    frames, assignments = [], []

    def report(sampler: app.ReplicaExchangeSampler) -> None:
        positions = [c.getPositions(asNumpy=True)._value for c in sampler.replicaConformation]
        frames.append([positions[sampler.replicaStateIndex.index(i)] for i in range(2)])
        assignments.append(list(sampler.replicaStateIndex))

    sampler.reporters.append(report)
    try:
        sampler.simulate(250)
    finally:
        random.setstate(random_state)
    assert len(np.unique(np.array(assignments)[:, 0])) == 2
    for index, expected in enumerate(temperatures):
        found, error = virial_temperature(simulation, np.array(frames)[20:, index])
        assert found == pytest.approx(expected, abs=5 * error)
        assert error < 60


def solvated() -> tuple[app.Topology, openmm.System, list[openmm.Vec3]]:
    """Return alanine dipeptide among rigid waters, with a barostat."""
    molecule = named_molecule("alanine-dipeptide")
    forcefield = app.ForceField("amber99sbildn.xml", "tip3p.xml")
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    modeller.addSolvent(forcefield, boxSize=openmm.Vec3(1.9, 1.9, 1.9) * unit.nanometer)
    system = forcefield.createSystem(
        modeller.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.7 * unit.nanometer
    )
    system.addForce(openmm.MonteCarloBarostat(1.0, TEMPERATURE, 5))
    return modeller.topology, system, modeller.positions


def test_in_water_with_a_barostat(tmp_path: Path) -> None:
    """Water stays rigid and moves, the box changes, and proposals of the molecule are screened."""
    topology, system, positions = solvated()
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    integrator.addBlock(pretrained("alanine-dipeptide"), topology=topology, positions=positions)
    integrator.setDynamics(5, 1 * unit.femtosecond, 5 / unit.picosecond)
    integrator.setProposalsPerStep(8)
    integrator.setRandomNumberSeed(2)
    simulation = app.Simulation(topology, system, integrator, *make_platform("CPU"))
    simulation.context.setPositions(positions)
    simulation.minimizeEnergy(maxIterations=50)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, 1)
    volumes, before = set(), positions_of(simulation.context)
    for _ in range(12):
        simulation.step(1)
        state = simulation.context.getState(positions=True, energy=True)
        volumes.add(state.getPeriodicBoxVolume()._value)
        assert np.isfinite(state.getPotentialEnergy()._value)
    found = integrator.getBlockStatistics(0)
    assert found.tried == 96
    assert 0 < found.screened <= found.tried
    assert found.nonFinite == 0
    assert len(volumes) > 1
    assert state.getTime()._value == pytest.approx(12 * 5 * 0.001)
    after = positions_of(simulation.context)
    assert (np.abs(after - before).max(1) > 1e-4).all()
    oxygens = [a.index for a in topology.atoms() if a.residue.name == "HOH" and a.name == "O"]
    for oxygen in oxygens:
        for hydrogen in (oxygen + 1, oxygen + 2):
            length = np.linalg.norm(after[hydrogen] - after[oxygen])
            assert length == pytest.approx(0.09572, rel=1e-4)
