"""Peptides between acetyl and N-methyl groups, or with charged ends, made from the residues' names
and a force field."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from openmm import app, unit
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolTransforms

from ..molecule.chain_ends import FIRST, LAST
from ..units import NANOMETER
from .langevin import Langevin
from .systems import MolecularSystem, build_system, make_platform

#: Residues that have side chains with rotamers, by Amber's names, and their letters in sequences.
SIDE_CHAINS = {
    "ARG": "R",
    "ASH": "D",
    "ASN": "N",
    "ASP": "D",
    "CYM": "C",
    "CYS": "C",
    "GLH": "E",
    "GLN": "Q",
    "GLU": "E",
    "HID": "H",
    "HIE": "H",
    "HIP": "H",
    "ILE": "I",
    "LEU": "L",
    "LYN": "K",
    "LYS": "K",
    "MET": "M",
    "PHE": "F",
    "SER": "S",
    "THR": "T",
    "TRP": "W",
    "TYR": "Y",
    "VAL": "V",
}
_LETTERS = {"ALA": "A", "GLY": "G", "PRO": "P", **SIDE_CHAINS}
#: Of conformations and of where hydrogens are put at first.
_SEED = 7
#: K; no dynamics follow, so that it does not matter.
_TEMPERATURE = 300.0
#: Phi and psi / degrees.
_STRETCHED = (-130.0, 140.0)
#: Glycines at the ends become caps: the atoms that are left out, and new names of others.
_FIRST_CAP = ("ACE", {"N"}, {"CA": "CH3"})
_LAST_CAP = ("NME", {"C", "O", "OXT"}, {"CA": "C"})


def capped_peptide(
    residues: Sequence[str],
    force_field: Sequence[str],
    backbone: tuple[float, float] = _STRETCHED,
) -> MolecularSystem:
    """Return a peptide with hydrogens, its amides trans, in a minimum of its energy.

    It begins with an acetyl group unless the first residue is one that begins with NH3+ (NALA), and
    ends with an N-methyl group unless the last is one that ends with COO- (CALA).

    Parameters
    ----------
    residues : sequence of str
        Amber's names: SIDE_CHAINS, ALA, GLY, PRO, and with N or C before them those of charged
        ends, the names of which are without N and C in the topology.
    force_field : sequence of str
        OpenMM's force field files.
    backbone : (float, float), degrees
        Phi and psi of all residues before the energy is minimised; stretched by default, which
        leaves room for any side chain. Proline keeps its phi.

    Raises
    ------
    ValueError
        If a residue is none of these or not at its end, both ends of one residue are charged, or
        the force field has no parameters for it.
    """
    sequence = _sequence(residues)
    topology, positions = _with_hydrogens(_heavy_atoms(sequence, backbone), sequence)
    system = build_system(topology, force_field)
    # Hydrogens of an amide that are not yet in its plane would be told apart wrongly.
    positions = Langevin(_TEMPERATURE).relaxed(
        system, positions, 0.0, "Reference", _SEED, minimise=True
    )
    label = "-".join(residues)
    return MolecularSystem(label, topology, system, positions, tuple(force_field))


@dataclass(frozen=True)
class _Sequence:
    """Residues without N and C before their names, and whether caps are before and after them."""

    residues: tuple[str, ...]
    acetyl: bool
    methyl: bool

    @property
    def first(self) -> int:
        """The number of the first residue, which a cap before it has from 1 on."""
        return 2 if self.acetyl else 1

    @property
    def last(self) -> int:
        return self.first + len(self.residues) - 1


def _sequence(residues: Sequence[str]) -> _Sequence:
    names = list(residues)
    acetyl = not any(_is_end(name, FIRST) for name in names[:1])
    methyl = not any(_is_end(name, LAST) for name in names[-1:])
    if not (acetyl or methyl) and len(names) == 1:
        raise ValueError(f"{names[0]} has both ends charged; name two residues or more")
    if not acetyl:
        names[0] = names[0].removeprefix(FIRST)
    if not methyl:
        names[-1] = names[-1].removeprefix(LAST)
    for name in names:
        for end, place in ((FIRST, "first"), (LAST, "last")):
            if _is_end(name, end):
                raise ValueError(f"{name} can only be the {place} residue")
        if name not in _LETTERS:
            raise ValueError(f"{name} is none of the residues {', '.join(sorted(_LETTERS))}")
    return _Sequence(tuple(names), acetyl, methyl)


def _is_end(name: str, end: str) -> bool:
    return name not in _LETTERS and name[:1] == end and name[1:] in _LETTERS


def _heavy_atoms(sequence: _Sequence, backbone: tuple[float, float]) -> Chem.Mol:
    """Return the molecule without hydrogens, its atoms named, in one conformation."""
    letters = "".join(_LETTERS[name] for name in sequence.residues)
    before, after = "G" * sequence.acetyl, "G" * sequence.methyl
    molecule = Chem.RWMol(Chem.MolFromSequence(f"{before}{letters}{after}"))
    caps = {sequence.first - 1: _FIRST_CAP, sequence.last + 1: _LAST_CAP}
    left_out = []
    for atom in molecule.GetAtoms():
        number, label = _label(atom)
        info = atom.GetPDBResidueInfo()
        if number not in caps:
            info.SetResidueName(sequence.residues[number - sequence.first])
            continue
        cap, without, names = caps[number]
        info.SetResidueName(cap)
        info.SetName(names.get(label, label))
        if label in without:
            left_out.append(atom.GetIdx())
    for index in sorted(left_out, reverse=True):
        molecule.RemoveAtom(index)
    _name_isoleucines_as_pdb_does(molecule)
    heavy = molecule.GetMol()
    Chem.SanitizeMol(heavy)
    heavy.AddConformer(_conformer(heavy, sequence, backbone))
    return heavy


def _label(atom: Chem.Atom) -> tuple[int, str]:
    """Return the number of an atom's residue, from 1, and the atom's name."""
    info = atom.GetPDBResidueInfo()
    return info.GetResidueNumber(), info.GetName().strip()


def _name_isoleucines_as_pdb_does(molecule: Chem.Mol) -> None:
    """Give CG1 and CG2 each other's name where RDKit's carbon CD1 hangs on CG2."""
    for atom in molecule.GetAtoms():
        number, label = _label(atom)
        if atom.GetPDBResidueInfo().GetResidueName() != "ILE" or label != "CD1":
            continue
        (near,) = atom.GetNeighbors()
        if _label(near)[1] != "CG2":
            continue
        (other,) = (a for a in molecule.GetAtoms() if _label(a) == (number, "CG1"))
        near.GetPDBResidueInfo().SetName(" CG1")
        other.GetPDBResidueInfo().SetName(" CG2")


def _conformer(
    heavy: Chem.Mol, sequence: _Sequence, backbone: tuple[float, float]
) -> Chem.Conformer:
    """Return positions of the heavy atoms with trans amides and this backbone."""
    molecule = Chem.AddHs(heavy)
    rdDistGeom.EmbedMolecule(molecule, randomSeed=_SEED, useRandomCoords=True)
    conformer = molecule.GetConformer()
    atoms = {_label(atom): atom.GetIdx() for atom in heavy.GetAtoms()}

    def turn(*torsion: tuple[int, str], degrees: float) -> None:
        a, b, c, d = (atoms[label] for label in torsion)
        rdMolTransforms.SetDihedralDeg(conformer, a, b, c, d, degrees)

    first, last = sequence.first, sequence.last
    for i in range(first - sequence.acetyl, last + sequence.methyl):
        alpha = (i + 1, "CA" if i < last else "C")
        # O-C-N-C is 0 in a trans amide.
        turn((i, "O"), (i, "C"), (i + 1, "N"), alpha, degrees=0.0)
    for i in range(first, last + 1):
        ring = molecule.GetBondBetweenAtoms(atoms[i, "N"], atoms[i, "CA"]).IsInRing()
        if (i - 1, "C") in atoms and not ring:
            turn((i - 1, "C"), (i, "N"), (i, "CA"), (i, "C"), degrees=backbone[0])
        after = (i, "OXT") if (i, "OXT") in atoms else (i + 1, "N")
        turn((i, "N"), (i, "CA"), (i, "C"), after, degrees=backbone[1])
    rdForceFieldHelpers.MMFFOptimizeMolecule(molecule)
    found = Chem.Conformer(heavy.GetNumAtoms())
    for index in range(heavy.GetNumAtoms()):
        found.SetAtomPosition(index, conformer.GetAtomPosition(index))
    return found


def _with_hydrogens(
    heavy: Chem.Mol, sequence: _Sequence
) -> tuple[app.Topology, NDArray[np.float64]]:
    """Return topology and positions / nm, with the hydrogens of these states of protonation."""
    topology = app.Topology()
    chain, residue, atoms = topology.addChain(), None, []
    for atom in heavy.GetAtoms():
        number, label = _label(atom)
        if residue is None or residue.id != str(number):
            # Hydrogens are known by the residue's common name.
            name = atom.GetPDBResidueInfo().GetResidueName()
            residue = topology.addResidue(_COMMON_NAMES.get(name, name), chain, str(number))
        element = app.Element.getByAtomicNumber(atom.GetAtomicNum())
        atoms.append(topology.addAtom(label, element, residue))
    for bond in heavy.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])
    names = [
        *[_FIRST_CAP[0]] * sequence.acetyl,
        *sequence.residues,
        *[_LAST_CAP[0]] * sequence.methyl,
    ]
    modeller = app.Modeller(topology, heavy.GetConformer().GetPositions() * unit.angstrom)
    # OpenMM puts hydrogens at random at first, so that their labels would differ between calls.
    state = random.getstate()
    random.seed(_SEED)
    try:
        modeller.addHydrogens(
            variants=[_VARIANTS.get(name) for name in names],
            platform=make_platform("Reference")[0],
        )
    finally:
        random.setstate(state)
    for residue, name in zip(modeller.topology.residues(), names, strict=True):
        residue.name = name
    surplus = [
        atom for atom in modeller.topology.atoms() if _WITHOUT.get(atom.residue.name) == atom.name
    ]
    modeller.delete(surplus)
    return modeller.topology, np.asarray(modeller.positions.value_in_unit(NANOMETER))


#: Residues that PDB files and OpenMM's hydrogens know by another name than Amber's.
_COMMON_NAMES = {
    "ASH": "ASP",
    "CYM": "CYS",
    "GLH": "GLU",
    "HID": "HIS",
    "HIE": "HIS",
    "HIP": "HIS",
    "LYN": "LYS",
}
#: Those of OpenMM's variants that have hydrogens other than what pH 7 would give.
_VARIANTS = {name: name for name in ("ASH", "ASP", "GLH", "GLU", "HID", "HIE", "HIP", "LYN", "LYS")}
_VARIANTS["CYM"] = "CYS"
#: A hydrogen that OpenMM adds and the residue does not have.
_WITHOUT = {"CYM": "HG"}
