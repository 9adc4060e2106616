"""Several blocks in one integrator: which are tried, what is counted, and what a copy holds."""

from __future__ import annotations

import copy
import math
import pickle
import re
from pathlib import Path

import numpy as np
import openmm
import pytest
from block_systems import NUM_PARTICLES, two_block_integrator, wells_simulation
from chains import TEMPERATURE, positions_of, record, virial_temperature
from openmm import app, unit

from timewarp_openmm import BlockStatistics, LatentChoice, TimewarpMCMCIntegrator

REFERENCE = "Reference"


def statistics_of(integrator: TimewarpMCMCIntegrator) -> list[BlockStatistics]:
    return [integrator.getBlockStatistics(i) for i in range(integrator.getNumBlocks())]


def test_what_was_set_is_what_is_read(models: dict[str, str]) -> None:
    integrator = TimewarpMCMCIntegrator(temperature=0.3e3 * unit.kelvin)
    assert integrator.getNumBlocks() == 0
    assert integrator.getTemperature() == 300 * unit.kelvin
    assert integrator.getScreening()
    assert not integrator.getFrozenOthers()
    assert integrator.getProposalsPerStep() == 1
    assert integrator.getBlocksPerTry() == 1
    assert integrator.addBlock(models["lags"], np.arange(4)) == 0
    assert integrator.addBlock(Path(models["walk"]), range(7, 3, -1), weight=0.5) == 1
    assert integrator.getNumBlocks() == 2
    assert integrator.getBlockModelPath(1) == models["walk"]
    assert integrator.getBlockParticles(1) == [7, 6, 5, 4]
    assert [integrator.getBlockWeight(i) for i in (0, 1)] == [1.0, 0.5]
    assert statistics_of(integrator) == [BlockStatistics(0, 0, 0, 0, 0, 0)] * 2
    integrator.setDynamics(np.int64(3), 2 * unit.femtosecond, 5000 / unit.nanosecond)
    assert integrator.getDynamicsSteps() == 3
    assert integrator.getDynamicsStepSize().value_in_unit(unit.femtosecond) == pytest.approx(2)
    assert integrator.getDynamicsFriction().value_in_unit(unit.picosecond**-1) == pytest.approx(5)
    integrator.setProposalsPerStep(4)
    integrator.setBlocksPerTry(np.int64(3))
    integrator.setFrozenOthers(True)
    integrator.setScreening(False)
    assert integrator.getProposalsPerStep() == 4
    assert integrator.getBlocksPerTry() == 3
    assert integrator.getFrozenOthers()
    assert not integrator.getScreening()


def test_the_model_of_the_class_is_block_0(models: dict[str, str]) -> None:
    integrator = TimewarpMCMCIntegrator(models["walk"])
    assert integrator.getNumBlocks() == 1
    assert integrator.getBlockModelPath(0) == integrator.getModelPath()
    integrator.setParticles([3, 1, 2, 0])
    assert integrator.addBlock(models["lags"], [0, 1, 2, 3]) == 1
    assert integrator.getBlockParticles(0) == [3, 1, 2, 0]


def frames_of(simulation: app.Simulation, count: int) -> np.ndarray:
    """Return positions [count, N, 3] / nm after every fourth step."""
    frames = []
    for _ in range(count):
        simulation.step(4)
        frames.append(positions_of(simulation.context))
    return np.array(frames)


def test_samples_of_blocks_are_those_of_the_system(models: dict[str, str]) -> None:
    """A model used twice, and a third block that overlaps both."""
    integrator = two_block_integrator(models)
    integrator.addBlock(models["walk"], [2, 3, 4, 5])
    simulation = wells_simulation(integrator, REFERENCE)
    frames = frames_of(simulation, 500)
    statistics = statistics_of(integrator)
    assert sum(s.tried for s in statistics) == integrator.getNumProposed() == 2000
    assert sum(s.accepted for s in statistics) == integrator.getNumAccepted()
    for found, share in zip(statistics, (0.25, 0.5, 0.25), strict=True):
        assert 0 < found.accepted < found.tried
        # Five standard errors of a binomial distribution.
        error = math.sqrt(2000 * share * (1 - share))
        assert found.tried == pytest.approx(2000 * share, abs=5 * error)
    temperature, error = virial_temperature(simulation, frames[25:])
    assert temperature == pytest.approx(TEMPERATURE, abs=5 * error)
    assert error < 20


def test_all_proposals_of_a_step_count(models: dict[str, str]) -> None:
    integrator = two_block_integrator(models)
    integrator.setProposalsPerStep(3)
    simulation = wells_simulation(integrator, REFERENCE)
    simulation.step(40)
    assert integrator.getNumProposed() == 120
    state = simulation.context.getState()
    assert state.getStepCount() == 40
    assert state.getTime() == 40 * integrator.getStepSize()


def test_statistics_outlive_the_context(models: dict[str, str]) -> None:
    integrator = two_block_integrator(models)
    simulation = wells_simulation(integrator, REFERENCE)
    simulation.step(50)
    before = statistics_of(integrator)
    del simulation
    assert statistics_of(integrator) == before
    assert before[1].tried > before[1].accepted > 0


def run(integrator: TimewarpMCMCIntegrator) -> np.ndarray:
    return record(wells_simulation(integrator, REFERENCE), 30)


def settings_of(integrator: TimewarpMCMCIntegrator) -> list[object]:
    blocks = [
        (f(i))
        for i in range(integrator.getNumBlocks())
        for f in (
            integrator.getBlockModelPath,
            integrator.getBlockParticles,
            integrator.getBlockWeight,
        )
    ]
    return [
        blocks,
        integrator.getTemperature(),
        integrator.getDynamicsSteps(),
        integrator.getDynamicsStepSize(),
        integrator.getDynamicsFriction(),
        integrator.getProposalsPerStep(),
        integrator.getBlocksPerTry(),
        integrator.getFrozenOthers(),
        integrator.getScreening(),
        integrator.getEmbedModel(),
        integrator.getRandomNumberSeed(),
    ]


def through_xml(integrator: TimewarpMCMCIntegrator) -> TimewarpMCMCIntegrator:
    xml = openmm.XmlSerializer.serialize(integrator)
    return TimewarpMCMCIntegrator.cast(openmm.XmlSerializer.deserialize(xml))


@pytest.mark.parametrize("embed", [False, True])
@pytest.mark.parametrize("has_model", [False, True])
def test_copies_have_all_blocks(models: dict[str, str], embed: bool, has_model: bool) -> None:
    integrator = two_block_integrator(models)
    if has_model:
        integrator = TimewarpMCMCIntegrator(models["walk"], temperature=TEMPERATURE)
        integrator.setParticles([0, 1, 2, 3])
        integrator.addBlock(models["lags"], [7, 6, 5, 4], weight=2.0)
        integrator.setRandomNumberSeed(4)
    integrator.addBlock(models["walk"], [2, 3, 4, 5], weight=0.25)
    integrator.setEmbedModel(embed)
    integrator.setDynamics(2, 0.004, 7.0)
    integrator.setProposalsPerStep(2)
    integrator.setFrozenOthers(True)
    integrator.setScreening(False)
    copies = [
        copy.deepcopy(integrator),
        pickle.loads(pickle.dumps(integrator)),
        through_xml(integrator),
        through_xml(through_xml(integrator)),
        TimewarpMCMCIntegrator.cast(openmm.XmlSerializer.clone(integrator)),
    ]
    expected = run(integrator)
    for other in copies:
        assert settings_of(other) == settings_of(integrator)
        assert np.array_equal(run(other), expected)


def test_an_integrator_of_dynamics_alone_is_copied() -> None:
    integrator = TimewarpMCMCIntegrator(temperature=321)
    integrator.setDynamics(5, 0.002, 1.5)
    integrator.setBlocksPerTry(6)
    assert settings_of(copy.deepcopy(integrator)) == settings_of(integrator)


def test_rigid_moves_are_copied(models: dict[str, str]) -> None:
    integrator = two_block_integrator(models)
    integrator.setRigidMoves(0.05, 0.0)
    for other in (copy.deepcopy(integrator), through_xml(integrator)):
        assert other.getRigidTranslation() == 0.05 * unit.nanometer
        assert other.getRigidRotation() == 0.0 * unit.radian


def test_latent_correlations_are_copied(models: dict[str, str]) -> None:
    integrator = two_block_integrator(models)
    integrator.setLatentCorrelation(
        [(0.0, 0.5), (0.9, 0.25), (0.0, 0.25, 0.1), LatentChoice(rho=0.5, weight=0.25, torsions=2)]
    )
    for other in (copy.deepcopy(integrator), through_xml(integrator)):
        assert other.getLatentCorrelation() == [
            (0.0, 0.5, 1.0, 0),
            (0.9, 0.25, 1.0, 0),
            (0.0, 0.25, 0.1, 0),
            LatentChoice(rho=0.5, weight=0.25, torsions=2),
        ]


@pytest.mark.parametrize("choice", [(0.5,), (0.5, 1.0, 0.5, 2, 3.0)])
def test_latent_correlations_of_another_form_are_refused(
    models: dict[str, str], choice: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match=r"\(rho, weight, share, torsions\), not \(0.5,"):
        two_block_integrator(models).setLatentCorrelation([choice])


@pytest.mark.parametrize("torsions", [1.5, math.nan, math.inf])
def test_parts_of_torsions_are_refused(models: dict[str, str], torsions: float) -> None:
    with pytest.raises(ValueError, match="must be whole"):
        two_block_integrator(models).setLatentCorrelation([(0.0, 1.0, 1.0, torsions)])


def test_each_model_is_embedded_once(models: dict[str, str], tmp_path: Path) -> None:
    """Under whatever path, and none of the files is needed."""
    paths = {}
    for name, source in (("lags", "lags"), ("same", "lags"), ("walk", "walk")):
        paths[name] = tmp_path / f"{name}.pt"
        paths[name].write_bytes(Path(models[source]).read_bytes())
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE, embedModel=True)
    for i, name in enumerate(("lags", "lags", "same", "walk", "lags")):
        integrator.addBlock(paths[name], range(i, i + 4))
    integrator.setRandomNumberSeed(6)
    xml = openmm.XmlSerializer.serialize(integrator)
    assert len(re.findall("<Model ", xml)) == 2
    for path in paths.values():
        path.unlink()
    read = TimewarpMCMCIntegrator.cast(openmm.XmlSerializer.deserialize(xml))
    assert settings_of(read) == settings_of(integrator)
    assert np.array_equal(run(read), run(integrator))


def test_a_changed_or_missing_file_is_named_with_its_block(
    models: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(Path(models["walk"]).read_bytes())
    integrator = two_block_integrator(models)
    integrator.addBlock(path, [2, 3, 4, 5])
    xml, pickled = openmm.XmlSerializer.serialize(integrator), pickle.dumps(integrator)
    path.write_bytes(Path(models["rejecting"]).read_bytes())
    for read in (
        lambda: openmm.XmlSerializer.deserialize(xml),
        lambda: pickle.loads(pickled),
    ):
        with pytest.raises(openmm.OpenMMException, match=r"block 2 .*other\.pt.* has changed"):
            read()
    path.write_bytes(b"not a model")
    with pytest.raises(openmm.OpenMMException, match=r"block 2 .*not a TorchScript module"):
        openmm.XmlSerializer.deserialize(xml)
    path.unlink()
    with pytest.raises(openmm.OpenMMException, match=r"block 2 .*cannot open the model file"):
        openmm.XmlSerializer.deserialize(xml)


def test_a_damaged_embedded_model_is_named_with_its_block(models: dict[str, str]) -> None:
    integrator = two_block_integrator(models)
    integrator.setEmbedModel(True)
    xml = openmm.XmlSerializer.serialize(integrator)
    place = xml.index(' content="') + 2000
    damaged = xml[:place] + ("B" if xml[place] == "A" else "A") + xml[place + 1 :]
    with pytest.raises(openmm.OpenMMException, match=r"block 0 .*embedded model .* is damaged"):
        openmm.XmlSerializer.deserialize(damaged)


@pytest.mark.parametrize("embed", [False, True])
def test_files_of_the_first_version_are_read(models: dict[str, str], embed: bool) -> None:
    """They held one model, with its entries beside the settings."""
    expected = TimewarpMCMCIntegrator(models["lags"], temperature=311.5, embedModel=embed)
    expected.setRandomNumberSeed(7)
    expected.setParticles([3, 1, 0, 2])
    expected.setLagWeights([0.25, 0.75])
    xml = openmm.XmlSerializer.serialize(expected)
    model = re.search(r'modelPath="[^"]*" modelSha256="[^"]*"', xml)
    assert model is not None
    content = re.search(r' content="([^"]*)"', xml)
    embedded = f' modelContent="{content[1]}"' if content else ""
    particles = "".join(f'<Particle index="{i}"/>' for i in (3, 1, 0, 2))
    old = (
        f'<Integrator type="TimewarpMCMCIntegrator" version="1" {model[0]}{embedded} '
        'temperature="311.5" stepSize="1" constraintTolerance="1e-05" batchSize="0" '
        'randomSeed="7" integrationForceGroups="-1" subchainLength="1" useCudaGraphs="0" '
        'topologySize="0"><LagWeights><Lag weight=".25"/><Lag weight=".75"/></LagWeights>'
        f"<Particles>{particles}</Particles></Integrator>"
    )
    read = TimewarpMCMCIntegrator.cast(openmm.XmlSerializer.deserialize(old))
    assert settings_of(read) == settings_of(expected)
    assert read.getLagWeights() == [0.25, 0.75]
    assert openmm.XmlSerializer.serialize(read) == xml


def test_blocks_may_not_be_read_from_a_file_of_a_later_version(models: dict[str, str]) -> None:
    xml = openmm.XmlSerializer.serialize(two_block_integrator(models))
    with pytest.raises(openmm.OpenMMException, match="version"):
        openmm.XmlSerializer.deserialize(xml.replace('version="2"', 'version="3"'))


def save_and_load(
    source: TimewarpMCMCIntegrator, target: TimewarpMCMCIntegrator, kind: str
) -> None:
    """Load what one integrator's Context saves into that of another."""
    one, other = wells_simulation(source, REFERENCE), wells_simulation(target, REFERENCE)
    one.step(5)
    if kind == "checkpoint":
        other.context.loadCheckpoint(one.context.createCheckpoint())
    else:
        state = one.context.getState(positions=True, integratorParameters=True)
        other.context.setState(state)


@pytest.mark.parametrize("kind", ["checkpoint", "State"])
def test_what_was_saved_with_other_blocks_is_refused(models: dict[str, str], kind: str) -> None:
    more = two_block_integrator(models)
    more.addBlock(models["walk"], [2, 3, 4, 5])
    with pytest.raises(openmm.OpenMMException, match=r"of 3 moves, .* 2; add the same blocks"):
        save_and_load(more, two_block_integrator(models), kind)
    swapped = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    swapped.addBlock(models["lags"], [0, 1, 2, 3])
    swapped.addBlock(models["lags"], [4, 5, 6, 7])
    with pytest.raises(openmm.OpenMMException, match="moves other particles"):
        save_and_load(swapped, two_block_integrator(models), kind)
    another = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    another.addBlock(models["lags"], [0, 1, 2, 3])
    another.addBlock(models["walk"], [7, 6, 5, 4])
    with pytest.raises(openmm.OpenMMException, match="another model"):
        save_and_load(another, two_block_integrator(models), kind)
    save_and_load(two_block_integrator(models), two_block_integrator(models), kind)


def test_a_state_saved_before_the_first_step(models: dict[str, str]) -> None:
    """Two Contexts that load it go on alike, and as the Context that saved it."""
    simulations = [wells_simulation(two_block_integrator(models, seed=0), REFERENCE)]
    state = simulations[0].context.getState(
        positions=True, velocities=True, integratorParameters=True
    )
    for _ in range(2):
        simulations.append(wells_simulation(two_block_integrator(models, seed=0), REFERENCE))
        simulations[-1].context.setState(state)
    frames = [record(simulation, 40) for simulation in simulations]
    assert len(np.unique(frames[0][:, 0], axis=0)) > 3
    for other in frames[1:]:
        assert np.array_equal(other, frames[0])


def test_an_edited_system_keeps_blocks_and_counters(models: dict[str, str]) -> None:
    """reinitialize(preserveState=True) works as with any other integrator."""
    integrator = two_block_integrator(models)
    simulation = wells_simulation(integrator, REFERENCE)
    simulation.step(20)
    before = statistics_of(integrator)
    restraint = openmm.CustomExternalForce("50*z^2")
    for i in range(NUM_PARTICLES):
        restraint.addParticle(i)
    simulation.system.addForce(restraint)
    simulation.context.reinitialize(preserveState=True)
    assert statistics_of(integrator) == before
    frames = frames_of(simulation, 400)
    assert integrator.getNumProposed() == 1620
    temperature, error = virial_temperature(simulation, frames[25:])
    assert temperature == pytest.approx(TEMPERATURE, abs=5 * error)
    assert error < 40
