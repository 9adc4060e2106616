"""``timewarp-openmm ligand``: from a SMILES string or a file to a structure and a System."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import Field

from ..bounds import Seed
from .options import ARGUMENT, Options, OutputPath

if TYPE_CHECKING:
    from rdkit import Chem


class LigandOptions(Options):
    """What ``timewarp-openmm ligand`` is told."""

    source: Annotated[str, ARGUMENT] = Field(
        description="A SMILES string, or an SDF, MOL, MOL2 or PDB file with hydrogens."
    )
    out: OutputPath = Field(description="What to call the files: OUT.sdf and OUT.system.xml.")
    template: str | None = Field(
        None, description="SMILES string with the bond orders of a PDB file."
    )
    force_field: str = Field(
        "gaff-2.2.20", description="A version of GAFF or of OpenFF (openff-2.2.1)."
    )
    charges: Literal["nagl", "am1bcc"] = Field(
        "nagl", description="By OpenFF's network, or computed by AmberTools (a minute and more)."
    )
    solvent: Literal["none", "obc2"] = Field("obc2", description="Vacuum, or OBC2.")
    seed: Seed = Field(1, description="Of the conformer of a SMILES string.")
    force: bool = Field(False, description="Replace the files that are there.")


def ligand(options: LigandOptions) -> None:
    """Parametrise a small molecule: a structure and a System for fit, sample and ensemble."""
    from ..files import refuse_existing

    structure, system_file = ligand_files(options.out)
    for path in (structure, system_file):
        refuse_existing(path, options.force)
    smiles, atoms = prepare(options)
    typer.echo(
        f"{smiles}: {atoms} atoms in {structure}, {options.force_field} with {options.charges} "
        f"charges in {system_file}; go on with\n"
        f"timewarp-openmm fit {structure} --system {system_file} --out {options.out}.pt"
    )


def prepare(options: LigandOptions) -> tuple[str, int]:
    """Write a ligand's files; return its SMILES string and how many atoms it has."""
    from ..molecule.ligand_input import canonical_smiles, read_ligand
    from ..simulation.small_molecules import parametrise

    structure, system_file = ligand_files(options.out)
    mol = read_ligand(options.source, options.template, options.seed)
    system = parametrise(mol, options.force_field, options.charges, options.solvent)
    structure.parent.mkdir(parents=True, exist_ok=True)
    _write_structure(mol, structure, options)
    _write_system(system, system_file)
    return canonical_smiles(mol), mol.GetNumAtoms()


def ligand_files(out: Path) -> tuple[Path, Path]:
    """Return the files of a ligand: structure and System.

    Examples
    --------
    >>> [str(path) for path in ligand_files(Path("drugs/a.b"))]
    ['drugs/a.b.sdf', 'drugs/a.b.system.xml']
    """
    return out.with_name(f"{out.name}.sdf"), out.with_name(f"{out.name}.system.xml")


def _write_structure(mol: Chem.Mol, path: Path, options: LigandOptions) -> None:
    from rdkit import Chem

    from ..files import write_bytes_atomically
    from ..molecule.ligand_input import canonical_smiles

    named = Chem.Mol(mol)
    named.SetProp("_Name", canonical_smiles(mol))
    text = Chem.MolToMolBlock(named)
    for name in ("force_field", "charges", "solvent"):
        text += f">  <{name}>\n{getattr(options, name)}\n\n"
    write_bytes_atomically(path, f"{text}$$$$\n".encode())


def _write_system(system: object, path: Path) -> None:
    import openmm

    from ..files import write_bytes_atomically

    write_bytes_atomically(path, openmm.XmlSerializer.serialize(system).encode())
