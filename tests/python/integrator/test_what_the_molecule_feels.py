"""Restraints, fields and other molecules: a flow of shapes is sampled right with rigid moves.

It is refused where there are none, and right without them where something else moves the molecule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openmm
import pytest
from openmm import app, unit

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.simulation.systems import make_platform, named_molecule
from timewarp_openmm.units import GAS_CONSTANT

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


def charges_of(system: openmm.System) -> NDArray[np.floating]:
    """Return the particles' charges / e."""
    nonbonded = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    charges = (nonbonded.getParticleParameters(i)[0] for i in range(system.getNumParticles()))
    return np.array([charge.value_in_unit(unit.elementary_charge) for charge in charges])


def in_a_field() -> openmm.System:
    """Return alanine dipeptide in a uniform electric field along z."""
    system = named_molecule("alanine-dipeptide").system
    force = openmm.CustomExternalForce(f"-{FIELD}*q*z")
    force.addPerParticleParameter("q")
    for i, charge in enumerate(charges_of(system)):
        force.addParticle(i, [charge])
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


def without_rigid_moves(model: str) -> TimewarpMCMCIntegrator:
    integrator = timewarp(model)
    integrator.setRigidMoves(0, 0)
    return integrator


def mean_and_error(values: NDArray[np.floating], count: int) -> tuple[float, float]:
    """Return a mean and its standard error, from `count` blocks of a chain."""
    blocks = np.array([block.mean() for block in np.array_split(values, count)])
    return float(blocks.mean()), float(blocks.std(ddof=1) / np.sqrt(count))


def positions_along(simulation: app.Simulation, samples: int, steps: int) -> NDArray[np.floating]:
    """Return positions [samples, N, 3] / nm, so many steps apart."""
    found = []
    for _ in range(samples):
        simulation.integrator.step(steps)
        state = simulation.context.getState(positions=True)
        found.append(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    return np.array(found)


#: Rigid moves come in rounds of so many, each after the first of as many tries.
ROUND = 8

#: Student's t for 15 degrees of freedom, two-sided: 1e-5 of false alarms.
T_OF_16_BLOCKS = 6.6


def test_a_restrained_atom() -> None:
    """It spreads about the well's middle with the variance kT/k in each direction."""
    simulation = simulation_of(restrained([CA]), timewarp("alanine-dipeptide"))
    center = named_molecule("alanine-dipeptide").positions[CA]
    simulation.integrator.step(100)
    squares = (positions_along(simulation, 800, 2)[:, CA] - center) ** 2
    mean, error = mean_and_error(squares.mean(1), 16)
    expected = GAS_CONSTANT * TEMPERATURE / STIFFNESS
    assert error < 0.15 * expected
    assert mean == pytest.approx(expected, abs=T_OF_16_BLOCKS * error)
    statistics = simulation.integrator.getBlockStatistics(0)
    assert 0 <= statistics.rigidTried - statistics.tried < ROUND
    assert 0.2 < statistics.rigidAccepted / statistics.rigidTried < 0.9


def test_a_dipole_in_a_field() -> None:
    """For every conformation the cosine's mean is coth(a) - 1/a with a = E |mu| / kT (Langevin).

    So sum(cos - coth(a) + 1/a) is 0 over a chain, however the conformations are distributed.
    """
    system = SYSTEMS["field"]
    simulation = simulation_of(system, timewarp("alanine-dipeptide"))
    charges = charges_of(system)
    simulation.integrator.step(100)
    dipoles = charges @ positions_along(simulation, 800, 2)
    size = np.linalg.norm(dipoles, axis=1)
    cosine, strength = dipoles[:, 2] / size, FIELD * size / (GAS_CONSTANT * TEMPERATURE)
    mean, error = mean_and_error(cosine - 1 / np.tanh(strength) + 1 / strength, 16)
    assert error < 0.06
    assert abs(mean) < T_OF_16_BLOCKS * error
    # Displacements are not felt, and are not made.
    assert np.ptp(positions_along(simulation, 50, 1).mean(1), axis=0).max() < 0.3


@pytest.mark.parametrize("model", ["alanine-dipeptide", "alanine-dipeptide-lags"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_everything_felt_is_moved(name: str, model: str, platform: str) -> None:
    simulation = simulation_of(SYSTEMS[name], timewarp(model), platform)
    simulation.step(5)
    assert simulation.integrator.getBlockStatistics(0).rigidTried == ROUND


def test_two_molecules_that_feel_each_other() -> None:
    """Each with the one model of both, and nothing else that moves them."""
    molecule = named_molecule("alanine-dipeptide")
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    modeller.add(molecule.topology, (molecule.positions + np.array([0.9, 0, 0])) * unit.nanometer)
    force_field = app.ForceField("amber99sbildn.xml", "amber99_obc.xml")
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    model = pretrained("alanine-dipeptide")
    for first in (0, 22):
        integrator.addBlock(model, range(first, first + 22))
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(
        modeller.topology,
        force_field.createSystem(modeller.topology),
        integrator,
        openmm.Platform.getPlatformByName("Reference"),
    )
    simulation.context.setPositions(modeller.positions)
    x = positions_along(simulation, 10, 4)
    for block in (0, 1):
        statistics = integrator.getBlockStatistics(block)
        assert 0 <= statistics.rigidTried - statistics.tried < ROUND
        assert statistics.tried > 5
        assert statistics.rigidAccepted > 0
        centers = x[:, 22 * block : 22 * (block + 1)].mean(1)
        assert np.ptp(centers, axis=0).max() > 0.01


@pytest.mark.parametrize("name", SYSTEMS)
def test_refused_where_nothing_moves_it(name: str, platform: str) -> None:
    simulation = simulation_of(SYSTEMS[name], without_rigid_moves("alanine-dipeptide"), platform)
    for _ in range(2):
        with pytest.raises(openmm.OpenMMException, match=r"setRigidMoves\(\).*CompoundIntegrator"):
            simulation.step(1)


def test_refused_with_finite_lags() -> None:
    simulation = simulation_of(SYSTEMS["field"], without_rigid_moves("alanine-dipeptide-lags"))
    with pytest.raises(openmm.OpenMMException, match=r"CompoundIntegrator"):
        simulation.step(1)


def test_settings() -> None:
    integrator = timewarp("alanine-dipeptide")
    integrator.setRigidMoves(0.5 * unit.angstrom, 90 * unit.degree)
    assert integrator.getRigidTranslation() == 0.05 * unit.nanometer
    assert integrator.getRigidRotation() / unit.radian == pytest.approx(np.pi / 2)
    with pytest.raises(ValueError, match="expected a quantity"):
        integrator.setRigidMoves(1 * unit.kelvin)
    with pytest.raises(openmm.OpenMMException, match="between 0 and pi"):
        integrator.setRigidMoves(0.1, 4.0)


@pytest.mark.parametrize(("far", "strain"), [(0.0, 1.0), (20.0, 1.0), (0.0, 1.1)])
def test_alone_in_space(far: float, strain: float, platform: str) -> None:
    """Also far away and from a start that strains it, where rounding counts for more."""
    molecule = named_molecule("alanine-dipeptide")
    simulation = simulation_of(molecule.system, timewarp("alanine-dipeptide"), platform)
    simulation.context.setPositions(strain * molecule.positions + far)
    simulation.step(3)
    assert simulation.integrator.getNumProposed() == 3
    assert simulation.integrator.getBlockStatistics(0).rigidTried == 0


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
