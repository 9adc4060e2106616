"""Small molecules as chemists have them: SMILES strings and files."""

from __future__ import annotations

from pathlib import Path

import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from timewarp_openmm.molecule.ligand_input import canonical_smiles, is_smiles, read_ligand

#: Rings, a macrocycle, an alkyne, a nitrile, halogens, a sulfonamide, a sulfoxide, an amine,
#: charges, spiro and fused systems, both kinds of stereochemistry.
MOLECULES = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "C[C@H](N)C(=O)[O-]",
    "F/C=C\\Cl",
    "C#CCN1CCOCC1",
    "N#Cc1ccc(Br)cc1",
    "CS(=O)(=O)Nc1ccccc1",
    "C[S@](=O)CC",
    "C1CCC2(CC1)OCCO2",
    "O=C1CCCCCCCCCCO1",
    "C[NH+](C)C",
    "O=[N+]([O-])c1ccncc1",
    "C[C@]12CC[C@H]3[C@@H](CCc4cc(O)ccc34)[C@@H]1CC[C@@H]2O",
)


@pytest.mark.parametrize("smiles", MOLECULES)
def test_smiles_become_structures(smiles: str) -> None:
    mol = read_ligand(smiles)
    assert canonical_smiles(mol) == Chem.CanonSmiles(smiles)
    assert all(atom.GetTotalNumHs() == 0 for atom in mol.GetAtoms()), "hydrogens are atoms"
    kinds = {bond.GetBondType() for bond in mol.GetBonds()}
    assert Chem.BondType.AROMATIC not in kinds
    seen = Chem.Mol(mol)
    Chem.AssignStereochemistryFrom3D(seen)
    assert canonical_smiles(seen) == Chem.CanonSmiles(smiles), "what is in space"


def test_a_seed_gives_one_conformer() -> None:
    first, again, other = (read_ligand("CCCCCC", seed=s) for s in (1, 1, 2))
    positions = [mol.GetConformer().GetPositions() for mol in (first, again, other)]
    assert (positions[0] == positions[1]).all()
    assert abs(positions[0] - positions[2]).max() > 0.1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "CC(=O)[O-].[Na+]",
            r"2 molecules \(CC\(=O\)\[O-\], \[Na\+\]\); give the one that is meant",
        ),
        ("CC(O)CC", r"open at atom 1 \(C\); choose one of\n  CC\[C@@H\]\(C\)O\n  CC\[C@H\]\(C\)O"),
        ("FC=CF", r"the double bond C1=C2; choose one of\n  F/C=C/F\n  F/C=C\\F"),
        ("C[CH2]", r"atom 1 \(C\) of C\[CH2\] is a radical"),
        ("C*", r"atom 1 \(\*\) of C\* is a placeholder"),
        ("CN(C)(C)C", "cannot be a molecule: Explicit valence for atom # 1 N"),
        ("aspirin", "neither a file nor a SMILES string"),
        ("aspirin.sdf", "neither a file nor a SMILES string"),
        ("C1CC", "neither a file nor a SMILES string"),
    ],
)
def test_what_is_refused(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_ligand(source)


def test_many_choices_are_counted() -> None:
    with pytest.raises(ValueError, match=r"and 8 more$"):
        read_ligand("OC(F)C(Cl)C(Br)C(C)O")


def test_meso_compounds_and_symmetry_leave_nothing_open() -> None:
    """A potential centre that is none, since its neighbours are the same."""
    assert canonical_smiles(read_ligand("CC(C)O")) == "CC(C)O"
    assert canonical_smiles(read_ligand("C[C@H](O)[C@@H](C)O")) == Chem.CanonSmiles(
        "C[C@H](O)[C@@H](C)O"
    )


def write(mol: Chem.Mol, path: Path) -> str:
    text = Chem.MolToPDBBlock(mol) if path.suffix == ".pdb" else Chem.MolToMolBlock(mol)
    path.write_text(text)
    return str(path)


def test_files_keep_their_positions_and_stereochemistry(tmp_path: Path) -> None:
    mol = read_ligand("C[C@H](F)c1ccccc1")
    found = read_ligand(write(mol, tmp_path / "a.sdf"))
    assert canonical_smiles(found) == "C[C@H](F)c1ccccc1"
    assert abs(found.GetConformer().GetPositions() - mol.GetConformer().GetPositions()).max() < 1e-3


def test_a_template_gives_a_pdb_file_its_bond_orders(tmp_path: Path) -> None:
    smiles = "C[C@H](F)c1ccccc1C(=O)O"
    path = write(read_ligand(smiles), tmp_path / "a.pdb")
    assert canonical_smiles(read_ligand(path, smiles)) == Chem.CanonSmiles(smiles)
    with pytest.raises(ValueError, match="does not say which bonds are double"):
        read_ligand(path)
    with pytest.raises(ValueError, match="another stereoisomer than the template"):
        read_ligand(path, "C[C@@H](F)c1ccccc1C(=O)O")
    with pytest.raises(ValueError, match="has 21 atoms, and the template CCO has 9"):
        read_ligand(path, "CCO")
    with pytest.raises(ValueError, match="is another molecule than the template"):
        read_ligand(path, "C[C@H](F)c1cccc(C(=O)O)c1")
    with pytest.raises(ValueError, match="a template goes with a PDB file"):
        read_ligand(smiles, smiles)


def test_files_without_hydrogens_or_positions_are_refused(tmp_path: Path) -> None:
    mol = read_ligand("CCO")
    with pytest.raises(ValueError, match="lacks 6 hydrogens"):
        read_ligand(write(Chem.RemoveHs(mol), tmp_path / "bare.sdf"))
    flat = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.Compute2DCoords(flat)
    with pytest.raises(ValueError, match="holds a drawing"):
        read_ligand(write(flat, tmp_path / "flat.sdf"))


def test_a_name_of_a_file_is_no_smiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_smiles("CCO")
    (tmp_path / "CCO").write_text("a file")
    assert not is_smiles("CCO")
