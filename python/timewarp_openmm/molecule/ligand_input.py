"""A small molecule as chemists have it: a SMILES string, or a file with its structure."""

from __future__ import annotations

from pathlib import Path

from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from rdkit.Chem.AllChem import AssignBondOrdersFromTemplate
from rdkit.Chem.EnumerateStereoisomers import (
    EnumerateStereoisomers,
    StereoEnumerationOptions,
)

from .mol_files import read_mol
from .structure_files import MOL_SUFFIXES

PDB_SUFFIXES = (".pdb", ".ent")
#: Stereoisomers that a message lists.
_MOST_LISTED = 8
_ATTEMPTS = 50


def is_smiles(source: str) -> bool:
    """Tell a SMILES string from the path of a structure file.

    Examples
    --------
    >>> is_smiles("CC(=O)Oc1ccccc1C(=O)O"), is_smiles("aspirin.sdf"), is_smiles("C/C=C/C")
    (True, False, True)
    """
    path = Path(source)
    if path.exists() or path.suffix.lower() in (*MOL_SUFFIXES, *PDB_SUFFIXES, ".cif", ".mmcif"):
        return False
    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(source, sanitize=False) is not None


def read_ligand(source: str, template: str | None = None, seed: int = 1) -> Chem.Mol:
    """Return a molecule with all hydrogens, Kekulé bonds and one conformer.

    Parameters
    ----------
    source : str
        A SMILES string (of which a conformer is made by RDKit's ETKDGv3 and MMFF94), or the path of
        an SDF, MOL, MOL2 or PDB file with hydrogens.
    template : str, optional
        A SMILES string, for the bond orders of a PDB file.
    seed : int
        Of the conformer.

    Raises
    ------
    ValueError
        If it is not one molecule, has radicals or undefined stereochemistry, lacks hydrogens or
        bond orders, or RDKit finds no conformer of it; the message names what and the remedy.
    """
    if is_smiles(source):
        if template is not None:
            raise ValueError("a template goes with a PDB file; a SMILES string has its bond orders")
        return _embedded(source, _parsed(source), seed)
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"{source} is neither a file nor a SMILES string that RDKit can read")
    if path.suffix.lower() in PDB_SUFFIXES:
        mol = _from_pdb(path, template)
    elif template is not None:
        raise ValueError(f"a template goes with a PDB file; {path} has its own bond orders")
    else:
        mol = read_mol(path)
    Chem.AssignStereochemistryFrom3D(mol)
    _check_molecule(str(path), mol)
    return mol


def _parsed(smiles: str) -> Chem.Mol:
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles, sanitize=False)
        problems = Chem.DetectChemistryProblems(mol)
    if problems:
        raise ValueError(f"{smiles} cannot be a molecule: {problems[0].Message()}")
    Chem.SanitizeMol(mol)
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    _check_molecule(smiles, mol)
    _refuse_open_stereo(smiles, mol)
    return Chem.AddHs(mol)


def _check_molecule(name: str, mol: Chem.Mol) -> None:
    """Refuse what no force field of small molecules describes."""
    fragments = Chem.GetMolFrags(mol, asMols=True)
    if len(fragments) != 1:
        listed = ", ".join(Chem.MolToSmiles(Chem.RemoveHs(part)) for part in fragments)
        raise ValueError(
            f"{name} holds {len(fragments)} molecules ({listed}); give the one that is meant, "
            "without its counter-ions and solvent"
        )
    for atom in mol.GetAtoms():
        where = f"atom {atom.GetIdx()} ({atom.GetSymbol()}) of {name}"
        if atom.GetAtomicNum() == 0:
            raise ValueError(f"{where} is a placeholder; give the whole molecule")
        if atom.GetNumRadicalElectrons() > 0:
            raise ValueError(
                f"{where} is a radical, of which force fields know nothing; give it its hydrogens "
                "or its charge"
            )


def _refuse_open_stereo(smiles: str, mol: Chem.Mol) -> None:
    open_places = [
        info
        for info in Chem.FindPotentialStereo(mol)
        if info.specified == Chem.StereoSpecified.Unspecified
        and info.type in (Chem.StereoType.Atom_Tetrahedral, Chem.StereoType.Bond_Double)
    ]
    if not open_places:
        return
    choices = _stereoisomers(mol)
    if len(choices) < 2:
        # Of a meso compound, for instance, all are one.
        return
    more = len(choices) - _MOST_LISTED
    listed = "\n".join(f"  {choice}" for choice in choices[:_MOST_LISTED])
    raise ValueError(
        f"{smiles} leaves its stereochemistry open at {_name_places(mol, open_places)}; choose "
        f"one of\n{listed}" + (f"\n  and {more} more" if more > 0 else "")
    )


def _stereoisomers(mol: Chem.Mol) -> list[str]:
    options = StereoEnumerationOptions(onlyUnassigned=True, unique=True)  # type: ignore[no-untyped-call]
    isomers = EnumerateStereoisomers(mol, options)  # type: ignore[no-untyped-call]
    return sorted(Chem.MolToSmiles(isomer) for isomer in isomers)


def _name_places(mol: Chem.Mol, places: list[Chem.StereoInfo]) -> str:
    names = []
    for info in places:
        if info.type == Chem.StereoType.Atom_Tetrahedral:
            atom = mol.GetAtomWithIdx(info.centeredOn)
            names.append(f"atom {atom.GetIdx()} ({atom.GetSymbol()})")
        else:
            bond = mol.GetBondWithIdx(info.centeredOn)
            ends = bond.GetBeginAtom(), bond.GetEndAtom()
            names.append(
                f"the double bond {'='.join(f'{a.GetSymbol()}{a.GetIdx()}' for a in ends)}"
            )
    return ", ".join(names)


def _embedded(smiles: str, mol: Chem.Mol, seed: int) -> Chem.Mol:
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed  # type: ignore[assignment]
    parameters.maxIterations = _ATTEMPTS  # type: ignore[assignment]
    with rdBase.BlockLogs():
        failed = rdDistGeom.EmbedMolecule(mol, parameters) != 0
    if failed:
        raise ValueError(
            f"RDKit finds no conformer of {smiles}; give an SDF file of it with one, and check "
            "whether its stereochemistry is possible"
        )
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=1000)
    made = Chem.Mol(mol)
    Chem.AssignStereochemistryFrom3D(made)
    if canonical_smiles(made) != canonical_smiles(mol):
        raise ValueError(
            f"the conformer that RDKit makes of {smiles} is {canonical_smiles(made)}; give an SDF "
            "file with a conformer of the right one"
        )
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return mol


def canonical_smiles(mol: Chem.Mol) -> str:
    """Return RDKit's SMILES without hydrogens, with stereochemistry."""
    plain = Chem.RemoveHs(Chem.Mol(mol))
    Chem.SanitizeMol(plain)
    return str(Chem.MolToSmiles(plain))


def _from_pdb(path: Path, template: str | None) -> Chem.Mol:
    if template is None:
        raise ValueError(
            f"{path} does not say which bonds are double; give the molecule's SMILES string as a "
            "template, or an SDF file instead"
        )
    wanted = _parsed(template)
    with rdBase.BlockLogs():
        found = Chem.MolFromPDBFile(str(path), removeHs=False, sanitize=False)
    if found is None or found.GetNumAtoms() == 0:
        raise ValueError(f"{path} is not a PDB file with a molecule that RDKit can read")
    if found.GetNumAtoms() != wanted.GetNumAtoms():
        raise ValueError(
            f"{path} has {found.GetNumAtoms()} atoms, and the template {template} has "
            f"{wanted.GetNumAtoms()} with its hydrogens; add what is missing"
        )
    try:
        with rdBase.BlockLogs():
            mol: Chem.Mol = AssignBondOrdersFromTemplate(wanted, found)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ValueError(f"{path} is another molecule than the template {template}") from error
    Chem.SanitizeMol(mol)
    Chem.AssignStereochemistryFrom3D(mol)
    if canonical_smiles(mol) != canonical_smiles(wanted):
        raise ValueError(
            f"{path} is {canonical_smiles(mol)}, another stereoisomer than the template "
            f"{canonical_smiles(wanted)}"
        )
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return mol
