"""Which model an integrator has (path and SHA-256, embedded, in checkpoints); its lag times."""

from __future__ import annotations

import copy
import hashlib
import math
import pickle
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import unit
from reference_models import reference_models, save_model

from timewarp_openmm import TimewarpMCMCIntegrator

PLATFORM = "Reference"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the C++ tests' models, for 4 particles."""
    folder = tmp_path_factory.mktemp("models")
    models = reference_models(4)
    for name in ("affine", "tilted", "lags", "random", "identity"):
        save_model(*models[name], folder / f"{name}.pt")
    return folder


def make_context(integrator: openmm.Integrator) -> openmm.Context:
    """Four particles, each in a harmonic well."""
    system = openmm.System()
    force = openmm.CustomExternalForce("50*(x^2+y^2+z^2)")
    for i in range(4):
        system.addParticle(10.0)
        force.addParticle(i)
    system.addForce(force)
    platform = openmm.Platform.getPlatformByName(PLATFORM)
    context = openmm.Context(system, integrator, platform)
    context.setPositions(np.zeros((4, 3)))
    return context


def run_chain(integrator: TimewarpMCMCIntegrator) -> np.ndarray:
    context = make_context(integrator)
    integrator.step(100)
    return context.getState(positions=True).getPositions(asNumpy=True)._value


def test_digest_is_that_of_hashlib(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        expected = hashlib.sha256(path.read_bytes()).hexdigest()
        assert TimewarpMCMCIntegrator(path).getModelSha256() == expected


@pytest.mark.parametrize("embed", [False, True])
def test_copies_run_the_same_chain(folder: Path, embed: bool) -> None:
    integrator = TimewarpMCMCIntegrator(folder / "lags.pt", embedModel=embed)
    integrator.setRandomNumberSeed(5)
    integrator.setLagWeights([1.0, 0.0, 3.0])
    copies = [copy.deepcopy(integrator), pickle.loads(pickle.dumps(integrator))]
    expected = run_chain(integrator)
    for other in copies:
        assert other.getEmbedModel() is embed
        assert other.getModelSha256() == integrator.getModelSha256()
        assert other.getLagWeights() == [1.0, 0.0, 3.0]
        assert np.array_equal(run_chain(other), expected)


def test_embedded_model_needs_no_file(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes((folder / "tilted.pt").read_bytes())
    integrator = TimewarpMCMCIntegrator(path)
    assert not integrator.getEmbedModel()
    referenced = openmm.XmlSerializer.serialize(integrator)
    integrator.setEmbedModel(True)
    embedded = openmm.XmlSerializer.serialize(integrator)
    path.unlink()
    read = TimewarpMCMCIntegrator.cast(openmm.XmlSerializer.deserialize(embedded))
    assert read.getModelPath() == str(path)
    assert copy.deepcopy(read).getModelSha256() == integrator.getModelSha256()
    with pytest.raises(openmm.OpenMMException, match="cannot open the model file"):
        openmm.XmlSerializer.deserialize(referenced)
    path.write_bytes((folder / "affine.pt").read_bytes())
    with pytest.raises(openmm.OpenMMException, match="has changed since"):
        openmm.XmlSerializer.deserialize(referenced)


def test_pickle_of_a_changed_file_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes((folder / "tilted.pt").read_bytes())
    pickled = pickle.dumps(TimewarpMCMCIntegrator(path))
    path.write_bytes((folder / "affine.pt").read_bytes())
    with pytest.raises(openmm.OpenMMException, match="has changed since"):
        pickle.loads(pickled)


def test_lag_times_and_weights(folder: Path) -> None:
    integrator = TimewarpMCMCIntegrator(folder / "lags.pt")
    assert integrator.getLagTimes().value_in_unit(unit.picosecond) == [1.0, 4.0, math.inf]
    assert integrator.getLagWeights() == [0.4, 0.2, 0.4]
    context = make_context(integrator)
    integrator.step(10)
    integrator.setLagWeights(np.array([0, 0, 1]))
    integrator.step(10)
    assert integrator.getNumProposed() == 20
    for weights, message in (
        ([1.0], "must be 3 numbers"),
        ([1.0, 1.0, -1.0], "negative"),
        ([1.0, 1.0, math.nan], "NaN"),
        ([0.0, 0.0, 0.0], "positive"),
    ):
        with pytest.raises(openmm.OpenMMException, match=message):
            integrator.setLagWeights(weights)
    assert integrator.getLagWeights() == [0.0, 0.0, 1.0]
    context.reinitialize(preserveState=True)
    assert integrator.getLagWeights() == [0.0, 0.0, 1.0]
    assert integrator.getNumProposed() == 20


def test_checkpoint_of_another_model_is_refused(folder: Path) -> None:
    integrator = TimewarpMCMCIntegrator(folder / "lags.pt")
    other = TimewarpMCMCIntegrator(folder / "tilted.pt")
    context, other_context = make_context(integrator), make_context(other)
    integrator.step(10)
    other.step(10)
    with pytest.raises(openmm.OpenMMException, match="another model"):
        context.loadCheckpoint(other_context.createCheckpoint())
    with pytest.raises(openmm.OpenMMException, match="truncated"):
        context.loadCheckpoint(context.createCheckpoint()[:-1])
    context.setPositions(np.zeros((4, 3)))
    integrator.step(10)
    assert integrator.getNumProposed() == 20
