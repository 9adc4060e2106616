"""Model files of peptides that are joined from a library's residues, without any training."""

from __future__ import annotations

import math
from pathlib import Path

from .. import __version__
from ..contract import ModelMetadata
from ..flows.export import export_model
from ..library import RESIDUE, Library
from .peptides import Peptide


def write_peptide_model(
    peptide: Peptide, library: Library, out: str | Path, force: bool = False
) -> None:
    """Write the model of a peptide, or of the end of a chain.

    Raises
    ------
    FileExistsError, FileNotFoundError, ContractError
        As `export_model`.
    """
    flow = peptide.flow
    acceptance = {entry.residue: entry.acceptance for entry in library.of_kind(RESIDUE)}
    metadata = ModelMetadata(
        molecule=peptide.molecule,
        noise_size=flow.noise_size,
        moved=flow.moved,
        stretches=[list(pair) for pair in flow.stretches or ()],
        torsion_noise=flow.torsion_noise,
        auxiliary_velocities=flow.auxiliary_velocities,
        precision=flow.precision,
        temperature=library.temperature,
        coordinates="peptide",
        lag_times=[math.inf],
        lag_weights=[1.0],
        reference_positions=(peptide.positions - peptide.positions.mean(axis=0)).tolist(),
        force_field=list(library.force_field),
        provenance={
            "peptide": {
                "residues": list(peptide.residues),
                "entries": list(peptide.entries),
                "acceptance_alone": {name: acceptance[name] for name in peptide.entries},
                "library": library.name,
                "library_sha256": library.digest,
            }
        },
        package_version=__version__,
    )
    export_model(flow, metadata, out, overwrite=force)


def describe_peptide(name: str, peptide: Peptide, library: Library) -> str:
    """Return the model's card in Markdown: what it is made of."""
    acceptance = {entry.residue: entry.acceptance for entry in library.of_kind(RESIDUE)}
    residues = [
        f"- {label}: {entry}, of which {acceptance[entry]:.1%} of proposals are accepted between "
        "caps"
        for label, entry in zip(peptide.residues, peptide.entries, strict=True)
    ]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"Independent draws for {len(peptide.moved)} atoms at {library.temperature:g} K, "
            f"{', '.join(library.force_field)}: joined from the residues of the library "
            f"{library.name} (SHA-256 {library.digest}), without training and without any data of "
            "this peptide.",
            "",
            *residues,
            f"- timewarp-openmm {__version__}",
            "",
        ]
    )
