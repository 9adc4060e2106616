"""Molecules with conformations for tests of internal coordinates."""

import numpy as np
from rdkit import Chem
from rdkit.Chem import AllChem

from timewarp_openmm.molecule import Molecule

SMILES = {
    # Peptides with acetyl and N-methyl caps, or charged ends.
    "ala": "CC(=O)N[C@@H](C)C(=O)NC",
    "gly": "CC(=O)NCC(=O)NC",
    "pro": "CC(=O)N1CCC[C@H]1C(=O)NC",
    "phe": "CC(=O)N[C@@H](Cc1ccccc1)C(=O)NC",
    "trp": "CC(=O)N[C@@H](Cc1c[nH]c2ccccc12)C(=O)NC",
    "his": "CC(=O)N[C@@H](Cc1c[nH]cn1)C(=O)NC",
    "zwitterion": "C[C@H]([NH3+])C(=O)N[C@@H](CC(=O)[O-])C(=O)N[C@@H](CCCNC(N)=[NH2+])C(=O)[O-]",
    "disulfide": "CC(=O)N[C@H](C(=O)NC)CSSC[C@@H](C(=O)NC)NC(C)=O",
    "cystine_ring": "CC(=O)N[C@H]1CSSC[C@@H](C(=O)NC)NC(=O)CNC1=O",
    # Ligands.
    "ibuprofen": "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O",
    "sulfonamide": "Cc1ccc(cc1)S(=O)(=O)NC(=O)NCC",
    "imatinib": "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1",
    "penicillin": "CC1(C)S[C@@H]2[C@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)O",
    "adamantane": "C1C2CC3CC1CC(C2)C3",
    "ethane": "CC",
    "butadiene": "C=CC=C",
}


def make(name: str, conformers: int = 1, seed: int = 7) -> tuple[Molecule, np.ndarray]:
    """Return a molecule and conformations [conformers, N, 3] / nm."""
    mol = Chem.AddHs(Chem.MolFromSmiles(SMILES.get(name, name)))
    AllChem.EmbedMultipleConfs(mol, conformers, randomSeed=seed)
    positions = np.stack([c.GetPositions() for c in mol.GetConformers()]) / 10
    return from_rdkit(mol), positions


def from_rdkit(mol: Chem.Mol, orders: bool = False) -> Molecule:
    """Return a molecule with or without its bond orders."""
    atoms = list(mol.GetAtoms())
    kekulized = Chem.Mol(mol)
    Chem.Kekulize(kekulized, clearAromaticFlags=True)
    order = {
        tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))): int(b.GetBondTypeAsDouble())
        for b in kekulized.GetBonds()
    }
    bonds = sorted(order)
    return Molecule(
        atom_names=tuple(f"{a.GetSymbol()}{a.GetIdx()}" for a in atoms),
        residue_names=("LIG",) * len(atoms),
        residue_indices=(0,) * len(atoms),
        elements=tuple(a.GetSymbol() for a in atoms),
        masses=tuple(a.GetMass() for a in atoms),
        bonds=tuple((int(a), int(b)) for a, b in bonds),
        bond_orders=tuple(order[bond] for bond in bonds) if orders else (),
        formal_charges=tuple(a.GetFormalCharge() for a in atoms) if orders else (),
    )


def shaken(positions: np.ndarray, copies: int, scale: float, seed: int = 3) -> np.ndarray:
    """Return the first conformation [copies, N, 3] with noise of `scale` / nm on every atom."""
    noise = np.random.default_rng(seed).normal(size=(copies, *positions.shape[1:]))
    return positions[:1] + scale * noise
