"""``timewarp-openmm peptide``: a peptide's model from a library of residues, without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from .options import ARGUMENT, Options, OutputPath

if TYPE_CHECKING:
    from ..blocks.peptide_chains import Chain


class PeptideOptions(Options):
    """What ``timewarp-openmm peptide`` is told."""

    structure: Annotated[Path, ARGUMENT] = Field(
        description="PDB or mmCIF file of a peptide with hydrogens; its ends are charged or have "
        "caps (ACE, NME)."
    )
    library: Path = Field(description="A library of residues (library build --kind residues).")
    out: OutputPath = Field(description="The model file to write (.pt).")
    force: bool = Field(False, description="Replace the model that is there.")


def peptide(options: PeptideOptions) -> None:
    """Make the model of a peptide from a library of residues, without any training.

    Proposals are exact whatever the residues have learned; how many are accepted, a chain tells
    (sample).
    """
    from ..blocks.peptide_models import describe_peptide, write_peptide_model
    from ..blocks.peptides import PeptideFinder
    from ..files import refuse_existing, write_bytes_atomically
    from ..molecule.structure_files import load_structure

    refuse_existing(options.out, options.force)
    topology, positions = load_structure(options.structure)
    finder = PeptideFinder(topology, positions, options.library)
    made = finder.make(_whole_peptide(finder.chains))
    write_peptide_model(made, finder.library, options.out, options.force)
    card = describe_peptide(options.out.stem, made, finder.library)
    write_bytes_atomically(options.out.with_suffix(".md"), card.encode())
    typer.echo(
        f"{options.out}: {len(made.moved)} atoms, {' '.join(made.entries)} of "
        f"{finder.library.name}; go on with\n"
        f"timewarp-openmm sample --model {options.out} --pdb {options.structure} --steps 10000 "
        f"--out {options.out.with_suffix('.dcd')}"
    )


def _whole_peptide(chains: list[Chain]) -> Chain:
    """Return the one chain with a beginning and an end.

    Raises
    ------
    ValueError
        If there is none or more than one.
    """
    from ..molecule.selection import residue_label

    if not chains:
        raise ValueError("the structure holds no amino acids")
    whole = [chain for chain in chains if chain.has_beginning and chain.has_end]
    if len(whole) == 1:
        return whole[0]
    if len(whole) > 1:
        ends = ", ".join(residue_label(chain.residues[0]) for chain in whole)
        raise ValueError(
            f"the structure holds {len(whole)} peptides (they begin at {ends}); give one of them "
            "alone"
        )
    chain = chains[0]
    if chain.is_ring:
        first = residue_label(chain.residues[0])
        raise ValueError(
            f"{first} is in a ring of residues, and peptides are made from one end to the other"
        )
    missing = [
        f"{cap} {where} {residue_label(residue)}"
        for cap, where, residue, is_there in (
            ("NH3+ or an acetyl group (ACE)", "before", chain.residues[0], chain.has_beginning),
            ("COO- or an N-methyl group (NME)", "after", chain.residues[-1], chain.has_end),
        )
        if not is_there
    ]
    raise ValueError(
        f"peptides are made with charged ends or caps, and the structure lacks "
        f"{' and '.join(missing)}; add what is missing (PDBFixer), or fit a model of the molecule "
        "(fit)"
    )
