"""``timewarp-openmm blocks``: which parts of a structure models of a library can move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from ..bounds import CUTOFF, EQUILIBRATION, HYDROGEN_MASS, PROPOSALS, Seed
from .options import ARGUMENT, Options, OutputPath

if TYPE_CHECKING:
    import networkx as nx
    import numpy as np
    from numpy.typing import NDArray
    from openmm import app

    from ..blocks.plan import BlockPlan
    from ..blocks.sidechains import Measured, SideChains, Unserved
    from ..library import Library
    from ..simulation.systems import MolecularSystem

#: Residues that a line names of those without a block for the same reason.
_MOST_NAMED = 6


class BlocksOptions(Options):
    """What ``timewarp-openmm blocks`` is told."""

    structure: Annotated[Path, ARGUMENT] = Field(description="PDB or mmCIF file.")
    out: OutputPath = Field(description="File of the blocks (YAML); a picture goes beside it.")
    library: str | None = Field(
        None, description="Folder of a library, or a bundled one; default: amber14."
    )
    force_field: list[str] | None = Field(
        None, description="OpenMM files; default: the library's. For water name its model, too."
    )
    system: Path | None = Field(None, description="A System XML instead.")
    residue: list[str] | None = Field(
        None, description="Only this one, such as A:VAL12; once per residue."
    )
    measure: Annotated[int, PROPOSALS] = Field(
        100, description="Proposals of each block to measure its acceptance; 0: not measured."
    )
    relax: Annotated[float, EQUILIBRATION] = Field(
        1.0, description="Dynamics after minimising, before measuring."
    )
    cutoff: Annotated[float, CUTOFF] | None = Field(
        None, description="Of the non-bonded energy; default: 1 in a box, none elsewhere."
    )
    hydrogen_mass: Annotated[float, HYDROGEN_MASS] | None = Field(
        None, description="Of hydrogens, repartitioned."
    )
    platform: str | None = Field(None, description="OpenMM platform.")
    seed: Seed | None = Field(None, description="Random number seed.")
    force: bool = Field(False, description="Replace the files that are there.")


@dataclass(frozen=True)
class _Structure:
    topology: app.Topology
    positions: NDArray[np.float64]
    graph: nx.Graph


def blocks(options: BlocksOptions) -> None:
    """Propose blocks for a structure: its side chains that a library's models can move."""
    from ..blocks.picture import draw_blocks, write_picture
    from ..blocks.plan import write_plan
    from ..blocks.sidechains import find_sidechains
    from ..files import refuse_existing
    from ..library import open_library
    from ..molecule.matching import PartFinder
    from ..molecule.structure_files import load_structure

    out, picture = options.out, options.out.with_suffix(".png")
    if picture == out:
        raise ValueError(f"{out} is the name of the picture; name a file of blocks, such as a.yaml")
    for path in (out, picture):
        refuse_existing(path, options.force)
    topology, positions = load_structure(options.structure)
    library = open_library(options.library)
    _tell_alternate_locations(options.structure)
    found = find_sidechains(topology, positions, options.residue, library)
    _refuse_repeated_labels(found)
    structure = _Structure(topology, positions, PartFinder(topology).graph)
    measured: list[Measured | None] = [None] * len(found.blocks)
    if options.measure > 0 and found.blocks:
        molecule = _make_system(options, library, found.unserved)
        structure, measured = _measure(options, library, structure, molecule, found)
    plan = _plan(options, library, structure, found, measured)
    write_plan(out, plan)
    by_index = {b.index: m for b, m in zip(found.blocks, measured, strict=True)}
    title = f"{options.structure.name}: side chains of {library.name}"
    figure = draw_blocks(topology, structure.positions, structure.graph, by_index, title)
    write_picture(figure, picture)
    _summarise(plan, out, picture)


def _tell_alternate_locations(path: Path) -> None:
    from ..molecule.structure_files import MMCIF_SUFFIXES, MOL_SUFFIXES, alternate_locations

    if path.suffix.lower() in (*MMCIF_SUFFIXES, *MOL_SUFFIXES):
        return
    residues = alternate_locations(path)
    if residues:
        typer.echo(
            f"timewarp-openmm: warning: {path} has atoms at several locations, the first of which "
            f"is taken: {_names(residues)}",
            err=True,
        )


def _names(labels: Sequence[str]) -> str:
    more = len(labels) - _MOST_NAMED
    return ", ".join(labels[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _refuse_repeated_labels(found: SideChains) -> None:
    """A file can name residues by their labels alone."""
    seen = set()
    for block in found.blocks:
        if block.residue in seen:
            raise ValueError(
                f"two residues of the structure are called {block.residue}; give its chains "
                "different identifiers"
            )
        seen.add(block.residue)


def _make_system(
    options: BlocksOptions, library: Library, unserved: Sequence[Unserved]
) -> MolecularSystem:
    from ..simulation.systems import DynamicsOptions, load_molecule

    dynamics = DynamicsOptions(options.cutoff, options.hydrogen_mass)
    force_field = options.force_field
    if options.system is None and not force_field:
        force_field = list(library.force_field)
    try:
        return load_molecule(options.structure, force_field, options.system, dynamics)
    except ValueError as error:
        # What is missing in the structure is why force fields refuse it.
        lacking = [f"  {entry.residue}: {entry.reason}" for entry in unserved if entry.incomplete]
        if not lacking:
            raise
        raise ValueError(
            "\n".join([f"{options.structure} is not complete:", *lacking, f"so that {error}"])
        ) from error


def _measure(
    options: BlocksOptions,
    library: Library,
    structure: _Structure,
    molecule: MolecularSystem,
    found: SideChains,
) -> tuple[_Structure, list[Measured | None]]:
    """Return the relaxed structure and what was measured in it."""
    # Loads the compiled plugin, so it comes after all that can be wrong without it.
    from ..blocks.measure import measure_blocks, relax
    from ..seeds import shifted_seed
    from ..simulation.langevin import default_platform
    from .progress import counting

    platform = options.platform or default_platform(molecule.system.getNumParticles())
    seed = shifted_seed(1 if options.seed is None else options.seed, 0)
    typer.echo(f"relaxing {options.structure} on the {platform} platform", err=True)
    positions = relax(
        molecule.system,
        molecule.positions,
        library.temperature,
        options.relax,
        platform,
        seed,
    )
    total = options.measure * len(found.blocks)
    with counting("measuring", total, "proposals") as report:
        measured = measure_blocks(
            found.blocks,
            structure.topology,
            structure.graph,
            molecule.system,
            positions,
            library.temperature,
            options.measure,
            platform,
            seed,
            report,
        )
    return _Structure(structure.topology, positions, structure.graph), list(measured)


def _plan(
    options: BlocksOptions,
    library: Library,
    structure: _Structure,
    found: SideChains,
    measured: Sequence[Measured | None],
) -> BlockPlan:
    from ..blocks.exposure import exposed_shares
    from ..blocks.plan import (
        BlockPlan,
        NotServed,
        PlannedBlock,
        describe_library,
        portable,
        proposed_weight,
    )

    residues = list(structure.topology.residues())
    owners = [residues[block.index] for block in found.blocks]
    shares = exposed_shares(structure.topology, structure.positions, owners, structure.graph)
    planned = [
        PlannedBlock(
            residue=block.residue,
            weight=proposed_weight(share),
            exposed=round(share, 2),
            acceptance=None if entry is None else round(entry.acceptance, 4),
            proposals=None if entry is None else entry.tried,
            rotamer_changes=None if entry is None else entry.rotamer_changes,
        )
        for block, share, entry in zip(found.blocks, shares, measured, strict=True)
    ]
    reasons: dict[str, list[str]] = {}
    for entry in found.unserved:
        reasons.setdefault(entry.reason, []).append(entry.residue)
    folder = options.out.parent
    return BlockPlan(
        format=1,
        structure=portable(options.structure, folder),
        library=describe_library(library, folder),
        temperature=library.temperature,
        force_field=_force_field(options, library),
        blocks=planned,
        not_served=[NotServed(reason=r, residues=labels) for r, labels in reasons.items()],
    )


def _force_field(options: BlocksOptions, library: Library) -> list[str] | None:
    if options.system is not None:
        return None
    return options.force_field or list(library.force_field)


def _summarise(plan: BlockPlan, out: Path, picture: Path) -> None:
    served = len(plan.blocks)
    others = sum(len(entry.residues) for entry in plan.not_served)
    typer.echo(f"{out}: {served} side chains as blocks, {others} residues without; {picture}")
    rates = sorted(b.acceptance for b in plan.blocks if b.acceptance is not None)
    if rates:
        typer.echo(
            f"acceptance: median {rates[len(rates) // 2]:.1%}, from {rates[0]:.1%} to "
            f"{rates[-1]:.1%}; rotamers changed "
            f"{sum(b.rotamer_changes or 0 for b in plan.blocks)} times"
        )
    never = [block.residue for block in plan.blocks if block.acceptance == 0]
    if never:
        typer.echo(f"never moved: {_names(never)}")
    for entry in plan.not_served:
        typer.echo(f"not served: {_names(entry.residues)}: {entry.reason}")
