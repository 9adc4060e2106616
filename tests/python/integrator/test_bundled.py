"""The models that ship: what they are, and that batches do not change their chain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openmm
import pytest

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained, read_metadata
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule

MODELS = ("alanine-dipeptide", "alanine-dipeptide-lags", "alanine-dipeptide-cartesian")


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return named_molecule("alanine-dipeptide")


def run_chain(
    alanine: MolecularSystem, model: str, batch_size: int, steps: int, equilibration: float = 1.0
) -> tuple[np.ndarray, int]:
    """Return positions and number of acceptances after some iterations that follow a little MD."""
    compound = openmm.CompoundIntegrator()
    dynamics = openmm.LangevinMiddleIntegrator(310, 1.0, 0.001)
    dynamics.setRandomNumberSeed(1)
    compound.addIntegrator(dynamics)
    timewarp = TimewarpMCMCIntegrator(pretrained(model))
    timewarp.setBatchSize(batch_size)
    timewarp.setRandomNumberSeed(7)
    compound.addIntegrator(timewarp)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(alanine.system, compound, platform)
    context.setPositions(alanine.positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    context.setVelocitiesToTemperature(310, 1)
    compound.step(round(1000 * equilibration))
    compound.setCurrentIntegrator(1)
    compound.step(steps)
    positions = context.getState(positions=True).getPositions(asNumpy=True)._value
    accepted = TimewarpMCMCIntegrator.cast(compound.getIntegrator(1)).getNumAccepted()
    return np.array(positions), accepted


@pytest.mark.parametrize("model", MODELS)
def test_batches_do_not_change_the_chain(alanine: MolecularSystem, model: str) -> None:
    results = [run_chain(alanine, model, batch_size, 400) for batch_size in (1, 7, 64)]
    accepted = {count for _, count in results}
    assert len(accepted) == 1
    assert accepted.pop() > 0
    for positions, _ in results[1:]:
        assert np.abs(positions - results[0][0]).max() < 1e-4


@pytest.mark.parametrize("model", MODELS)
def test_card_says_what_is_measured(alanine: MolecularSystem, model: str) -> None:
    path = Path(pretrained(model))
    assert path.stat().st_size < 8 * 2**20
    assert path.with_suffix(".md").is_file()
    card = json.loads(path.with_suffix(".json").read_text())
    steps = 1600
    _, accepted = run_chain(alanine, model, 64, steps)
    # Five standard deviations of one chain this long, as the card's own chains scatter.
    iterations = card["iterations"] / card["chains"]
    scatter = card["acceptance_error"] * np.sqrt(card["chains"] * iterations / steps)
    assert accepted / steps == pytest.approx(card["acceptance"], abs=5 * scatter)


@pytest.mark.parametrize("model", MODELS)
def test_metadata(model: str) -> None:
    metadata = read_metadata(pretrained(model))
    assert metadata.molecule is not None
    assert metadata.molecule.num_atoms == 22
    assert metadata.temperature == 310.0
    assert metadata.force_field == ["amber99sbildn.xml", "amber99_obc.xml"]
    assert metadata.provenance["seed"] is not None


def test_unknown_name_lists_those_that_exist() -> None:
    with pytest.raises(ValueError, match="alanine-dipeptide"):
        pretrained("no-such-molecule")
