"""Reading structures as people have them: PDB, mmCIF, SDF, MOL and MOL2 files."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import app

from ..units import NANOMETER
from .selection import residue_label

#: Suffixes of mmCIF files, and of those that RDKit reads; everything else is read as PDB.
MMCIF_SUFFIXES = (".cif", ".mmcif", ".pdbx")
MOL_SUFFIXES = (".sdf", ".sd", ".mol", ".mol2")
#: What OpenMM warns of when a name comes up again in a residue; it then leaves the atom out.
_REPEATED = "WARNING: duplicate atom"
#: Residue, what tells residues or locations of one label apart, and atom name.
AtomKey = tuple[str, str, str]


def load_structure(path: str | Path) -> tuple[app.Topology, NDArray[np.float64]]:
    """Read topology and positions [N, 3] in nm of a PDB or mmCIF file's first model, or of the one
    molecule of an SDF, MOL or MOL2 file, which states bond orders.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it cannot be read, or two atoms of a residue have one name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no structure file at {path}")
    if path.suffix.lower() in MOL_SUFFIXES:
        # Sampling a model with a PDB file does without RDKit.
        from .mol_files import load_mol_file

        return load_mol_file(path)
    return _load_by_openmm(path)


def _load_by_openmm(path: Path) -> tuple[app.Topology, NDArray[np.float64]]:
    mmcif = path.suffix.lower() in MMCIF_SUFFIXES
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = app.PDBxFile(str(path)) if mmcif else app.PDBFile(str(path))
    except Exception as error:  # OpenMM's parsers raise whatever their line handling meets
        kind = "an mmCIF" if mmcif else "a PDB"
        raise ValueError(f"{path} is not {kind} file that OpenMM can read: {error}") from error
    if any(str(warning.message).startswith(_REPEATED) for warning in caught):
        _refuse_repeated_names(path, _names_in_pdb(path))
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    topology = found.topology
    if topology.getNumAtoms() == 0:
        raise ValueError(f"{path} holds no atoms")
    _refuse_repeated_names(path, _names_in_topology(topology))
    positions = np.asarray(found.getPositions(asNumpy=True).value_in_unit(NANOMETER), dtype=float)
    return topology, positions


def _refuse_repeated_names(path: Path, names: Counter[AtomKey]) -> None:
    """Names are what force fields and matching go by; OpenMM drops atoms whose name repeats."""
    for (residue, _, name), count in names.items():
        if count > 1:
            raise ValueError(
                f"{path}: atom names must be unique: {name} occurs {count} times in residue "
                f"{residue}; rename the atoms of that residue, such as {name}1, {name}2 and so on"
            )


def _names_in_pdb(path: Path) -> Counter[AtomKey]:
    """Count the first model's records; alternate locations of an atom are no repetition."""
    names: Counter[AtomKey] = Counter()
    for line in path.read_text().splitlines():
        if line.startswith("ENDMDL"):
            break
        if line.startswith(("ATOM  ", "HETATM")):
            residue = f"{line[21].strip()}:{line[17:20].strip()}{line[22:27].strip()}"
            names[residue.removeprefix(":"), line[16], line[12:16].strip()] += 1
    return names


def alternate_locations(path: str | Path) -> list[str]:
    """Return the residues of a PDB file's first model with atoms at several locations.

    OpenMM reads the first location of each atom in the file.
    """
    found: dict[str, None] = {}
    for label, location, _ in _names_in_pdb(Path(path)):
        if location.strip():
            found[label] = None
    return list(found)


def _names_in_topology(topology: app.Topology) -> Counter[AtomKey]:
    """Count the atoms; residues that are numbered alike are told apart by their index."""
    names: Counter[AtomKey] = Counter()
    for residue in topology.residues():
        label = residue_label(residue)
        for atom in residue.atoms():
            names[label, str(residue.index), atom.name] += 1
    return names
