"""Restraints and fields: a flow of shapes is refused alone, and right where something moves it."""

from __future__ import annotations

import numpy as np
import openmm
import pytest
from openmm import app, unit

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.simulation.systems import make_platform, named_molecule
from timewarp_openmm.units import GAS_CONSTANT

TEMPERATURE = 310.0  # K
STIFFNESS = 2000.0  # kJ/mol/nm^2
FIELD = 96.485  # kJ/mol/nm/e, 1 V/nm
CA = 8


def restrained(atoms: list[int]) -> openmm.System:
    """Return alanine dipeptide with harmonic wells for some atoms."""
    molecule = named_molecule("alanine-dipeptide")
    force = openmm.CustomExternalForce("0.5*k*((x-x0)^2+(y-y0)^2+(z-z0)^2)")
    force.addGlobalParameter("k", STIFFNESS)
    for name in ("x0", "y0", "z0"):
        force.addPerParticleParameter(name)
    for atom in atoms:
        force.addParticle(atom, molecule.positions[atom])
    molecule.system.addForce(force)
    return molecule.system


def in_a_field() -> openmm.System:
    """Return alanine dipeptide in a uniform electric field along z."""
    system = named_molecule("alanine-dipeptide").system
    nonbonded = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    force = openmm.CustomExternalForce(f"-{FIELD}*q*z")
    force.addPerParticleParameter("q")
    for i in range(system.getNumParticles()):
        force.addParticle(i, [nonbonded.getParticleParameters(i)[0]])
    system.addForce(force)
    return system


def simulation_of(
    system: openmm.System, integrator: openmm.Integrator, platform: str = "Reference"
) -> app.Simulation:
    molecule = named_molecule("alanine-dipeptide")
    simulation = app.Simulation(molecule.topology, system, integrator, *make_platform(platform))
    simulation.context.setPositions(molecule.positions)
    return simulation


def timewarp(model: str) -> TimewarpMCMCIntegrator:
    integrator = TimewarpMCMCIntegrator(pretrained(model))
    integrator.setRandomNumberSeed(1)
    return integrator


SYSTEMS = {
    "one atom restrained": restrained([CA]),
    "some atoms restrained": restrained([1, 4, 6, 8, 14]),
    "field": in_a_field(),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_refused_where_nothing_moves_it(name: str, platform: str) -> None:
    simulation = simulation_of(SYSTEMS[name], timewarp("alanine-dipeptide"), platform)
    for _ in range(2):
        with pytest.raises(openmm.OpenMMException, match=r"CompoundIntegrator"):
            simulation.step(1)


def test_refused_with_finite_lags() -> None:
    simulation = simulation_of(SYSTEMS["field"], timewarp("alanine-dipeptide-lags"))
    with pytest.raises(openmm.OpenMMException, match=r"CompoundIntegrator"):
        simulation.step(1)


@pytest.mark.parametrize(("far", "strain"), [(0.0, 1.0), (20.0, 1.0), (0.0, 1.1)])
def test_alone_in_space(far: float, strain: float, platform: str) -> None:
    """Also far away and from a start that strains it, where rounding counts for more."""
    molecule = named_molecule("alanine-dipeptide")
    simulation = simulation_of(molecule.system, timewarp("alanine-dipeptide"), platform)
    simulation.context.setPositions(strain * molecule.positions + far)
    simulation.step(3)
    assert simulation.integrator.getNumProposed() == 3


def test_a_cartesian_flow_moves_it() -> None:
    simulation = simulation_of(restrained([CA]), timewarp("alanine-dipeptide-cartesian"))
    simulation.step(20)
    assert simulation.integrator.getNumProposed() == 20


def test_a_restrained_atom_with_dynamics() -> None:
    """It spreads about the well's middle with the variance kT/k."""
    compound = openmm.CompoundIntegrator()
    dynamics = openmm.LangevinMiddleIntegrator(TEMPERATURE, 5.0, 0.001)
    dynamics.setRandomNumberSeed(2)
    compound.addIntegrator(dynamics)
    compound.addIntegrator(timewarp("alanine-dipeptide"))
    simulation = simulation_of(restrained([CA]), compound)
    center = named_molecule("alanine-dipeptide").positions[CA]
    squares = []
    for _ in range(300):
        for current, steps in ((0, 200), (1, 1)):
            compound.setCurrentIntegrator(current)
            compound.step(steps)
        state = simulation.context.getState(positions=True)
        position = state.getPositions(asNumpy=True)[CA].value_in_unit(unit.nanometer)
        squares.append(np.mean((position - center) ** 2))
    blocks = np.array([block.mean() for block in np.array_split(squares[30:], 12)])
    expected = GAS_CONSTANT * TEMPERATURE / STIFFNESS
    error = blocks.std(ddof=1) / np.sqrt(len(blocks))
    assert error < 0.2 * expected
    # 1e-3 of false alarms for 11 degrees of freedom.
    assert np.mean(blocks) == pytest.approx(expected, abs=4.4 * error)
