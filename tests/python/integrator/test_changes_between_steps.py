"""Whatever is changed between steps while proposals are prefetched, the chain is the right one.

The right one is the chain that computes one proposal at a time, so that nothing is ever pending.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import openmm
import pytest
from chains import (
    STIFFNESS,
    Chain,
    positions_of,
    record,
    velocities_of,
    well_positions,
    well_system,
)
from openmm import app

BATCH, AFTER = 64, 60


def set_positions(simulation: app.Simulation) -> None:
    simulation.context.setPositions(1.3 * well_positions())


def set_parameter(simulation: app.Simulation) -> None:
    simulation.context.setParameter("k", 160.0)


def set_force_parameters(simulation: app.Simulation) -> None:
    force = simulation.system.getForce(1)
    for i in range(force.getNumBonds()):
        first, second, _ = force.getBondParameters(i)
        force.setBondParameters(i, first, second, [1.0])
    force.updateParametersInContext(simulation.context)


def set_box(simulation: app.Simulation) -> None:
    simulation.context.setPeriodicBoxVectors(*(0.5 * np.eye(3)))


def set_temperature(simulation: app.Simulation) -> None:
    simulation.integrator.setTemperature(900)


def set_force_groups(simulation: app.Simulation) -> None:
    simulation.integrator.setIntegrationForceGroups({1})


def minimize(simulation: app.Simulation) -> None:
    simulation.minimizeEnergy()


def set_velocities(simulation: app.Simulation) -> None:
    simulation.context.setVelocitiesToTemperature(300)


def reinitialize(simulation: app.Simulation) -> None:
    simulation.context.reinitialize(preserveState=True)


def start_again(simulation: app.Simulation) -> None:
    simulation.context.reinitialize()
    simulation.context.setPositions(well_positions())


def edit_the_system(simulation: app.Simulation) -> None:
    """Without telling the Context, which goes on with what it was made of."""
    simulation.system.setParticleMass(0, 200.0)
    bonds = simulation.system.getForce(1)
    for i in range(bonds.getNumBonds()):
        first, second, _ = bonds.getBondParameters(i)
        bonds.setBondParameters(i, first, second, [1.0])
    simulation.system.addForce(openmm.HarmonicBondForce())


def nothing(simulation: app.Simulation) -> None:
    pass


def run_to_pending(simulation: app.Simulation) -> int:
    """Step until three iterations in a row were rejected: what is prefetched is of this state."""
    steps = 20
    simulation.step(steps)
    rejected = 0
    while rejected < 3:
        before = positions_of(simulation.context)
        simulation.step(1)
        steps += 1
        rejected = rejected + 1 if np.array_equal(positions_of(simulation.context), before) else 0
    return steps


def chain_with(
    change: Callable[[app.Simulation], None], molecule: str, model: str, platform: str, batch: int
) -> tuple[int, np.ndarray]:
    """Return the number of steps before the change, and the frames after it."""
    simulation = Chain(molecule, model, platform, batch, seed=17).simulation()
    steps = run_to_pending(simulation)
    change(simulation)
    return steps, record(simulation, AFTER)


@functools.cache
def unchanged_chain(molecule: str, model: str, platform: str) -> np.ndarray:
    return chain_with(nothing, molecule, model, platform, BATCH)[1]


@pytest.mark.parametrize("model", ["lags", "walk"])
@pytest.mark.parametrize(
    ("change", "changes_the_chain"),
    [
        (set_positions, True),
        (set_parameter, True),
        (set_force_parameters, True),
        (set_temperature, True),
        (set_force_groups, True),
        (minimize, True),
        (start_again, True),
        (set_velocities, False),
        (reinitialize, False),
        (edit_the_system, False),
    ],
)
def test_the_chain_is_that_of_single_proposals(
    models: dict[str, str],
    platform: str,
    model: str,
    change: Callable[[app.Simulation], None],
    changes_the_chain: bool,
) -> None:
    steps, frames = chain_with(change, "wells", models[model], platform, BATCH)
    assert len(np.unique(frames[:, 0], axis=0)) > 3
    single_steps, single = chain_with(change, "wells", models[model], platform, 1)
    assert steps == single_steps
    assert np.array_equal(frames, single)
    unchanged = unchanged_chain("wells", models[model], platform)
    assert np.array_equal(frames, unchanged) != changes_the_chain


def test_change_of_the_box(models: dict[str, str], platform: str) -> None:
    arguments = ("periodic wells", models["walk"], platform)
    steps, frames = chain_with(set_box, *arguments, BATCH)
    single_steps, single = chain_with(set_box, *arguments, 1)
    assert steps == single_steps
    assert np.array_equal(frames, single)
    _, unchanged = chain_with(nothing, *arguments, BATCH)
    assert not np.array_equal(frames, unchanged)


def test_velocities_are_drawn_anew(models: dict[str, str], platform: str) -> None:
    simulation = Chain("wells", models["walk"], platform, BATCH).simulation()
    simulation.step(3)
    simulation.context.setVelocitiesToTemperature(1e6, 1)
    hot = velocities_of(simulation.context)
    simulation.step(1)
    assert np.abs(velocities_of(simulation.context)).max() < 0.2 * np.abs(hot).max()


def test_force_groups_choose_the_target(models: dict[str, str], platform: str) -> None:
    """A chain of group 1 is the chain of a System whose other forces do nothing."""
    chain = Chain("wells", models["walk"], platform, BATCH, seed=2)
    whole, alone = chain.simulation(), chain.simulation(chain.integrator(), without_wells())
    for simulation in (whole, alone):
        set_force_groups(simulation)
    frames = record(whole, 300)
    assert np.array_equal(frames, record(alone, 300))
    # Nothing holds the particles, so they drift away.
    assert np.abs(frames[-1, 0]).max() > 2 * np.abs(well_positions()).max()


def without_wells() -> openmm.System:
    """Return the System of the wells with wells of no depth, but the same global parameters."""
    system = well_system()
    system.removeForce(0)
    nowhere = openmm.CustomExternalForce("0*k*scale*x")
    nowhere.addGlobalParameter("k", STIFFNESS)
    nowhere.addGlobalParameter("scale", 1.0)
    system.addForce(nowhere)
    return system
