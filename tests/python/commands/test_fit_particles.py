"""``fit --particles``: what it hands over, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openmm
import pytest
from command_line import run
from complexes import ligands
from openmm import app, unit

from timewarp_openmm.simulation.systems import structure_file
from timewarp_openmm.workflows import fit as fit_module
from timewarp_openmm.workflows.fit import Validation

PDB = str(structure_file("alanine-dipeptide"))
Line = Callable[..., tuple[int, str, str]]


@pytest.fixture
def complex_files(tmp_path: Path) -> tuple[str, str]:
    """Return a structure with two ligands, and its System with a restraint."""
    whole = ligands(2)
    pdb, xml = tmp_path / "complex.pdb", tmp_path / "complex.xml"
    with pdb.open("w") as file:
        app.PDBFile.writeFile(whole.topology, whole.positions * unit.nanometer, file, keepIds=True)
    system = openmm.XmlSerializer.clone(whole.system)
    restraint = openmm.CustomExternalForce("x^2")
    restraint.setName("Position restraints")
    restraint.addParticle(10)
    system.addForce(restraint)
    system.addForce(openmm.CMMotionRemover())
    xml.write_text(openmm.XmlSerializer.serialize(system))
    return str(pdb), str(xml)


@pytest.fixture
def line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Line:
    def call(structure: str, *options: str) -> tuple[int, str, str]:
        words = ["fit", structure, *options, "--out", str(tmp_path / "model.pt")]
        return run(words, monkeypatch, capsys)

    return call


def test_a_ligand_is_fitted_among_what_is_near_it(
    complex_files: tuple[str, str], line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def record(molecule: Any, out: Any, settings: Any, *_: Any, **others: Any) -> Validation:
        given.update(molecule=molecule, settings=settings, **others)
        return Validation(0.25, 0.01, 0.2, 8, 1000, 100.0)

    monkeypatch.setattr(fit_module, "fit", record)
    pdb, xml = complex_files
    options = ("--particles", "resname LIG and resSeq 3", "--temperature", "300", "--seed", "5")
    code, out, error = line(pdb, "--system", xml, *options, "--workers", "1")
    assert code == 0
    fragment, molecule = given["settings"].fragment, given["molecule"]
    atoms = list(molecule.topology.atoms())
    assert {(atoms[i].residue.name, atoms[i].residue.id) for i in fragment.moved} == {("LIG", "3")}
    assert fragment.known == fragment.moved
    assert len(fragment.moved) < len(atoms)
    assert (given["settings"].temperature, given["settings"].seed) == (300.0, 5)
    assert given["measured_in"].getNumParticles() == len(atoms)
    forces = {type(force).__name__ for force in molecule.system.getForces()}
    assert "NonbondedForce" in forces
    assert not forces & {"CustomExternalForce", "CMMotionRemover"}
    others = len(atoms) - len(fragment.moved)
    assert f"8 atoms are moved among {others} around them, of 36 in the structure" in error
    assert "left out of the energy while the model is made: Position restraints, which" in error
    assert f"acceptance in place, among {others} atoms that stay, 25.0% +- 1.0% in 8" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--moved sidechain", "--particles goes without --moved: it says itself what is moved"),
        ("--last sidechain --constraints HBonds", "goes without --last and --constraints"),
        ("--target gfn2-xtb", "--particles goes without --target"),
    ],
)
def test_what_it_does_not_go_with_is_named(line: Line, options: str, message: str) -> None:
    code, _, error = line(PDB, "--particles", "sidechain", *options.split())
    assert code == 2
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("particles", "message"),
    [
        ("resname XXX", "the selection 'resname XXX' names no atom of the structure"),
        ("resname (", "cannot select 'resname (': "),
        (
            "resname LIG",
            "atoms of several molecules (A:LIG1:F0 and A:LIG3:F0, which no bonds join)",
        ),
        ("1,2", "--particles names atoms between others that stay (A:LIG1:C1 is bonded to "),
    ],
)
def test_particles_that_no_model_can_move_are_named(
    complex_files: tuple[str, str], line: Line, tmp_path: Path, particles: str, message: str
) -> None:
    pdb, xml = complex_files
    code, _, error = line(pdb, "--system", xml, "--particles", particles)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "model.work").exists()


def test_a_smiles_string_has_no_surroundings(line: Line) -> None:
    code, _, error = line("CCO", "--particles", "0-3")
    assert code == 2
    assert "CCO is a SMILES string; give the file of the whole structure" in error


def test_a_structure_of_several_molecules_is_pointed_here(
    complex_files: tuple[str, str], line: Line
) -> None:
    code, _, error = line(complex_files[0], "--system", complex_files[1])
    assert code == 2
    assert "one is fitted in place (fit --particles)" in error
