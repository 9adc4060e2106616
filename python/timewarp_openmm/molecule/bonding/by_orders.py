"""Where bond orders are known: what RDKit perceives of them."""

from __future__ import annotations

from rdkit import Chem, rdBase

from ..graph import Molecule
from .base import Bond, Geometry
from .by_graph import delocalised_charges

_ORDER = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
_FLAT = (Chem.HybridizationType.SP, Chem.HybridizationType.SP2)
#: Atoms with three neighbours that do not turn inside out, and that RDKit does not know as such.
_FURTHER_PYRAMIDS = ("Sb", "Te")


def geometry_by_orders(molecule: Molecule) -> Geometry:
    """Ask RDKit for hybridization and for potential stereocentres.

    Raises
    ------
    ValueError
        If an atom cannot have the bonds that it is said to have.
    """
    mol = to_rdkit(molecule)
    atoms = list(mol.GetAtoms())
    drawn = frozenset(
        frozenset(bond)
        for bond, order in zip(molecule.bonds, molecule.bond_orders, strict=True)
        if order > 1
    )
    return Geometry(
        linear=frozenset(
            a.GetIdx()
            for a in atoms
            if a.GetDegree() == 2 and a.GetHybridization() == Chem.HybridizationType.SP
        ),
        tetrahedral=frozenset(a.GetIdx() for a in atoms if _is_tetrahedral(a)),
        centres=_centres(mol),
        see_saws=frozenset(a.GetIdx() for a in atoms if a.GetDegree() == 4 and _is_crowded(a)),
        double=_double_bonds(mol) - delocalised_charges(molecule, drawn),
    )


def to_rdkit(molecule: Molecule) -> Chem.Mol:
    """Return a molecule with known bond orders as RDKit sees it, hydrogens among its atoms.

    Raises
    ------
    ValueError
        If an atom cannot have the bonds that it is said to have.
    """
    mol = Chem.RWMol()
    for element, charge in zip(molecule.elements, molecule.formal_charges, strict=True):
        atom = Chem.Atom(element)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    for (a, b), order in zip(molecule.bonds, molecule.bond_orders, strict=True):
        mol.AddBond(a, b, _ORDER[order])
    with rdBase.BlockLogs():
        problems = Chem.DetectChemistryProblems(mol)
    if problems:
        raise ValueError(
            f"{molecule.describe_atom(problems[0].GetAtomIdx())} cannot have the bond orders that "
            f"the structure gives it ({problems[0].Message()}); correct them, or use a structure "
            "without bond orders, such as a PDB file"
        )
    Chem.SanitizeMol(mol)
    return mol.GetMol()


def _double_bonds(mol: Chem.Mol) -> frozenset[Bond]:
    """Return the double bonds between flat atoms, aromatic ones left out.

    A sulfur or phosphorus with a lone pair or four neighbours turns about its double bonds.
    """
    return frozenset(
        frozenset((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        for bond in mol.GetBonds()
        if bond.GetBondType() in (Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
        and all(a.GetHybridization() in _FLAT for a in (bond.GetBeginAtom(), bond.GetEndAtom()))
    )


def _is_tetrahedral(atom: Chem.Atom) -> bool:
    """RDKit lets no sulfur conjugate outside of aromatic rings; one with two neighbours does."""
    if atom.GetHybridization() != Chem.HybridizationType.SP3:
        return False
    around = atom.GetNeighbors()
    conjugates = any(n.GetHybridization() in _FLAT for n in around)
    return not (conjugates and len(around) == 2)


def _is_crowded(atom: Chem.Atom) -> bool:
    return atom.GetHybridization() in (
        Chem.HybridizationType.SP2D,
        Chem.HybridizationType.SP3D,
        Chem.HybridizationType.SP3D2,
    )


def _centres(mol: Chem.Mol) -> frozenset[int]:
    """Return the atoms that would be stereocentres if all atoms could be told apart."""
    labelled = Chem.Mol(mol)
    for atom in labelled.GetAtoms():
        # RDKit counts hydrogens as equal, whatever their isotope.
        if atom.GetAtomicNum() == 1:
            atom.SetAtomicNum(9)
        atom.SetIsotope(atom.GetIdx() + 1)
    potential = {
        info.centeredOn
        for info in Chem.FindPotentialStereo(labelled)
        if info.type == Chem.StereoType.Atom_Tetrahedral
    }
    return frozenset(
        atom.GetIdx()
        for atom in mol.GetAtoms()
        if (atom.GetIdx() in potential and not _is_crowded(atom) and atom.GetDegree() > 2)
        or (atom.GetSymbol() in _FURTHER_PYRAMIDS and atom.GetDegree() == 3)
    )
