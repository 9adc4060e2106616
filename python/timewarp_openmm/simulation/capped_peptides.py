"""Peptides between acetyl and N-methyl groups, made from the residues' names and a force field."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolTransforms

from ..units import NANOMETER
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
#: Conformations that are made at most until one has trans amides only.
_TRIALS = 20
#: Of conformations and of where hydrogens are put at first.
_SEED = 7
_MINIMISING = 300
#: Residues, up to which conformations are tried as they come.
_SHORT = 5
#: Phi and psi / degrees.
_STRETCHED = (-130.0, 140.0)
#: Glycines at the ends become caps: the atoms that are left out, and new names of others.
_FIRST_CAP = ("ACE", {"N"}, {"CA": "CH3"})
_LAST_CAP = ("NME", {"C", "O", "OXT"}, {"CA": "C"})
_ANGSTROM_PER_NM = 10.0


def capped_peptide(residues: Sequence[str], force_field: Sequence[str]) -> MolecularSystem:
    """Return a capped peptide with hydrogens, in a conformation with trans amides.

    Parameters
    ----------
    residues : sequence of str
        Amber's names: SIDE_CHAINS, ALA, GLY, PRO.
    force_field : sequence of str
        OpenMM's force field files.

    Raises
    ------
    ValueError
        If a residue is none of these, or the force field has no parameters for it.
    """
    for name in residues:
        if name not in _LETTERS:
            raise ValueError(f"{name} is none of the residues {', '.join(sorted(_LETTERS))}")
    heavy = _heavy_atoms(residues)
    topology, positions = _with_hydrogens(heavy, residues)
    system = build_system(topology, force_field)
    # Hydrogens of an amide that are not yet in its plane would be told apart wrongly.
    platform = make_platform("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), *platform)
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=_MINIMISING)
    minimum = context.getState(positions=True).getPositions(asNumpy=True)
    positions = np.asarray(minimum.value_in_unit(NANOMETER))
    label = "-".join(residues)
    return MolecularSystem(label, topology, system, positions, tuple(force_field))


def _heavy_atoms(residues: Sequence[str]) -> Chem.Mol:
    """Return the molecule without hydrogens, its atoms named, in one conformation."""
    letters = "".join(_LETTERS[name] for name in residues)
    molecule = Chem.RWMol(Chem.MolFromSequence(f"G{letters}G"))
    caps = {1: _FIRST_CAP, len(residues) + 2: _LAST_CAP}
    left_out = []
    for atom in molecule.GetAtoms():
        number, label = _label(atom)
        info = atom.GetPDBResidueInfo()
        if number not in caps:
            info.SetResidueName(residues[number - 2])
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
    heavy.AddConformer(_conformer_with_trans_amides(heavy, len(residues)))
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


def _conformer_with_trans_amides(heavy: Chem.Mol, count: int) -> Chem.Conformer:
    molecule = Chem.AddHs(heavy)
    numbers: list[int] = []
    if count <= _SHORT:
        numbers = list(rdDistGeom.EmbedMultipleConfs(molecule, _TRIALS, randomSeed=_SEED))
    if not numbers:
        numbers = [rdDistGeom.EmbedMolecule(molecule, randomSeed=_SEED, useRandomCoords=True)]
    atoms = {_label(atom): atom.GetIdx() for atom in heavy.GetAtoms()}
    # O-C-N-C is 0 in a trans amide.
    amides = [
        [atoms[i, "O"], atoms[i, "C"], atoms[i + 1, "N"], atoms[i + 1, "CA" if i <= count else "C"]]
        for i in range(1, count + 2)
    ]
    # Of a long peptide none may be as it should, but there is always room for a stretched one.
    for stretches, number in [(False, number) for number in numbers] + [(True, numbers[0])]:
        conformer = molecule.GetConformer(number)
        if stretches:
            _stretch(conformer, molecule, atoms, amides, count)
        rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, confId=number)
        torsions = [rdMolTransforms.GetDihedralDeg(conformer, *amide) for amide in amides]
        if all(abs(torsion) < 40 for torsion in torsions):
            found = Chem.Conformer(heavy.GetNumAtoms())
            for index in range(heavy.GetNumAtoms()):
                found.SetAtomPosition(index, conformer.GetAtomPosition(index))
            return found
    raise ValueError("no conformation of the peptide has trans amides only")


def _stretch(
    conformer: Chem.Conformer,
    molecule: Chem.Mol,
    atoms: dict[tuple[int, str], int],
    amides: list[list[int]],
    count: int,
) -> None:
    """Make all amides trans, and phi and psi those of a stretched chain."""
    for oxygen, carbon, nitrogen, alpha in amides:
        rdMolTransforms.SetDihedralDeg(conformer, oxygen, carbon, nitrogen, alpha, 0.0)
    for i in range(2, count + 2):
        before, nitrogen, alpha = atoms[i - 1, "C"], atoms[i, "N"], atoms[i, "CA"]
        carbon, after = atoms[i, "C"], atoms[i + 1, "N"]
        if not molecule.GetBondBetweenAtoms(nitrogen, alpha).IsInRing():
            rdMolTransforms.SetDihedralDeg(
                conformer, before, nitrogen, alpha, carbon, _STRETCHED[0]
            )
        rdMolTransforms.SetDihedralDeg(conformer, nitrogen, alpha, carbon, after, _STRETCHED[1])


def _with_hydrogens(
    heavy: Chem.Mol, residues: Sequence[str]
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
    positions = heavy.GetConformer().GetPositions() / _ANGSTROM_PER_NM
    modeller = app.Modeller(topology, positions * unit.nanometer)
    # OpenMM puts hydrogens at random at first, so that their labels would differ between calls.
    state = random.getstate()
    random.seed(_SEED)
    try:
        modeller.addHydrogens(
            variants=[None, *(_VARIANTS.get(name) for name in residues), None],
            platform=make_platform("Reference")[0],
        )
    finally:
        random.setstate(state)
    for residue, name in zip(list(modeller.topology.residues())[1:-1], residues, strict=True):
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
