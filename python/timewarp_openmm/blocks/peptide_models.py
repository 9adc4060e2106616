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
