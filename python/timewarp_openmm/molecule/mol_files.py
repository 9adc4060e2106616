"""Molecules with bond orders and charges: SDF, MOL (V2000 and V3000) and MOL2 files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import app
from rdkit import Chem, rdBase

#: What the PDB calls a ligand that it has no name for.
RESIDUE_NAME = "UNL"
#: RDKit's type of a bond to OpenMM's and its order.
_TYPES = {
    Chem.BondType.SINGLE: (app.Single, 1),
    Chem.BondType.DOUBLE: (app.Double, 2),
    Chem.BondType.TRIPLE: (app.Triple, 3),
}


def load_mol_file(path: Path) -> tuple[app.Topology, NDArray[np.float64]]:
    """Read topology, with bond orders and charges, and positions [N, 3] in nm.

    Raises
    ------
    ValueError
        If the file cannot be read, holds more than one molecule, or one without hydrogens or
        coordinates.
    """
    mol = read_mol(path)
    return topology_of(mol), positions_of(mol)


def read_mol(path: Path) -> Chem.Mol:
    """Read the one molecule of a file, with its hydrogens and its positions in space.

    Raises
    ------
    ValueError
        As `load_mol_file`.
    """
    mol = _checked(path, _read_mol2(path) if path.suffix.lower() == ".mol2" else _read(path))
    lacking = sum(atom.GetTotalNumHs() for atom in mol.GetAtoms())
    if lacking:
        raise ValueError(
            f"{path} lacks {lacking} hydrogens; add them with their positions, such as by RDKit's "
            "AddHs(mol, addCoords=True)"
        )
    if not mol.GetConformer().Is3D():
        raise ValueError(
            f"{path} holds a drawing and no positions in space; make some, such as by RDKit's "
            "EmbedMolecule"
        )
    return mol


def positions_of(mol: Chem.Mol) -> NDArray[np.float64]:
    """Return the positions [N, 3] / nm of a molecule's conformer."""
    return np.asarray(mol.GetConformer().GetPositions(), dtype=float) / 10


def _read(path: Path) -> Chem.Mol | None:
    with open(path, "rb") as handle, rdBase.BlockLogs():
        molecules = list(Chem.ForwardSDMolSupplier(handle, sanitize=False, removeHs=False))
    if len(molecules) > 1:
        raise ValueError(
            f"{path} holds {len(molecules)} molecules; write the one that is meant to a file of "
            "its own"
        )
    return molecules[0] if molecules else None


def _read_mol2(path: Path) -> Chem.Mol | None:
    with rdBase.BlockLogs():
        return Chem.MolFromMol2File(str(path), sanitize=False, removeHs=False)


def _checked(path: Path, mol: Chem.Mol | None) -> Chem.Mol:
    if mol is None or mol.GetNumAtoms() == 0:
        kind = "a MOL2" if path.suffix.lower() == ".mol2" else "an SDF or MOL"
        raise ValueError(f"{path} is not {kind} file with a molecule that RDKit can read")
    try:
        with rdBase.BlockLogs():
            Chem.SanitizeMol(mol)
            Chem.Kekulize(mol, clearAromaticFlags=True)
    except Chem.MolSanitizeException as error:
        raise ValueError(f"the bonds in {path} are wrong: {error}") from error
    for bond in mol.GetBonds():
        if bond.GetBondType() not in _TYPES:
            raise ValueError(
                f"{path} has a bond of type {bond.GetBondType().name.lower()}; write it as single, "
                "double or triple, with charges"
            )
    return mol


def topology_of(mol: Chem.Mol) -> app.Topology:
    """Return a molecule with hydrogens and Kekulé bonds as a Topology of one residue."""
    topology = app.Topology()
    residue = topology.addResidue(RESIDUE_NAME, topology.addChain("A"))
    counts: Counter[str] = Counter()
    for atom in mol.GetAtoms():
        symbol = atom.GetSymbol()
        counts[symbol] += 1
        topology.addAtom(
            f"{symbol}{counts[symbol]}",
            app.Element.getBySymbol(symbol),
            residue,
            formalCharge=atom.GetFormalCharge(),
        )
    atoms = list(topology.atoms())
    for bond in mol.GetBonds():
        first, second = atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()]
        topology.addBond(first, second, *_TYPES[bond.GetBondType()])
    return topology
