"""Blocks, dynamics and Systems that cannot be used: messages name the thing and the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import openmm
import pytest
import torch
from block_systems import (
    NUM_PARTICLES,
    trimer_positions,
    trimer_system,
    trimer_topology,
    two_block_integrator,
    wells_simulation,
    write_trimer,
)
from openmm import app, unit
from reference_models import SURROGATES

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.simulation.systems import named_molecule

WATER = ("O", "H", "H")
CARBONS = ("C", "C", "C")


@pytest.fixture(scope="module")
def trimers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models of water, of three carbon atoms, and of these with the first as context."""
    folder = tmp_path_factory.mktemp("trimers")
    return {
        "water": write_trimer(folder / "water.pt", WATER),
        "carbons": write_trimer(folder / "carbons.pt", CARBONS),
        "part": write_trimer(folder / "part.pt", CARBONS, context=True),
    }


def empty() -> TimewarpMCMCIntegrator:
    return TimewarpMCMCIntegrator(temperature=300)


def make_context(
    system: openmm.System, model: str, particles: list[int], dynamics: int = 0
) -> openmm.Context:
    integrator = empty()
    integrator.addBlock(model, particles)
    integrator.setFrozenOthers(True)
    integrator.setDynamics(dynamics, 0.001, 1.0)
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))


def test_what_is_missing_is_asked_for(models: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="without a model temperature= is needed"):
        TimewarpMCMCIntegrator()
    with pytest.raises(ValueError, match=r"pass them to addBlock\(\)"):
        TimewarpMCMCIntegrator(temperature=300, topology=trimer_topology(CARBONS))
    with pytest.raises(ValueError, match="pass particles=, or topology="):
        empty().addBlock(models["lags"])
    with pytest.raises(ValueError, match="pass particles=, or topology="):
        empty().addBlock(models["lags"], [])
    with pytest.raises(ValueError, match="positions= is about the atoms of topology="):
        empty().addBlock(models["lags"], [0, 1, 2, 3], positions=np.zeros((4, 3)))
    with pytest.raises(openmm.OpenMMException, match=r"nothing to do; call addBlock\(\) or set"):
        wells_simulation(empty(), "Reference")
    for method in ("getModelPath", "getModelSha256", "getParticles"):
        with pytest.raises(openmm.OpenMMException, match=r"has no model; add one with addBlock"):
            getattr(empty(), method)()


def test_lag_times_are_those_of_the_model_of_the_class(models: dict[str, str]) -> None:
    integrator = two_block_integrator(models)
    for call in (
        integrator.getLagTimes,
        integrator.getLagWeights,
        lambda: integrator.setLagWeights([1.0, 0.0]),
    ):
        with pytest.raises(openmm.OpenMMException, match="created without; its blocks pick"):
            call()


@pytest.mark.parametrize(
    ("particles", "error", "message"),
    [
        ([0, 1, 1], openmm.OpenMMException, "block 0 .*particle 1 is given twice"),
        ([0, 1, -1], openmm.OpenMMException, "block 0 .*no particle -1; .* numbered from 0"),
        ([0, 1], openmm.OpenMMException, "block 0 .*has 3 atoms, but 2 particles"),
        ([0, 1, 2, 3], openmm.OpenMMException, "block 0 .*has 3 atoms, but 4 particles"),
        ([0, 1, 1.5], ValueError, "a particle must be an integer, not 1.5"),
        ([0, 1, 2**40], ValueError, "a particle must be at most 2147483647"),
    ],
)
def test_particles_that_no_system_could_have(
    trimers: dict[str, str], particles: list[int], error: type[Exception], message: str
) -> None:
    """They are refused at once, and nothing is added."""
    integrator = empty()
    with pytest.raises(error, match=message):
        integrator.addBlock(trimers["carbons"], particles)
    assert integrator.getNumBlocks() == 0


def test_particles_that_the_system_does_not_have(trimers: dict[str, str]) -> None:
    system = trimer_system(CARBONS)
    with pytest.raises(openmm.OpenMMException, match=r"block 0 .*particle 3, which .* it has 3"):
        make_context(system, trimers["carbons"], [0, 1, 3])


def test_a_model_of_a_whole_molecule_among_others(trimers: dict[str, str]) -> None:
    """Without particles it would be one of all of them; what says which they are is named."""
    integrator = TimewarpMCMCIntegrator(trimers["carbons"])
    with pytest.raises(
        openmm.OpenMMException,
        match=r"has 3 atoms but the System has 6 .*pass topology= of the whole System",
    ):
        openmm.Context(
            trimer_system(CARBONS, 2), integrator, openmm.Platform.getPlatformByName("Reference")
        )
    context = make_context(trimer_system(CARBONS, 2), trimers["carbons"], [3, 4, 5])
    context.setPositions(trimer_positions(2))
    context.getIntegrator().step(2)


def test_a_model_of_another_molecule(trimers: dict[str, str]) -> None:
    with pytest.raises(openmm.OpenMMException, match=r"block 0 .*mass"):
        make_context(trimer_system(CARBONS), trimers["water"], [0, 1, 2])


def test_the_block_at_fault_is_named(trimers: dict[str, str]) -> None:
    integrator = empty()
    integrator.addBlock(trimers["carbons"], [0, 1, 2])
    integrator.addBlock(trimers["part"], [3, 4, 8])
    with pytest.raises(openmm.OpenMMException, match=r"block 1 \(.*part\.pt\).*particle 8"):
        openmm.Context(
            trimer_system(CARBONS, 2), integrator, openmm.Platform.getPlatformByName("Reference")
        )


def test_particles_across_two_molecules(trimers: dict[str, str]) -> None:
    for model in ("carbons", "part"):
        with pytest.raises(openmm.OpenMMException, match=r"block 0 .*bond between .* lacks"):
            make_context(trimer_system(CARBONS, 2), trimers[model], [0, 1, 5])


@pytest.mark.parametrize("atom", [0, 2])
def test_particles_without_mass(trimers: dict[str, str], atom: int) -> None:
    """Only where they are moved: those of context atoms may be frozen."""
    frozen = trimer_system(CARBONS)
    frozen.setParticleMass(atom, 0.0)
    with pytest.raises(openmm.OpenMMException, match=f"block 0 .*particle {atom} has no mass"):
        make_context(frozen, trimers["carbons"], [0, 1, 2])


def test_context_atoms_may_be_frozen(trimers: dict[str, str]) -> None:
    frozen = trimer_system(CARBONS)
    frozen.setParticleMass(0, 0.0)
    make_context(frozen, trimers["part"], [0, 1, 2])


def test_virtual_sites(trimers: dict[str, str]) -> None:
    system = trimer_system(CARBONS)
    system.setParticleMass(2, 0.0)
    system.setVirtualSite(2, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))
    with pytest.raises(openmm.OpenMMException, match=r"block 0 .*particle 2 is a virtual site"):
        make_context(system, trimers["carbons"], [0, 1, 2])


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        # All distances of water, as rigidWater=True fixes them, and HAngles.
        (
            [(0, 1), (0, 2), (1, 2)],
            "particles . and . is constrained, and is not that of.*HBonds.*rigidW",
        ),
        # A ring: a hydrogen that is bound to two heavy atoms, of which one is another molecule's.
        ([(0, 1), (1, 3)], "particles . and . is constrained, and is not that of.*HBonds"),
        # A constraint that leaves the model's atoms.
        ([(2, 3)], "particles 2 and 3 is constrained, but only one of them.*model"),
    ],
)
def test_constraints_of_water_that_cannot_be_kept(
    trimers: dict[str, str], constraints: list[tuple[int, int]], message: str
) -> None:
    system = trimer_system(WATER, 2, constraints)
    with pytest.raises(openmm.OpenMMException, match=f"block 0 .*{message}"):
        make_context(system, trimers["water"], [0, 1, 2])


def test_constraints_between_heavy_atoms(trimers: dict[str, str]) -> None:
    """As AllBonds makes them."""
    system = trimer_system(CARBONS, 1, [(0, 1)])
    for model in ("carbons", "part"):
        with pytest.raises(openmm.OpenMMException, match=r"block 0 .*particles 0 and 1 .*HBonds"):
            make_context(system, trimers[model], [0, 1, 2])


def test_constraints_that_are_kept(trimers: dict[str, str]) -> None:
    system = trimer_system(WATER, 2, [(0, 1), (0, 2), (3, 4), (3, 5), (4, 5)])
    make_context(system, trimers["water"], [0, 1, 2], dynamics=1)


def test_a_model_that_cannot_keep_lengths() -> None:
    """Those that were made before models could say so, in a System with HBonds."""
    molecule = named_molecule("alanine-dipeptide")
    system = app.ForceField(*molecule.force_field).createSystem(
        molecule.topology, constraints=app.HBonds
    )
    integrator = TimewarpMCMCIntegrator(temperature=300)
    integrator.addBlock(pretrained("alanine-dipeptide"), topology=molecule.topology)
    with pytest.raises(openmm.OpenMMException, match=r"block 0 .*fit it again .*constraints=None"):
        openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, -math.inf])
def test_weights_that_are_none(models: dict[str, str], weight: float) -> None:
    integrator = empty()
    with pytest.raises(openmm.OpenMMException, match="weight of a block must not be negative"):
        integrator.addBlock(models["lags"], [0, 1, 2, 3], weight=weight)
    assert integrator.getNumBlocks() == 0


@pytest.mark.parametrize(
    ("weights", "message"),
    [((0.0, 0.0), "all blocks are 0"), ((1e308, 1e308), "add up to infinity")],
)
def test_weights_that_pick_nothing(
    models: dict[str, str], weights: tuple[float, float], message: str
) -> None:
    integrator = empty()
    for first, weight in zip((0, 4), weights, strict=True):
        integrator.addBlock(models["lags"], range(first, first + 4), weight=weight)
    with pytest.raises(openmm.OpenMMException, match=message):
        wells_simulation(integrator, "Reference")


def test_a_block_of_weight_0_moves_nothing(models: dict[str, str]) -> None:
    integrator = empty()
    integrator.addBlock(models["lags"], [0, 1, 2, 3])
    integrator.addBlock(models["lags"], [4, 5, 6, 7], weight=0.0)
    with pytest.raises(openmm.OpenMMException, match=r"nothing moves 4 .* the first of them 4"):
        wells_simulation(integrator, "Reference")


def test_particles_that_nothing_moves(models: dict[str, str], trimers: dict[str, str]) -> None:
    integrator = empty()
    integrator.addBlock(models["lags"], [0, 2, 4, 6])
    with pytest.raises(openmm.OpenMMException, match=r"nothing moves 4 .*setFrozenOthers\(True\)"):
        wells_simulation(integrator, "Reference")
    integrator.setFrozenOthers(True)
    wells_simulation(integrator, "Reference")
    part = empty()
    part.addBlock(trimers["part"], [0, 1, 2])
    with pytest.raises(openmm.OpenMMException, match=r"nothing moves 1 .* the first of them 0"):
        openmm.Context(trimer_system(CARBONS), part, openmm.Platform.getPlatformByName("Reference"))


def test_blocks_that_do_not_exist(models: dict[str, str]) -> None:
    integrator = two_block_integrator(models)
    for method in (
        integrator.getBlockStatistics,
        integrator.getBlockParticles,
        integrator.getBlockWeight,
        integrator.getBlockModelPath,
    ):
        for index in (2, -1):
            with pytest.raises(openmm.OpenMMException, match=f"no block {index}: .* has 2"):
                method(index)
        with pytest.raises(ValueError, match="a block must be an integer, not 'first'"):
            method("first")


def test_what_comes_too_late(models: dict[str, str]) -> None:
    integrator = two_block_integrator(models)
    simulation = wells_simulation(integrator, "Reference")
    calls: dict[str, Callable[[], object]] = {
        "addBlock": lambda: integrator.addBlock(models["walk"], [2, 3, 4, 5]),
        "setDynamics": lambda: integrator.setDynamics(1, 0.001, 1.0),
        "setFrozenOthers": lambda: integrator.setFrozenOthers(True),
        "setScreening": lambda: integrator.setScreening(False),
    }
    for name, call in calls.items():
        with pytest.raises(openmm.OpenMMException, match=rf"{name}\(\) cannot be called after"):
            call()
    simulation.step(5)
    assert integrator.getNumProposed() == 5


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ((-1, 0.001, 1.0), openmm.OpenMMException, "number of dynamics steps must not be negat"),
        ((1, 0.0, 1.0), openmm.OpenMMException, "step size of the dynamics must be positive"),
        ((1, math.nan, 1.0), openmm.OpenMMException, "step size of the dynamics must be positive"),
        ((1, math.inf, 1.0), openmm.OpenMMException, "step size of the dynamics must be positive"),
        ((1, 0.001, -1.0), openmm.OpenMMException, "friction coefficient must not be negative"),
        ((1, 0.001, math.nan), openmm.OpenMMException, "friction coefficient must not be neg"),
        ((1.5, 0.001, 1.0), ValueError, "number of dynamics steps must be an integer, not 1.5"),
        ((2**31, 0.001, 1.0), ValueError, "number of dynamics steps must be at most"),
        ((1, 1 * unit.kelvin, 1.0), ValueError, "expected a quantity in picosecond, got kelvin"),
        ((1, 0.001, 1 * unit.picosecond), ValueError, "expected a quantity in /picosecond"),
    ],
)
def test_dynamics_that_cannot_be(
    settings: tuple[object, object, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        empty().setDynamics(*settings)


def test_numbers_of_proposals_that_cannot_be() -> None:
    with pytest.raises(openmm.OpenMMException, match="proposals in a step must not be negative"):
        empty().setProposalsPerStep(-1)
    for number in (0.5, 2**31, None):
        with pytest.raises(ValueError, match="number of proposals in a step must be"):
            empty().setProposalsPerStep(number)


def test_numbers_of_blocks_in_a_try_that_cannot_be() -> None:
    with pytest.raises(openmm.OpenMMException, match="blocks in a try must be positive"):
        empty().setBlocksPerTry(0)
    for number in (0.5, 2**31, None):
        with pytest.raises(ValueError, match="number of blocks in a try must be"):
            empty().setBlocksPerTry(number)


def test_steps_that_do_nothing(models: dict[str, str]) -> None:
    """No proposals without dynamics: refused when the Context is made, and afterwards."""
    alone, one_of_two = two_block_integrator(models), two_block_integrator(models)
    of_one_model = TimewarpMCMCIntegrator(models["lags"])
    for integrator in (alone, one_of_two, of_one_model):
        integrator.setProposalsPerStep(0)
    compound = openmm.CompoundIntegrator()
    compound.addIntegrator(openmm.LangevinMiddleIntegrator(300, 1, 0.001))
    compound.addIntegrator(one_of_two)
    for integrator in (alone, of_one_model, compound):
        with pytest.raises(openmm.OpenMMException, match=r"nothing; call setProposalsPerStep\(1\)"):
            wells_simulation(integrator, "Reference")
    alone.setProposalsPerStep(2)
    simulation = wells_simulation(alone, "Reference")
    with pytest.raises(openmm.OpenMMException, match="would do nothing"):
        alone.setProposalsPerStep(0)
    simulation.step(3)
    assert alone.getNumProposed() == 6


def test_dynamics_without_proposals(models: dict[str, str]) -> None:
    integrator = two_block_integrator(models)
    integrator.setDynamics(1, 0.001, 1.0)
    integrator.setProposalsPerStep(0)
    wells_simulation(integrator, "Reference").step(3)
    assert integrator.getNumProposed() == 0


def test_a_surrogate_is_for_one_model(models: dict[str, str]) -> None:
    integrator = two_block_integrator(models)
    integrator.setSurrogate(torch.jit.script(SURROGATES["true"]))
    with pytest.raises(openmm.OpenMMException, match=r"has 2; call setSurrogate\(None\)"):
        wells_simulation(integrator, "Reference")


def test_a_topology_of_another_size(trimers: dict[str, str]) -> None:
    integrator = empty()
    integrator.addBlock(trimers["carbons"], topology=trimer_topology(CARBONS))
    with pytest.raises(ValueError, match="has 6 atoms, but that of an earlier block has 3"):
        integrator.addBlock(
            trimers["carbons"], topology=trimer_topology(CARBONS, 2), particles=range(3, 6)
        )
    with pytest.raises(openmm.OpenMMException, match="topology has 3 atoms but the System has 6"):
        openmm.Context(
            trimer_system(CARBONS, 2), integrator, openmm.Platform.getPlatformByName("Reference")
        )


def test_a_box_smaller_than_twice_the_cutoff(trimers: dict[str, str]) -> None:
    """OpenMM's own error is the one that is seen, when a Context is made and when a box is set."""
    system = trimer_system(CARBONS)
    system.setDefaultPeriodicBoxVectors([2, 0, 0], [0.5, 2, 0], [0.5, 0.5, 1.5])
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    for _ in range(3):
        force.addParticle(0.0, 0.3, 0.1)
    for pair in ((0, 1), (0, 2), (1, 2)):
        force.addException(*pair, 0.0, 1.0, 0.0)
    force.setCutoffDistance(0.8)
    system.addForce(force)
    with pytest.raises(openmm.OpenMMException, match="half the periodic box size"):
        make_context(system, trimers["part"], [0, 1, 2], dynamics=1)
    force.setCutoffDistance(0.7)
    context = make_context(system, trimers["part"], [0, 1, 2], dynamics=1)
    context.setPositions(trimer_positions())
    context.getIntegrator().step(2)
    context.setPeriodicBoxVectors([1.3, 0, 0], [0.3, 1.3, 0], [0.3, 0.3, 1.3])
    with pytest.raises(openmm.OpenMMException, match="less than twice the nonbonded cutoff"):
        context.getIntegrator().step(1)


def test_what_is_refused_leaves_the_integrator_usable(models: dict[str, str]) -> None:
    integrator = two_block_integrator(models)
    with pytest.raises(openmm.OpenMMException, match="block 1"):
        openmm.Context(
            trimer_system(CARBONS, 2), integrator, openmm.Platform.getPlatformByName("Reference")
        )
    simulation = wells_simulation(integrator, "Reference")
    simulation.step(5)
    assert integrator.getNumProposed() == 5
    assert simulation.system.getNumParticles() == NUM_PARTICLES
