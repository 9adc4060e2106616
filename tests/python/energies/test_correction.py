"""The learned correction, and energies that are kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm
import pytest
import torch

from timewarp_openmm.energies import evaluated, surrogate_energy
from timewarp_openmm.energies.correction import (
    CorrectedEnergy,
    Correction,
    TorchEnergy,
    base_energy,
    load_corrected,
    save_corrected,
)
from timewarp_openmm.energies.evaluated import evaluate_into
from timewarp_openmm.energies.reduced import ReducedEnergy
from timewarp_openmm.importance import UNPHYSICAL
from timewarp_openmm.simulation.langevin import Langevin, get_positions
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule, with_potential
from timewarp_openmm.training.correction import CorrectionQuality, Labelled, learn_correction
from timewarp_openmm.units import thermal_energy

TEMPERATURE = 310.0


@pytest.fixture(scope="module")
def molecule() -> MolecularSystem:
    return named_molecule("alanine-dipeptide")


@pytest.fixture(scope="module")
def labelled(molecule: MolecularSystem) -> Labelled:
    """400 frames of hot dynamics, with the energies of the altered force field."""
    context = Langevin(400.0).context(molecule.system, "Reference", 1)
    Langevin(400.0).start(context, molecule.positions, 1, minimise=True)
    frames = []
    for _ in range(400):
        context.getIntegrator().step(40)
        frames.append(get_positions(context))
    positions = np.array(frames)
    altered = with_potential(molecule, "potential_functions:altered").system
    return Labelled(
        positions, *ReducedEnergy(altered, TEMPERATURE, "Reference").evaluate(positions)
    )


@pytest.fixture(scope="module")
def learned(
    molecule: MolecularSystem, labelled: Labelled
) -> tuple[CorrectedEnergy, CorrectionQuality]:
    force_field = surrogate_energy(molecule.system)
    correction, quality = learn_correction(
        force_field, labelled, TEMPERATURE, seconds=1e-3, seed=1, least_steps=800
    )
    return CorrectedEnergy(force_field, correction), quality


def test_what_the_force_field_lacks_is_learned(
    learned: tuple[CorrectedEnergy, CorrectionQuality],
) -> None:
    """Of frames that it has not seen: a small part of the difference is left."""
    quality = learned[1]
    assert quality.states == 360
    assert quality.after < 0.4 * quality.before
    assert 0.6 < quality.acceptance <= 1


def test_a_correction_knows_neither_place_nor_mirror_image(
    learned: tuple[CorrectedEnergy, CorrectionQuality], labelled: Labelled
) -> None:
    correction = learned[0].correction
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    moved = labelled.positions @ turn.T + [0.1, 0.2, -0.3]
    with torch.no_grad():
        found, again = (
            correction(torch.from_numpy(x).float()) for x in (labelled.positions, moved)
        )
    assert found.std() > 0.5
    torch.testing.assert_close(again, found, atol=2e-3, rtol=0)


def test_a_correction_promises_nothing_that_was_not_seen(
    molecule: MolecularSystem, labelled: Labelled
) -> None:
    """Far from all data an unlimited network has any energy; a flow would go there."""
    correction = Correction(22)
    correction.fit_normalisation(torch.from_numpy(labelled.positions).float())
    correction.limit(torch.tensor([-3.0, 5.0]))
    strange = torch.from_numpy(0.05 * labelled.positions).float()
    with torch.no_grad():
        assert correction.unlimited(strange).abs().max() > 5
        found = correction(strange)
    assert -3 <= found.min() <= found.max() <= 5


def test_a_corrected_energy_is_stored_and_traced(
    learned: tuple[CorrectedEnergy, CorrectionQuality],
    molecule: MolecularSystem,
    labelled: Labelled,
    tmp_path: Path,
) -> None:
    save_corrected(tmp_path, molecule.system, learned[0].correction)
    assert {path.name for path in tmp_path.iterdir()} == {"correction.npz", "force-field.xml"}
    positions = torch.from_numpy(labelled.positions[:9]).float()
    with torch.no_grad():
        expected = learned[0](positions)
        assert torch.equal(load_corrected(tmp_path)(positions), expected)
        assert torch.equal(learned[0].traced()(positions), expected)
    assert expected.dtype == torch.float64


def test_torch_energies_are_what_training_asks_for(
    learned: tuple[CorrectedEnergy, CorrectionQuality], labelled: Labelled
) -> None:
    energy = TorchEnergy(learned[0], TEMPERATURE)
    positions = torch.from_numpy(labelled.positions[:300])
    found = energy.energies(positions)
    kT = thermal_energy(TEMPERATURE)
    with torch.no_grad():
        torch.testing.assert_close(found, learned[0](positions.float()) / kT)
    assert np.array_equal(energy.begin(positions).result()[0], found.numpy())
    x = positions[:2].float().requires_grad_(True)
    (gradient,) = torch.autograd.grad(energy(x).sum(), x)
    assert float(gradient.abs().max()) > 1
    assert float(energy.energies(torch.full((1, 22, 3), torch.nan))[0]) == UNPHYSICAL


def test_what_torch_has_not_is_left_to_the_correction(
    molecule: MolecularSystem, labelled: Labelled
) -> None:
    system = openmm.XmlSerializer.clone(molecule.system)
    maps = openmm.CMAPTorsionForce()
    maps.addMap(4, 16 * [5.0])
    maps.addTorsion(0, 4, 6, 8, 14, 6, 8, 14, 16)
    system.addForce(maps)
    with pytest.raises(ValueError, match="CMAPTorsionForce cannot be translated"):
        surrogate_energy(system)
    positions = torch.from_numpy(labelled.positions[:4]).float()
    assert torch.equal(base_energy(system)(positions), surrogate_energy(molecule.system)(positions))


def test_too_little_to_learn_from_is_an_error(
    molecule: MolecularSystem, labelled: Labelled
) -> None:
    few = Labelled(*(values[:60] for values in vars(labelled).values()))
    few.energies[:20] = np.nan
    with pytest.raises(ValueError, match="only 40 of 60 conformations have an energy"):
        learn_correction(surrogate_energy(molecule.system), few, TEMPERATURE, 1.0, seed=1)


def test_no_energy_is_computed_twice(
    molecule: MolecularSystem, labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call without time reads what there is; one with time goes on; a third computes nothing."""
    positions = labelled.positions[:40]
    arguments = (molecule.system, positions, TEMPERATURE, 1)
    first, _ = evaluate_into(tmp_path, *arguments, max_seconds=0.0, least=10)
    assert len(first) == 16
    both, gradients = evaluate_into(tmp_path, *arguments, max_seconds=1e9)
    assert len(both) == 40
    assert np.array_equal(both[:16], first)
    expected = ReducedEnergy(molecule.system, TEMPERATURE, "Reference").evaluate(positions)
    np.testing.assert_allclose(both, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradients, expected[1], rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(evaluated.EnergyWorkers, "begin", lambda *_, **__: pytest.fail("computed"))
    again, _ = evaluate_into(tmp_path, *arguments, max_seconds=1e9)
    assert np.array_equal(again, both)


def test_energies_of_something_else_are_not_taken(
    molecule: MolecularSystem, labelled: Labelled, tmp_path: Path
) -> None:
    positions = labelled.positions[:16]
    evaluate_into(tmp_path, molecule.system, positions, TEMPERATURE, 1, 1e9)
    other = openmm.XmlSerializer.clone(molecule.system)
    other.getForce(0).setForceGroup(3)
    for system, states, kelvin, name in (
        (other, positions, TEMPERATURE, "system"),
        (molecule.system, positions + 0.1, TEMPERATURE, "positions"),
        (molecule.system, positions, 300.0, "kT"),
    ):
        with pytest.raises(FileExistsError, match=f"energies of something else.*{name}"):
            evaluate_into(tmp_path, system, states, kelvin, 1, 1e9)
