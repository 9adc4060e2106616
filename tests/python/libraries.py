"""A library of side chains for tests, and a peptide to use it in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from timewarp_openmm.contract import METADATA_FILE, read_metadata
from timewarp_openmm.files import sha256_of
from timewarp_openmm.flows.fragment import OfFragment
from timewarp_openmm.molecule.graph import Molecule

MODEL = Path(__file__).parents[1] / "data" / "valine-sidechain-small.pt"
#: Capped valine, serine, valine, cysteine, valine in a row, residues 1 to 7 of chain A.
PEPTIDE = MODEL.parent / "valine-peptide.pdb"
NOT_MOVED = {
    "ALA": "its methyl group has one rotamer",
    "CYX": "its disulfide holds it",
    "GLY": "it has no side chain",
    "PRO": "its ring closes over the backbone",
}


def write_library(folder: Path, **changes: Any) -> Path:
    """Write a library of valine's side chain alone, which fits into any peptide.

    Parameters
    ----------
    **changes
        Entries of ``library.json`` instead of those that it would have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_valine(folder / "VAL.pt")
    entry = {
        "residue": "VAL",
        "kind": "side chain",
        "file": "VAL.pt",
        "sha256": sha256_of(folder / "VAL.pt"),
        "acceptance": 0.4,
        "error": 0.02,
        "lowest": 0.2,
        "sites": 16,
    }
    content: dict[str, Any] = {
        "format": 1,
        "name": "small",
        "force_field": ["amber99sbildn.xml", "amber99_obc.xml"],
        "temperature": 300.0,
        "made_with": {"timewarp_openmm": "0.1.0"},
        "entries": [entry],
        "not_moved": NOT_MOVED,
    }
    (folder / "library.json").write_text(json.dumps({**content, **changes}))
    return folder


def write_valine(path: Path) -> None:
    """Write the small model of valine's side chain without the hydrogens of its caps."""
    metadata = read_metadata(MODEL)
    molecule = metadata.molecule
    assert molecule is not None
    assert metadata.reference_positions is not None
    kept = [i for i in range(molecule.num_atoms) if not _is_of_cap(molecule, i)]
    place = {atom: i for i, atom in enumerate(kept)}
    positions = torch.tensor(metadata.reference_positions, dtype=torch.float64)
    module = torch.jit.script(OfFragment(torch.jit.load(str(MODEL)), kept, positions).eval())
    part = replace(
        metadata,
        molecule=molecule.part(kept),
        moved=[place[atom] for atom in metadata.moved_atoms()],
        stretches=[[place[a], place[b]] for a, b in metadata.stretches or []],
        reference_positions=[metadata.reference_positions[atom] for atom in kept],
    )
    torch.jit.save(module, str(path), _extra_files={METADATA_FILE: part.to_json()})


def _is_of_cap(molecule: Molecule, atom: int) -> bool:
    name = molecule.atom_names[atom]
    return molecule.residue_names[atom] != "VAL" and (name.startswith("H") or name == "O")
