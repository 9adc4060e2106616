"""Where bond orders come from: what topologies and files state, and standard residues' names."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from chemistry import KINDS
from molecules import from_rdkit
from openmm import app, unit
from rdkit import Chem
from rdkit.Chem import AllChem

from timewarp_openmm import pretrained, read_metadata
from timewarp_openmm.molecule import Molecule, molecule_from_topology
from timewarp_openmm.molecule.structure_files import load_structure
from timewarp_openmm.simulation.identity import structure_digest
from timewarp_openmm.simulation.systems import structure_file
from timewarp_openmm.training.checkpoints import Provenance
from timewarp_openmm.trajectories.frames import reader_topology
from timewarp_openmm.trajectories.pairs import load_trajectories

ALANINE = Path(str(structure_file("alanine-dipeptide")))
VALPROIC_ACID = Path(__file__).parents[3] / "examples" / "molecules" / "valproic-acid.pdb"
TYPES = {1: app.Single, 2: app.Double, 3: app.Triple}
#: All amino acids; a chain of them has the two ends that chains have.
SEQUENCE = "ACDEFGHIKLMNPQRSTVWY"


def with_hydrogens(smiles: str) -> Chem.Mol:
    return Chem.AddHs(Chem.MolFromSmiles(smiles))


def topology_of(mol: Chem.Mol, state: str = "orders") -> app.Topology:
    """Return an OpenMM Topology that states bond orders in one of the ways there are."""
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain("A"))
    for atom in mol.GetAtoms():
        element = app.Element.getBySymbol(atom.GetSymbol())
        topology.addAtom(f"{element.symbol}{atom.GetIdx()}", element, residue)
    atoms = list(topology.atoms())
    kekulized = Chem.Mol(mol)
    Chem.Kekulize(kekulized)
    for bond in kekulized.GetBonds():
        ends = [atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()]]
        aromatic = mol.GetBondWithIdx(bond.GetIdx()).GetIsAromatic()
        order = int(bond.GetBondTypeAsDouble())
        hydrogen = any(atom.element.symbol == "H" for atom in ends)
        stated = {
            "orders": (None, order),
            "types": (TYPES[order], None),
            # As OpenFF's Topology.to_openmm does.
            "aromatic types with orders": (app.Aromatic if aromatic else TYPES[order], order),
            "aromatic types": (app.Aromatic if aromatic else TYPES[order], None),
            # As Modeller.addHydrogens does.
            "none at hydrogens": (None, None) if hydrogen else (TYPES[order], order),
            "one missing": (None, None) if bond.GetIdx() == 0 else (TYPES[order], order),
            "none": (None, None),
        }[state]
        topology.addBond(*ends, *stated)
    return topology


def orders_by_name(molecule: Molecule) -> dict[frozenset[str], int]:
    return {
        frozenset(molecule.atom_label(i) for i in bond): order
        for bond, order in zip(molecule.bonds, molecule.bond_orders, strict=True)
    }


def same_orders(molecule: Molecule, other: Molecule) -> bool:
    return molecule.bond_orders == other.bond_orders and (
        molecule.formal_charges == other.formal_charges
    )


@pytest.mark.parametrize("kind", KINDS)
def test_charges_follow_from_orders(kind: str) -> None:
    mol = with_hydrogens(KINDS[kind].smiles)
    found = molecule_from_topology(topology_of(mol))
    expected = from_rdkit(mol, orders=True)
    assert found.bond_orders == expected.bond_orders
    assert found.formal_charges == expected.formal_charges


@pytest.mark.parametrize(
    ("state", "known"),
    [
        ("orders", True),
        ("types", True),
        ("aromatic types with orders", True),
        ("none at hydrogens", True),
        ("aromatic types", False),
        ("one missing", False),
        ("none", False),
    ],
)
def test_orders_are_known_if_all_are(state: str, known: bool) -> None:
    mol = with_hydrogens("Cc1ccccc1C(=O)[O-]")
    found = molecule_from_topology(topology_of(mol, state))
    expected = from_rdkit(mol, orders=known)
    assert same_orders(found, expected)
    assert found.bonds == expected.bonds


def test_a_carbon_of_three_bonds_needs_its_charge() -> None:
    """It may be a cation, an anion or a radical."""
    topology = topology_of(with_hydrogens("C[CH-]C"))
    assert molecule_from_topology(topology).bond_orders == ()
    next(a for a in topology.atoms() if a.name == "C1").formalCharge = -1
    molecule = molecule_from_topology(topology)
    assert molecule.formal_charges[1] == -1
    assert set(molecule.bond_orders) == {1}


def peptide(sequence: str) -> tuple[Chem.Mol, app.Topology]:
    """Return a peptide of RDKit's and its topology, which has names and no bond orders."""
    mol = Chem.AddHs(Chem.MolFromSequence(sequence), addResidueInfo=True)
    numbers = [atom.GetPDBResidueInfo().GetResidueNumber() for atom in mol.GetAtoms()]
    mol = Chem.RenumberAtoms(mol, [int(i) for i in np.argsort(numbers, kind="stable")])
    topology = app.Topology()
    chain, residues = topology.addChain("A"), {}
    for atom in mol.GetAtoms():
        info = atom.GetPDBResidueInfo()
        number = info.GetResidueNumber()
        if number not in residues:
            residues[number] = topology.addResidue(info.GetResidueName(), chain, str(number))
        element = app.Element.getBySymbol(atom.GetSymbol())
        topology.addAtom(info.GetName().strip(), element, residues[number])
    atoms = list(topology.atoms())
    for bond in mol.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])
    return mol, topology


def test_standard_residues_have_the_orders_that_rdkit_gives_them() -> None:
    mol, topology = peptide(SEQUENCE)
    molecule, expected = molecule_from_topology(topology), from_rdkit(mol, orders=True)
    assert molecule.bonds == expected.bonds
    assert molecule.formal_charges == expected.formal_charges
    residue = molecule.residue_names
    differing = [
        residue[bond[0]]
        for bond, order, other in zip(
            molecule.bonds, molecule.bond_orders, expected.bond_orders, strict=True
        )
        if order != other
    ]
    # Of the two Kekule forms of a benzene ring either will do.
    assert set(differing) <= {"PHE", "TRP", "TYR"}
    assert sum(molecule.bond_orders) == sum(expected.bond_orders)


@pytest.mark.parametrize(
    ("variant", "charge", "double"), [("HID", 0, "NE2"), ("HIE", 0, "ND1"), ("HIP", 1, "ND1")]
)
def test_a_histidine_is_as_its_hydrogens_say(
    tmp_path: Path, variant: str, charge: int, double: str
) -> None:
    """Charged ends and side chains, with the hydrogens and the names that OpenMM gives them."""
    mol = Chem.MolFromSequence("DHRK")
    AllChem.EmbedMolecule(mol, randomSeed=1)
    (tmp_path / "x.pdb").write_text(Chem.MolToPDBBlock(mol, flavor=2))
    read = app.PDBFile(str(tmp_path / "x.pdb"))
    modeller = app.Modeller(read.topology, read.positions)
    reference = openmm.Platform.getPlatformByName("Reference")
    modeller.addHydrogens(variants=[None, variant, None, None], platform=reference)
    molecule = molecule_from_topology(modeller.topology)
    orders = orders_by_name(molecule)
    assert orders[frozenset({"A:HIS2:CE1", f"A:HIS2:{double}"})] == 2
    # Ends +1 and -1, aspartate -1, arginine +1, lysine +1.
    assert sum(molecule.formal_charges) == 1 + charge
    charged = {molecule.atom_label(i) for i, q in enumerate(molecule.formal_charges) if q}
    assert {"A:ASP1:OD2", "A:ARG3:NH2", "A:LYS4:NZ"} <= charged


def test_a_residue_by_name_with_other_hydrogens_is_none() -> None:
    """An alanine whose CB bears a hydrogen too many."""
    topology = app.PDBFile(str(ALANINE)).topology
    assert molecule_from_topology(topology).bond_orders
    atoms = {(a.residue.name, a.name): a for a in topology.atoms()}
    residue = atoms["NME", "N"].residue
    extra = topology.addAtom("HX", app.Element.getBySymbol("H"), residue)
    topology.addBond(atoms["ALA", "CB"], extra)
    assert molecule_from_topology(topology).bond_orders == ()


def test_pdb_files_state_none() -> None:
    assert molecule_from_topology(load_structure(VALPROIC_ACID)[0]).bond_orders == ()


def test_modeller_keeps_what_is_known() -> None:
    """Of a peptide by its names, and of a ligand that brings orders."""
    mol = with_hydrogens("CC(=O)[O-]")
    alanine = app.PDBFile(str(ALANINE))
    both = app.Modeller(alanine.topology, alanine.positions)
    both.add(topology_of(mol), np.zeros((7, 3)) * unit.nanometer)
    molecule = molecule_from_topology(both.topology)
    assert Counter(molecule.bond_orders)[2] == 3
    assert molecule.formal_charges[22:] == from_rdkit(mol, orders=True).formal_charges
    both.add(topology_of(mol, "none"), np.zeros((7, 3)) * unit.nanometer)
    assert molecule_from_topology(both.topology).bond_orders == ()
    ligand = range(22, 29)
    assert molecule_from_topology(both.topology, particles=ligand).bond_orders


def test_mmcif_states_those_of_its_components(tmp_path: Path) -> None:
    topology, positions = load_structure(VALPROIC_ACID)
    path = tmp_path / "ligand.cif"
    with open(path, "w") as handle:
        app.PDBxFile.writeFile(topology, positions * unit.nanometer, handle, keepIds=True)
    carbonyl = {"O1", "C8"}
    rows = []
    for bond in topology.bonds():
        names = {bond[0].name, bond[1].name}
        order = "doub" if names == carbonyl else "sing"
        rows.append(f"VPA {bond[0].name} {bond[1].name} {order}")
    assert any("doub" in row for row in rows)
    head = ("comp_id", "atom_id_1", "atom_id_2", "value_order")
    loop = ["loop_", *(f"_chem_comp_bond.{name}" for name in head), *rows, "#"]
    path.write_text(path.read_text() + "\n".join(loop) + "\n")
    molecule = molecule_from_topology(load_structure(path)[0])
    assert Counter(molecule.bond_orders)[2] == 1
    assert molecule == molecule_from_topology(topology)


def test_trajectories_keep_them(tmp_path: Path) -> None:
    """What a flow is made from, whatever file its molecule was read from."""
    mol = with_hydrogens("C/C=[N+](/C)CC")
    topology = topology_of(mol)
    expected = molecule_from_topology(topology)
    assert expected.bond_orders
    positions = np.random.default_rng(1).normal(scale=0.05, size=(3, mol.GetNumAtoms(), 3))
    for name, held in (
        ("run", mdtraj.Topology.from_openmm(topology)),
        ("written", reader_topology(expected)),
    ):
        (tmp_path / name).mkdir()
        trajectory = mdtraj.Trajectory(positions, held, time=np.arange(3.0))
        trajectory.save_hdf5(str(tmp_path / name / "trajectory-0.h5"))
        assert same_orders(load_trajectories(tmp_path / name).molecule, expected)
    bare = mdtraj.Topology.from_openmm(topology_of(mol, "none"))
    trajectory = mdtraj.Trajectory(positions, bare, time=np.arange(3.0))
    trajectory.save_hdf5(str(tmp_path / "run" / "trajectory-1.h5"))
    with pytest.raises(ValueError, match=r"the bonds in .*trajectory-1.h5 differ"):
        load_trajectories(tmp_path / "run")


def test_checkpoints_keep_them_and_do_without() -> None:
    molecule = molecule_from_topology(load_structure(ALANINE)[0])
    made = Provenance(molecule, 310.0, ("x.xml",), [[0.0] * 3] * 22, {}, {})
    assert same_orders(Provenance.from_json(made.to_json()).molecule, molecule)
    content = json.loads(made.to_json())
    for name in ("bond_orders", "formal_charges"):
        del content["molecule"][name]
    assert Provenance.from_json(json.dumps(content)).molecule.bond_orders == ()


def test_they_count_where_work_is_told_by_its_structure() -> None:
    mol, positions = with_hydrogens("CC(=O)[O-]"), np.zeros((7, 3))
    digests = {structure_digest(topology_of(mol, s), positions) for s in ("none", "orders")}
    assert len(digests) == 2


SAMPLING = """
import sys
from openmm import app
from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.cli import main
pdb, out = sys.argv[1:]
topology = app.PDBFile(pdb).topology
model = pretrained("alanine-dipeptide")
TimewarpMCMCIntegrator(model, topology=topology)
sys.argv[1:] = f"sample --model {model} --pdb {pdb} --steps 5 --out {out}".split()
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert "rdkit" not in sys.modules, "rdkit was imported"
"""


def test_sampling_does_without_rdkit(tmp_path: Path) -> None:
    """Though bond orders of the molecule are known."""
    assert molecule_from_topology(load_structure(ALANINE)[0]).bond_orders
    command = [sys.executable, "-c", SAMPLING, str(ALANINE), str(tmp_path / "out.dcd")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_model_is_the_same_with_and_without_them() -> None:
    molecule = molecule_from_topology(load_structure(ALANINE)[0])
    assert molecule == molecule.without_bond_orders()
    metadata = read_metadata(pretrained("alanine-dipeptide"))
    assert "bond_orders" not in metadata.to_json()
