"""Flows of capped residues with weights like those of trained ones, and libraries of them."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from flow_helpers import perturb

from timewarp_openmm.files import sha256_of
from timewarp_openmm.flows.chained.config import ChainedFlowConfig
from timewarp_openmm.flows.chained.flow import ChainedFlow
from timewarp_openmm.flows.residues.residue import (
    ResidueFlow,
    read_residue_flow,
    write_residue_flow,
)
from timewarp_openmm.molecule.capped_residues import capped_residue_parts
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.simulation.capped_peptides import capped_peptide
from timewarp_openmm.simulation.systems import MolecularSystem

FORCE_FIELD = ("amber14/protein.ff14SB.xml", "implicit/obc2.xml")
SMALL = {
    "rotatable_layers": 2,
    "rotatable_hidden": 16,
    "stiff_layers": 2,
    "stiff_hidden": 16,
    "stiff_transform": "spline",
}
#: Residues without a model in these libraries, and why.
NOT_MOVED = {"CYX": "it is two residues", "PRO": "it is a ring"}


@lru_cache
def capped(*residues: str) -> MolecularSystem:
    """Return a capped peptide, made once."""
    return capped_peptide(residues, FORCE_FIELD)


@lru_cache
def chain_of(residue: str) -> tuple[ChainedFlow, ChainedFlowConfig]:
    """Return the flow of a capped residue and its configuration."""
    positions = torch.tensor(capped(residue).positions)
    generator = torch.Generator().manual_seed(sum(map(ord, residue)))
    shaken = torch.randn((300, *positions.shape), generator=generator, dtype=torch.float64)
    return chain_like(residue, positions + 0.003 * shaken)


def chain_like(
    residue: str, frames: torch.Tensor, weights: float = 0.02
) -> tuple[ChainedFlow, ChainedFlowConfig]:
    """Return a flow of a capped residue whose coordinates vary as in frames [F, N, 3] / nm, and
    whose networks have random weights of this size."""
    peptide = capped(residue)
    molecule = molecule_from_topology(peptide.topology, peptide.system)
    later = capped_residue_parts(molecule).later
    config = ChainedFlowConfig.model_validate({**SMALL, "later_parts": later})
    torch.manual_seed(0)
    flow = ChainedFlow(config, molecule)
    flow.fit_normalisation(frames)
    perturb(flow, weights)
    return flow.requires_grad_(False), config


def write_residue(folder: Path, residue: str) -> Path:
    """Write the flow of a capped residue as a library has it."""
    flow, config = chain_of(residue)
    peptide = capped(residue)
    molecule = molecule_from_topology(peptide.topology, peptide.system)
    path = folder / f"{residue}.pt"
    write_residue_flow(path, flow, config, molecule, peptide.positions)
    return path


def residue_flow(folder: Path, residue: str) -> ResidueFlow:
    """Return the flow of a capped residue, read from a file."""
    return read_residue_flow(write_residue(folder, residue))


def write_residue_library(folder: Path, *residues: str, **changes: Any) -> Path:
    """Write a library of whole residues.

    Parameters
    ----------
    **changes
        Entries of ``library.json`` instead of those that it would have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for residue in residues:
        path = write_residue(folder, residue)
        entry = {"residue": residue, "kind": "residue", "file": path.name}
        figures = {"acceptance": 0.5, "error": 0.1, "lowest": 0.2, "sites": 8}
        entries.append({**entry, **figures, "sha256": sha256_of(path)})
    content: dict[str, Any] = {
        "format": 1,
        "name": "residues",
        "force_field": list(FORCE_FIELD),
        "temperature": 300.0,
        "made_with": {"kind": "residue"},
        "entries": entries,
        "not_moved": NOT_MOVED,
    }
    (folder / "library.json").write_text(json.dumps({**content, **changes}))
    return folder
