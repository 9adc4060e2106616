"""Chains on a potential are those on an OpenMM System of the same energy; and the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm
import potential_functions
import pytest
from command_line import run
from model_archives import with_metadata

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.energies import surrogate_energy
from timewarp_openmm.simulation.systems import (
    MolecularSystem,
    load_molecule,
    named_molecule,
    structure_file,
    with_potential,
)

PDB = str(structure_file("alanine-dipeptide"))
POTENTIAL = "potential_functions:altered"


@pytest.fixture(scope="module")
def molecule() -> MolecularSystem:
    return named_molecule("alanine-dipeptide")


def chain(system: openmm.System, molecule: MolecularSystem, subchain: int) -> np.ndarray:
    """Return the positions [40, N, 3] of a chain every five steps, and see that it moves."""
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    integrator.setRandomNumberSeed(11)
    if subchain:
        integrator.setSurrogate(surrogate_energy(molecule.system), subchain)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, integrator, platform)
    context.setPositions(molecule.positions)
    frames = []
    for _ in range(40):
        integrator.step(5)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    assert 0.1 < integrator.getAcceptanceRate() < 1
    return np.array(frames)


@pytest.mark.parametrize("subchain", [0, 3])
def test_a_chain_does_not_know_where_energies_come_from(
    molecule: MolecularSystem, subchain: int
) -> None:
    """Bit for bit, with the force field as the surrogate and without."""
    system = with_potential(molecule, POTENTIAL).system
    of_potential = chain(system, molecule, subchain)
    of_openmm = chain(potential_functions.altered_system(), molecule, subchain)
    of_force_field = chain(molecule.system, molecule, subchain)
    assert np.array_equal(of_potential, of_openmm)
    assert not np.array_equal(of_potential, of_force_field)


def test_sample_takes_the_force_field_as_surrogate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(pretrained("alanine-dipeptide"))
    arguments = ["sample", "--model", model, "--pdb", PDB, "--out", str(tmp_path / "s.dcd")]
    arguments += ["--steps", "30", "--seed", "1", "--target", POTENTIAL, "--subchain", "3"]
    code, out, error = run(arguments, monkeypatch, capsys)
    assert code == 0, error
    assert "3 frames, acceptance" in out


def test_a_model_that_states_a_potential_is_sampled_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tblite")
    model = tmp_path / "gfn2.pt"
    original = Path(pretrained("alanine-dipeptide")).read_bytes()
    model.write_bytes(with_metadata(original, force_field=["gfn2-xtb"]))
    systems = []
    original_load = load_molecule

    def watched(*arguments: object, **options: object) -> MolecularSystem:
        systems.append(original_load(*arguments, **options))  # type: ignore[arg-type]
        return systems[-1]

    monkeypatch.setattr("timewarp_openmm.simulation.systems.load_molecule", watched)
    arguments = ["sample", "--model", str(model), "--pdb", PDB, "--out", str(tmp_path / "s.dcd")]
    code, out, error = run([*arguments, "--steps", "20", "--seed", "1"], monkeypatch, capsys)
    assert code == 0, error
    assert "2 frames, acceptance" in out
    assert [m.force_field for m in systems] == [("gfn2-xtb",)]
    assert isinstance(systems[0].system.getForce(0), openmm.PythonForce)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "gfn7-xtb"], "there is no potential 'gfn7-xtb'"),
        (["--force-field", "gfn2-xtb", "amber99sbildn.xml"], "goes with no other force field"),
        (["--target", "nowhere.py:energy"], "cannot import"),
        (["--target", "potential_functions:nothing"], "there is no function"),
    ],
)
def test_mistakes_end_in_one_message(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = str(pretrained("alanine-dipeptide"))
    arguments = ["sample", "--model", model, "--pdb", PDB, "--out", str(tmp_path / "s.dcd")]
    code, _, error = run([*arguments, "--steps", "5", *options], monkeypatch, capsys)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_blocks_and_water_need_a_force_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sample", "--blocks", "b.json", "--out", str(tmp_path / "s.dcd"), "--steps", "5"]
    code, _, error = run([*arguments, "--target", "gfn2-xtb"], monkeypatch, capsys)
    assert (code, "--target is of a whole molecule" in error) == (2, True)
