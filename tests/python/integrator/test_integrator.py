"""The Python class: a real openmm.Integrator, with OpenMM's naming and units."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit
from reference_models import Affine, any_molecule, save_model

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.contract import METADATA_FILE, ModelMetadata
from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule

SCALE = 0.0005  # nm; a random walk this small is accepted often enough to test with


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return named_molecule("alanine-dipeptide")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, alanine: MolecularSystem) -> Path:
    """A random walk that is bound to alanine dipeptide."""
    metadata = ModelMetadata(
        molecule=molecule_from_topology(alanine.topology, alanine.system),
        noise_size=2 * 66,
        temperature=310.0,
        coordinates="test",
        lag_times=[2.0],
        lag_weights=[1.0],
        reference_positions=alanine.positions.tolist(),
        force_field=list(alanine.force_field),
    )
    path = tmp_path_factory.mktemp("model") / "walk.pt"
    save_model(Affine([SCALE] * 3, 1.0, 0.0), metadata, path)
    return path


def make_simulation(alanine: MolecularSystem, integrator: openmm.Integrator) -> app.Simulation:
    if isinstance(integrator, TimewarpMCMCIntegrator) and integrator.getRandomNumberSeed() == 0:
        integrator.setRandomNumberSeed(3)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(alanine.topology, alanine.system, integrator, platform)
    simulation.context.setPositions(alanine.positions)
    return simulation


def positions_of(simulation: app.Simulation) -> np.ndarray:
    state = simulation.context.getState(positions=True)
    return state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)


def test_is_an_openmm_integrator_with_units(model: Path) -> None:
    integrator = TimewarpMCMCIntegrator(model)
    assert isinstance(integrator, openmm.Integrator)
    assert integrator.getTemperature() == 310 * unit.kelvin
    assert integrator.getStepSize() == 2 * unit.picosecond
    assert integrator.getModelPath() == str(model)
    assert integrator.getBatchSize() == 0
    assert integrator.getNumProposed() == 0
    assert integrator.getAcceptanceRate() == 0.0
    integrator.setTemperature(0.5 * 600 * unit.kelvin)
    assert integrator.getTemperature().value_in_unit(unit.kelvin) == 300.0
    integrator.setBatchSize(3)
    integrator.setRandomNumberSeed(11)
    assert (integrator.getBatchSize(), integrator.getRandomNumberSeed()) == (3, 11)


def test_runs_in_a_simulation_with_reporters(
    alanine: MolecularSystem, model: Path, tmp_path: Path
) -> None:
    simulation = make_simulation(alanine, TimewarpMCMCIntegrator(model))
    simulation.minimizeEnergy()
    log = tmp_path / "log.csv"
    simulation.reporters.append(app.DCDReporter(str(tmp_path / "out.dcd"), 10))
    simulation.reporters.append(
        app.StateDataReporter(str(log), 10, step=True, time=True, temperature=True, speed=True)
    )
    simulation.step(200)
    integrator = simulation.integrator
    assert integrator.getNumProposed() == 200
    assert 0 < integrator.getNumAccepted() <= 200
    elapsed = simulation.context.getState().getTime().value_in_unit(unit.picosecond)
    assert elapsed == pytest.approx(400)
    temperatures = [float(line.split(",")[2]) for line in log.read_text().splitlines()[1:]]
    # 20 draws of 66 degrees of freedom; five standard errors.
    assert np.mean(temperatures) == pytest.approx(310, abs=5 * 310 * np.sqrt(2 / 66 / 20))


def test_counters_outlive_the_context(alanine: MolecularSystem, model: Path) -> None:
    integrator = TimewarpMCMCIntegrator(model)
    simulation = make_simulation(alanine, integrator)
    simulation.minimizeEnergy()
    simulation.step(200)
    accepted = integrator.getNumAccepted()
    del simulation
    assert (integrator.getNumProposed(), integrator.getNumAccepted()) == (200, accepted)
    assert accepted > 0


def test_same_seed_same_chain(alanine: MolecularSystem, model: Path) -> None:
    results = []
    for seed in (5, 5, 6):
        integrator = TimewarpMCMCIntegrator(model)
        integrator.setRandomNumberSeed(seed)
        simulation = make_simulation(alanine, integrator)
        simulation.step(100)
        results.append(positions_of(simulation))
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_checkpoint_resumes_bit_for_bit(alanine: MolecularSystem, model: Path) -> None:
    simulation = make_simulation(alanine, TimewarpMCMCIntegrator(model))
    simulation.step(33)
    checkpoint = simulation.context.createCheckpoint()
    simulation.step(50)
    expected = positions_of(simulation)
    simulation.context.loadCheckpoint(checkpoint)
    simulation.step(50)
    assert np.array_equal(positions_of(simulation), expected)


def test_copies_pickles_and_serializes(model: Path) -> None:
    integrator = TimewarpMCMCIntegrator(model, temperature=305)
    integrator.setBatchSize(12)
    xml = openmm.XmlSerializer.serialize(integrator)
    made = [
        copy.deepcopy(integrator),
        pickle.loads(pickle.dumps(integrator)),
        TimewarpMCMCIntegrator.cast(openmm.XmlSerializer.deserialize(xml)),
    ]
    for other in made:
        assert isinstance(other, TimewarpMCMCIntegrator)
        assert other.getTemperature() == 305 * unit.kelvin
        assert other.getBatchSize() == 12
    with pytest.raises(TypeError, match="VerletIntegrator"):
        TimewarpMCMCIntegrator.cast(openmm.VerletIntegrator(0.001))


def test_works_in_a_compound_integrator(alanine: MolecularSystem, model: Path) -> None:
    compound = openmm.CompoundIntegrator()
    compound.addIntegrator(openmm.LangevinMiddleIntegrator(310, 1.0, 0.001))
    compound.addIntegrator(TimewarpMCMCIntegrator(model))
    simulation = make_simulation(alanine, compound)
    for current in (0, 1, 0, 1):
        compound.setCurrentIntegrator(current)
        simulation.step(20)
    member = TimewarpMCMCIntegrator.cast(compound.getIntegrator(1))
    assert member.getNumProposed() == 40
    assert np.isfinite(positions_of(simulation)).all()


def test_other_atom_order_is_matched_through_the_topology(
    alanine: MolecularSystem, model: Path
) -> None:
    modeller = app.Modeller(alanine.topology, alanine.positions * unit.nanometer)
    # Reverse the atoms within each residue.
    topology = app.Topology()
    chain = topology.addChain()
    made, order = {}, []
    for residue in modeller.topology.residues():
        new = topology.addResidue(residue.name, chain)
        for atom in reversed(list(residue.atoms())):
            made[atom] = topology.addAtom(atom.name, atom.element, new)
            order.append(atom.index)
    for bond in modeller.topology.bonds():
        topology.addBond(made[bond[0]], made[bond[1]])
    system = app.ForceField(*alanine.force_field).createSystem(topology, removeCMMotion=False)
    context_arguments = (system, openmm.Platform.getPlatformByName("Reference"))
    with pytest.raises(openmm.OpenMMException, match="topology="):
        openmm.Context(context_arguments[0], TimewarpMCMCIntegrator(model), context_arguments[1])
    integrator = TimewarpMCMCIntegrator(model, topology=topology)
    assert [order[i] for i in integrator.getParticles()] == list(range(22))
    integrator.setRandomNumberSeed(4)
    context = openmm.Context(context_arguments[0], integrator, context_arguments[1])
    context.setPositions(alanine.positions[order])
    integrator.step(50)
    plain = TimewarpMCMCIntegrator(model)
    plain.setRandomNumberSeed(4)
    simulation = make_simulation(alanine, plain)
    plain.step(50)
    found = context.getState(positions=True).getPositions(asNumpy=True)._value
    assert plain.getNumAccepted() > 0
    assert np.allclose(found, positions_of(simulation)[order], atol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot open the model file"),
        (b"not a model", "not a TorchScript module"),
    ],
)
def test_missing_or_corrupt_model(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(openmm.OpenMMException, match=message):
        TimewarpMCMCIntegrator(path)


def test_truncated_model(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "half.pt"
    path.write_bytes(model.read_bytes()[:-2000])
    with pytest.raises(openmm.OpenMMException, match="damaged"):
        TimewarpMCMCIntegrator(path)


class NoMethods(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class LyingDensity(Affine):
    @torch.jit.export
    def log_prob(
        self, y: torch.Tensor, w: torch.Tensor, x: torch.Tensor, lag: torch.Tensor
    ) -> torch.Tensor:
        return torch.zeros(y.size(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (NoMethods(), "no method sample"),
        (LyingDensity([0.1] * 3, 1.0, 0.0), "log_prob of its own samples differs"),
    ],
)
def test_model_that_breaks_the_contract(
    tmp_path: Path, module: torch.nn.Module, message: str
) -> None:
    path = tmp_path / "model.pt"
    save_model(module, any_molecule(12, reference_positions=[[0.0] * 3, [0.1] * 3]), path)
    with pytest.raises(openmm.OpenMMException, match=message):
        TimewarpMCMCIntegrator(path)


def test_torchscript_without_metadata(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.script(NoMethods()), str(path))
    with pytest.raises(openmm.OpenMMException, match=METADATA_FILE):
        TimewarpMCMCIntegrator(path)


def test_system_that_does_not_fit(alanine: MolecularSystem, model: Path) -> None:
    small = openmm.System()
    for _ in range(3):
        small.addParticle(1.0)
    field = app.ForceField(*alanine.force_field)
    heavier = field.createSystem(alanine.topology)
    heavier.setParticleMass(4, 34.0)
    constrained = field.createSystem(alanine.topology, constraints=app.HBonds)
    for system, message in (
        (small, "has 22 atoms but the System has 3"),
        (heavier, "and the hydrogens on it have a mass of"),
        (constrained, "made before models could keep lengths of bonds.*constraints=None"),
    ):
        with pytest.raises(openmm.OpenMMException, match=message):
            openmm.Context(system, TimewarpMCMCIntegrator(model))


def test_repartitioned_masses(alanine: MolecularSystem) -> None:
    """Positions do not depend on masses: a chain takes the same decisions with heavy hydrogens."""
    field = app.ForceField(*alanine.force_field)
    platform = openmm.Platform.getPlatformByName("Reference")
    ends = []
    for mass in (None, 3.0):
        integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
        integrator.setRandomNumberSeed(3)
        system = field.createSystem(alanine.topology, hydrogenMass=mass)
        simulation = app.Simulation(alanine.topology, system, integrator, platform)
        simulation.context.setPositions(alanine.positions)
        simulation.step(50)
        ends.append(positions_of(simulation))
    assert (ends[0] == ends[1]).all()


def test_bad_temperature(model: Path) -> None:
    for temperature in (0.0, -5.0, float("nan")):
        with pytest.raises(openmm.OpenMMException, match="Temperature must be positive"):
            TimewarpMCMCIntegrator(model, temperature=temperature)
    with pytest.raises(ValueError, match="kelvin"):
        TimewarpMCMCIntegrator(model, temperature=3 * unit.nanometer)


def test_cuda_graphs_are_refused_without_cuda(alanine: MolecularSystem, model: Path) -> None:
    integrator = TimewarpMCMCIntegrator(model)
    assert integrator.getUseCudaGraphs() is False
    integrator.setUseCudaGraphs(True)
    read = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(integrator))
    assert TimewarpMCMCIntegrator.cast(read).getUseCudaGraphs() is True
    with pytest.raises(
        openmm.OpenMMException, match=r"platform is not CUDA.*setUseCudaGraphs\(False"
    ):
        make_simulation(alanine, integrator)
    integrator.setUseCudaGraphs(False)
    simulation = make_simulation(alanine, integrator)
    simulation.step(1)
    with pytest.raises(openmm.OpenMMException, match="after the Integrator is bound"):
        integrator.setUseCudaGraphs(True)


def test_sampling_imports_no_training_code(alanine: MolecularSystem, model: Path) -> None:
    code = (
        "import sys, timewarp_openmm\n"
        f"timewarp_openmm.TimewarpMCMCIntegrator({str(model)!r})\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('torch', 'lightning_fabric')\n"
        "       or m.startswith('timewarp_openmm.training')]\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "other",
    [
        None,
        7,
        "integrator",
        object(),
        openmm.System(),
        openmm.NonbondedForce(),
        openmm.Vec3(1, 2, 3),
    ],
    ids=lambda other: type(other).__name__,
)
def test_what_is_no_integrator_cannot_be_cast(other: object) -> None:
    with pytest.raises(TypeError, match="is not a TimewarpMCMCIntegrator"):
        TimewarpMCMCIntegrator.cast(other)  # type: ignore[arg-type]


def test_an_integrator_without_its_object_cannot_be_cast() -> None:
    for kind in (openmm.Integrator, openmm.VerletIntegrator, TimewarpMCMCIntegrator):
        with pytest.raises(TypeError, match="is not a TimewarpMCMCIntegrator"):
            TimewarpMCMCIntegrator.cast(kind.__new__(kind))
