"""Structures as people have them: mmCIF, numbering of crystals, chains, repeated atom names."""

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from openmm import app, unit

from timewarp_openmm import pretrained, read_metadata
from timewarp_openmm.contract import ContractError, ModelMetadata
from timewarp_openmm.molecule import Molecule, molecule_from_topology
from timewarp_openmm.molecule.structure_files import load_structure
from timewarp_openmm.simulation.protocol import Protocol
from timewarp_openmm.simulation.run import simulate
from timewarp_openmm.simulation.systems import load_molecule, structure_file
from timewarp_openmm.trajectories.frames import reader_topology
from timewarp_openmm.trajectories.pairs import load_trajectories

ALANINE = Path(str(structure_file("alanine-dipeptide")))
MOLECULES = Path(__file__).parents[3] / "examples" / "molecules"
#: What the residues of the crystal below are called.
LABELS = ["B:ACE-1", "B:ALA0", "B:NME0A"]


def renumbered(source: Path, path: Path, chain: str, numbers: dict[str, str]) -> Path:
    """Write a PDB file with other residue numbers, insertion codes (columns 23-27) and chain."""
    lines = [
        f"{line[:21]}{chain}{numbers[line[22:26].strip()]}{line[27:]}"
        if line.startswith(("ATOM", "HETATM"))
        else line
        for line in source.read_text().splitlines()
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def crystal(tmp_path: Path) -> Path:
    """Alanine dipeptide as a crystal structure may number it."""
    numbers = {"1": "  -1 ", "2": "   0 ", "3": "   0A"}
    return renumbered(ALANINE, tmp_path / "crystal.pdb", "B", numbers)


def as_mmcif(source: Path) -> Path:
    topology, positions = load_structure(source)
    path = source.with_suffix(".cif")
    with open(path, "w") as handle:
        app.PDBxFile.writeFile(topology, positions * unit.nanometer, handle, keepIds=True)
    return path


def residue_labels(molecule: Molecule) -> list[str]:
    return list(dict.fromkeys(molecule.residue_label(i) for i in range(molecule.num_atoms)))


def test_mmcif_is_read_like_pdb(tmp_path: Path) -> None:
    # OpenMM's own mmCIF writer tells residues of one number apart by nothing in its bonds.
    numbers = {"1": "  -1 ", "2": "   0 ", "3": "   1A"}
    crystal = renumbered(ALANINE, tmp_path / "crystal.pdb", "B", numbers)
    ligand = tmp_path / "ligand.pdb"
    ligand.write_text((MOLECULES / "valproic-acid.pdb").read_text())
    for source in (crystal, ligand):
        expected, positions = load_structure(source)
        found, others = load_structure(as_mmcif(source))
        assert molecule_from_topology(found) == molecule_from_topology(expected)
        np.testing.assert_allclose(others, positions, atol=1e-4)
    system = MOLECULES / "valproic-acid.system.xml"
    assert load_molecule(as_mmcif(ligand), system_xml=system).system.getNumParticles() == 26
    assert load_molecule(as_mmcif(crystal)).name == "crystal"


def test_what_is_no_mmcif_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.cif").write_text("data_x\n")
    with pytest.raises(ValueError, match=r"x\.cif is not an mmCIF file"):
        load_structure(tmp_path / "x.cif")


def test_numbers_chain_and_insertion_code_are_kept(crystal: Path) -> None:
    molecule = molecule_from_topology(load_structure(crystal)[0])
    assert residue_labels(molecule) == LABELS
    assert molecule.describe_atom(8) == "B:ALA0:CA (atom 8)"
    # In a model's metadata, too.
    assert as_a_model_says(asdict(molecule)) == molecule
    residues = list(reader_topology(molecule).residues)
    assert [(r.chain.chain_id, r.resSeq) for r in residues] == [("B", -1), ("B", 0), ("B", 0)]


def test_numbers_are_kept_in_the_data_that_models_are_made_from(
    crystal: Path, tmp_path: Path
) -> None:
    molecule = load_molecule(crystal)
    protocol = Protocol(
        molecule="crystal", force_field=molecule.force_field, platform="Reference", trajectories=1,
        length=0.004, interval=0.002, equilibration=0.002,
    )  # fmt: skip
    simulate(molecule, protocol, tmp_path / "data", workers=1)
    found = load_trajectories(tmp_path / "data").molecule
    assert residue_labels(found) == LABELS
    assert found == molecule_from_topology(molecule.topology, molecule.system)


def as_a_model_says(molecule: dict[str, Any]) -> Molecule | None:
    """Return what a model's metadata with this entry are read as."""
    metadata = json.loads(read_metadata(pretrained("alanine-dipeptide")).to_json())
    orders = ("bond_orders", "formal_charges")
    molecule = {name: value for name, value in molecule.items() if name not in orders}
    return ModelMetadata.from_json(json.dumps({**metadata, "molecule": molecule})).molecule


def test_models_that_do_not_know_the_file_count_residues(crystal: Path) -> None:
    content = asdict(molecule_from_topology(load_structure(crystal)[0]))
    for name in ("residue_ids", "insertion_codes", "chain_ids"):
        content.pop(name)
    assert residue_labels(as_a_model_says(content)) == ["ACE1", "ALA2", "NME3"]
    content["chain_ids"] = ["A"]
    with pytest.raises(ContractError, match="of one length"):
        as_a_model_says(content)


def test_frames_are_written_with_their_numbers(
    crystal: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "report"
    command = f"analyze --topology {crystal} --traj {crystal} --out {out} --pdb-frame 0"
    code, _, errors = run(command.split(), monkeypatch, capsys)
    assert code == 0, errors
    topology, positions = load_structure(out / "frame-0.pdb")
    assert residue_labels(molecule_from_topology(topology)) == LABELS
    np.testing.assert_allclose(positions, load_structure(crystal)[1], atol=1e-4)
    report = (out / "numbers.json").read_text()
    assert "B:ALA0" in report
    assert "ALA2" not in report


def test_two_chains_have_labels_of_their_own(tmp_path: Path) -> None:
    first, second = (app.PDBFile(str(ALANINE)) for _ in range(2))
    both = app.Modeller(first.topology, first.positions)
    both.add(second.topology, second.positions)
    for chain, name in zip(both.topology.chains(), ("A", "Long"), strict=True):
        chain.id = name
    molecule = molecule_from_topology(both.topology)
    assert len({molecule.atom_label(i) for i in range(44)}) == 44
    assert molecule.residue_label(22) == "Long:ACE1"
    assert [c.chain_id for c in reader_topology(molecule).chains] == ["A", "Long"]


@pytest.mark.parametrize("form", ["pdb", "cif"])
def test_repeated_atom_names_are_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / "repeated.pdb"
    text = (MOLECULES / "valproic-acid.pdb").read_text()
    path.write_text(
        "".join(
            f"{line[:12]} {line[76:78].strip()}  {line[16:]}" if line.startswith("HETATM") else line
            for line in text.splitlines(keepends=True)
        )
    )
    if form == "cif":
        ligand = tmp_path / "ligand.pdb"
        ligand.write_text(text)
        path = as_mmcif(ligand)
        content = path.read_text()
        for number in range(8, 0, -1):
            content = content.replace(f" C{number} ", " C  ")
        path.write_text(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            ValueError, match="atom names must be unique: C occurs 8 times in residue A:VPA1"
        ):
            load_structure(path)


def test_names_may_repeat_in_other_residues_models_and_locations(tmp_path: Path) -> None:
    atoms = [line for line in ALANINE.read_text().splitlines() if line.startswith("ATOM")]
    model = "\n".join(atoms)
    path = tmp_path / "models.pdb"
    path.write_text(f"MODEL        1\n{model}\nENDMDL\nMODEL        2\n{model}\nENDMDL\nEND\n")
    assert load_structure(path)[0].getNumAtoms() == 22
    carbon = atoms[10]
    two = [f"{carbon[:16]}{location}{carbon[17:]}" for location in "AB"]
    path.write_text("\n".join([*atoms[:10], *two, *atoms[11:], "END\n"]))
    assert load_structure(path)[0].getNumAtoms() == 22
