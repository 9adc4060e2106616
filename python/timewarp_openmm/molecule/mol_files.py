"""Reading a molecule with its bond orders and charges: SDF and MOL files (V2000 and V3000)."""

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
    mol = _read(path)
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
    angstroms = np.asarray(mol.GetConformer().GetPositions(), dtype=float)
    return _topology(mol), angstroms / 10


def _read(path: Path) -> Chem.Mol:
    with open(path, "rb") as handle, rdBase.BlockLogs():
        molecules = list(Chem.ForwardSDMolSupplier(handle, sanitize=False, removeHs=False))
    if len(molecules) > 1:
        raise ValueError(
            f"{path} holds {len(molecules)} molecules; write the one that is meant to a file of "
            "its own"
        )
    mol = molecules[0] if molecules else None
    if mol is None or mol.GetNumAtoms() == 0:
        raise ValueError(f"{path} is not an SDF or MOL file with a molecule that RDKit can read")
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


def _topology(mol: Chem.Mol) -> app.Topology:
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
