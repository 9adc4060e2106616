"""Switching between this integrator and OpenMM's own leaves nothing stale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openmm
import pytest
from chains import TEMPERATURE, Chain, positions_of, record, velocities_of
from openmm import app

from timewarp_openmm import TimewarpMCMCIntegrator


def velocity_verlet(step_size: float) -> openmm.CustomIntegrator:
    """Return an integrator that uses the forces of its last step's end at its next one's start."""
    integrator = openmm.CustomIntegrator(step_size)
    integrator.addUpdateContextState()
    integrator.addComputePerDof("v", "v+0.5*dt*f/m")
    integrator.addComputePerDof("x", "x+dt*v")
    integrator.addComputePerDof("v", "v+0.5*dt*f/m")
    return integrator


def langevin(step_size: float) -> openmm.LangevinMiddleIntegrator:
    """Return dynamics without friction, so that a step can be repeated elsewhere."""
    return openmm.LangevinMiddleIntegrator(TEMPERATURE, 0.0, step_size)


Maker = Callable[[float], openmm.Integrator]


def make(chain: Chain, others: list[openmm.Integrator], timewarp_first: bool) -> app.Simulation:
    """Return a Simulation of a CompoundIntegrator with the chain's integrator and others."""
    compound = openmm.CompoundIntegrator()
    members = [chain.integrator(), *others] if timewarp_first else [*others, chain.integrator()]
    for member in members:
        compound.addIntegrator(member)
    return chain.simulation(compound)


@pytest.mark.parametrize("timewarp_first", [True, False])
@pytest.mark.parametrize("maker", [velocity_verlet, langevin])
def test_forces_are_those_of_the_current_positions(
    models: dict[str, str], platform: str, maker: Maker, timewarp_first: bool
) -> None:
    chain = Chain("wells", models["lags"], platform, 64, seed=4)
    step_sizes = (0.002, 0.01)
    simulation = make(chain, [maker(size) for size in step_sizes], timewarp_first)
    compound = simulation.integrator
    timewarp = 0 if timewarp_first else 2
    others = [i for i in range(3) if i != timewarp]
    # These Contexts never see the chain.
    alone = [chain.simulation(maker(size)) for size in step_sizes]
    moved = 0
    for block in range(12):
        which = block % 2
        before = positions_of(simulation.context)
        compound.setCurrentIntegrator(timewarp)
        simulation.step(3)
        moved += not np.array_equal(positions_of(simulation.context), before)

        # Two steps of the other integrator are those of one that is alone.
        fresh = alone[which]
        fresh.context.setPositions(positions_of(simulation.context))
        fresh.context.setVelocities(velocities_of(simulation.context))
        compound.setCurrentIntegrator(others[which])
        compound.step(2)
        fresh.integrator.step(2)
        assert np.array_equal(positions_of(simulation.context), positions_of(fresh.context))
        assert np.array_equal(velocities_of(simulation.context), velocities_of(fresh.context))
    assert moved > 3


@pytest.mark.parametrize("maker", [velocity_verlet, langevin])
def test_dynamics_in_between_end_prefetching(
    models: dict[str, str], platform: str, maker: Maker
) -> None:
    def run(batch_size: int) -> np.ndarray:
        chain = Chain("wells", models["lags"], platform, batch_size, seed=8)
        simulation = make(chain, [maker(0.01)], timewarp_first=True)
        frames = []
        for current in (0, 1, 0, 1, 0):
            simulation.integrator.setCurrentIntegrator(current)
            frames.append(record(simulation, 15))
        return np.concatenate(frames)

    frames = run(64)
    assert len(np.unique(frames[:, 0], axis=0)) > 30 + 3
    assert np.array_equal(frames, run(1))


def test_times_and_steps_add_up(models: dict[str, str], platform: str) -> None:
    simulation = make(Chain("wells", models["walk"], platform, 64), [langevin(0.002)], True)
    compound = simulation.integrator
    lag = compound.getIntegrator(0).getStepSize()._value
    assert lag == 1.0
    for current in (0, 1, 0):
        compound.setCurrentIntegrator(current)
        simulation.step(10)
    state = simulation.context.getState()
    assert state.getTime()._value == pytest.approx(20 * lag + 10 * 0.002)
    assert state.getStepCount() == simulation.currentStep == 30
    assert TimewarpMCMCIntegrator.cast(compound.getIntegrator(0)).getNumProposed() == 20


def test_temperature_holds_in_a_mixture(models: dict[str, str], platform: str) -> None:
    dynamics = openmm.LangevinMiddleIntegrator(TEMPERATURE, 10.0, 0.02)
    dynamics.setRandomNumberSeed(1)
    simulation = make(Chain("wells", models["lags"], platform, 64, seed=1), [dynamics], True)
    kinetic = {0: [], 1: []}
    for _ in range(400):
        for current in (0, 1):
            simulation.integrator.setCurrentIntegrator(current)
            simulation.step(5)
            state = simulation.context.getState(energy=True)
            kinetic[current].append(state.getKineticEnergy()._value)
    expected = 0.5 * 12 * 8.31446261815324e-3 * TEMPERATURE
    # Kinetic energies of the chain are independent draws; those of dynamics nearly so, since each
    # run of it starts from such a draw. Five standard errors.
    for values in kinetic.values():
        error = expected * np.sqrt(2 / 12 / len(values))
        assert np.mean(values) == pytest.approx(expected, abs=5 * error)
