"""SDF and MOL files: structures that state bond orders and charges."""

from pathlib import Path

import numpy as np
import openmm
import pytest
from command_line import run
from generic_force_field import make_system
from molecules import from_rdkit
from rdkit import Chem
from rdkit.Chem import AllChem

from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.molecule.stereochemistry import fixed_torsions
from timewarp_openmm.molecule.structure_files import load_structure
from timewarp_openmm.trajectories.pairs import load_trajectories


def embedded(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    return mol


@pytest.mark.parametrize("smiles", ["C/C=[N+](/C)CC", "C[N+]1=CC=CC=C1C(=O)[O-]", "CC[S@](C)=O"])
@pytest.mark.parametrize("form", ["x.sdf", "x.mol", "x.SDF", "v3000.sdf"])
def test_bond_orders_charges_and_positions_are_read(tmp_path: Path, smiles: str, form: str) -> None:
    mol = embedded(smiles)
    block = Chem.MolToMolBlock(mol, forceV3000="3000" in form)
    (tmp_path / form).write_text(block if form.endswith("mol") else block + "$$$$\n")
    topology, positions = load_structure(tmp_path / form)
    found, expected = molecule_from_topology(topology), from_rdkit(mol, orders=True)
    assert found.elements == expected.elements
    assert found.bonds == expected.bonds
    assert sum(found.bond_orders) == sum(expected.bond_orders)
    assert found.formal_charges == expected.formal_charges
    assert len(set(found.atom_names)) == found.num_atoms
    np.testing.assert_allclose(positions, mol.GetConformer().GetPositions() / 10, atol=1e-5)


def broken(mol: Chem.Mol) -> dict[str, tuple[str, str]]:
    """Return texts of files that cannot be used, and what is said of them."""
    block = Chem.MolToMolBlock(mol)
    flat, bare = Chem.Mol(mol), Chem.RemoveHs(mol)
    AllChem.Compute2DCoords(flat)
    dative = Chem.RWMol(mol)
    dative.GetBondWithIdx(0).SetBondType(Chem.BondType.DATIVE)
    # Three bonds of the first carbon become one triple bond and two more.
    pentavalent = block.replace("  1  2  1", "  1  2  3", 1)
    assert pentavalent != block
    return {
        "empty": ("", "is not an SDF or MOL file"),
        "no atoms": (Chem.MolToMolBlock(Chem.Mol()), "is not an SDF or MOL file"),
        "text": ("ATOM      1  N   ALA\n" * 5, "is not an SDF or MOL file"),
        "cut": (block[: len(block) // 2], "is not an SDF or MOL file"),
        "two": ((block + "$$$$\n") * 2, "holds 2 molecules"),
        "no hydrogens": (Chem.MolToMolBlock(bare), "lacks 6 hydrogens"),
        "drawing": (Chem.MolToMolBlock(flat), "holds a drawing"),
        "valence": (pentavalent, "the bonds in .* are wrong: Explicit valence"),
        "bond type": (Chem.MolToMolBlock(dative, forceV3000=True), "has a bond of type dative"),
    }


@pytest.mark.parametrize(
    "fault",
    ["empty", "no atoms", "text", "cut", "two", "no hydrogens", "drawing", "valence", "bond type"],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, fault: str) -> None:
    text, message = broken(embedded("CC"))[fault]
    path = tmp_path / "x.sdf"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_structure(path)
    assert str(path) in str(error.value)


def test_bytes_that_are_no_text_are_no_mol_file(tmp_path: Path) -> None:
    (tmp_path / "x.mol").write_bytes(bytes(range(256)) * 8)
    with pytest.raises(ValueError, match="is not an SDF or MOL file"):
        load_structure(tmp_path / "x.mol")


def test_a_run_from_an_sdf_file_keeps_its_double_bonds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the file to the data that a flow is made from."""
    mol = embedded("C/C=[N+](/C)CC")
    structure, system = tmp_path / "iminium.sdf", tmp_path / "system.xml"
    structure.write_text(Chem.MolToMolBlock(mol))
    system.write_text(openmm.XmlSerializer.serialize(make_system(mol)))
    command = f"simulate --pdb {structure} --system {system} --starts given --trajectories 1"
    options = "--length 1 --interval 0.1 --equilibration 0.1 --platform Reference --workers 1"
    out = tmp_path / "md"
    code, _, errors = run(f"{command} {options} --out {out}".split(), monkeypatch, capsys)
    assert code == 0, errors
    molecule = load_trajectories(out).molecule
    assert molecule.bond_orders == from_rdkit(mol, orders=True).bond_orders
    assert [set(atoms[1:3]) for atoms in fixed_torsions(molecule)] == [{1, 2}]
