"""``timewarp-openmm blocks``: which parts of a structure models can move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from ..bounds import (
    CUTOFF,
    END_OF_CHAIN,
    EQUILIBRATION,
    HYDROGEN_MASS,
    PROPOSALS,
    WHOLE_PEPTIDE,
    Seed,
    Temperature,
)
from .options import ARGUMENT, Options, OutputPath, option_name

if TYPE_CHECKING:
    import networkx as nx
    import numpy as np
    from numpy.typing import NDArray
    from openmm import app

    from ..blocks.cutting import Sources
    from ..blocks.plan import BlockPlan, PlannedBlock
    from ..blocks.sidechains import Block, Cut, Measured, Unserved
    from ..simulation.systems import MolecularSystem

#: Residues that a line names of those without a block for the same reason.
_MOST_NAMED = 6


class BlocksOptions(Options):
    """What ``timewarp-openmm blocks`` is told."""

    structure: Annotated[Path, ARGUMENT] = Field(description="PDB or mmCIF file.")
    out: OutputPath = Field(description="File of the blocks (YAML); a picture goes beside it.")
    library: str | None = Field(
        None,
        description="Folder of a library of side chains, or a bundled one; default: amber14.",
    )
    model: list[Path] | None = Field(
        None,
        description="A model file, of a whole molecule (fit) or of a part (fit --moved): a block "
        "for each copy of the molecule, or each place of the part; once per file.",
    )
    peptides: str | None = Field(
        None,
        description="Folder of a library of whole residues (library build --kind residues): blocks "
        "of short peptides and ends of chains, whose models go into a folder beside the file.",
    )
    longest: Annotated[int, WHOLE_PEPTIDE] | None = Field(
        None,
        description="With --peptides, residues of peptides that are moved whole (default 4).",
    )
    end: Annotated[int, END_OF_CHAIN] | None = Field(
        None,
        description="With --peptides, residues that are moved at the end of longer chains "
        "(default 1), of which charged beginnings are moved, too.",
    )
    temperature: Temperature | None = Field(
        None, description="Of the samples; default: the models'."
    )
    force_field: list[str] | None = Field(
        None,
        description="OpenMM files; default: the library's, or the model's. For water name its "
        "model, too.",
    )
    system: Path | None = Field(None, description="A System XML instead.")
    residue: list[str] | None = Field(
        None,
        description="Only blocks that move atoms of this one, such as A:VAL12; once per residue.",
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


@dataclass(frozen=True)
class _Proposed:
    """What a structure is cut into, and with what.

    Attributes
    ----------
    cut : Cut
    atoms : list of str or None
        Of each block, what tells it from others of its model in the same residues.
    sources : Sources
    temperature : float
        K.
    molecule : MolecularSystem or None
        If something is to be measured.
    """

    cut: Cut
    atoms: list[str | None]
    sources: Sources
    temperature: float
    molecule: MolecularSystem | None


def blocks(options: BlocksOptions) -> None:
    """Propose blocks for a structure: what models can move of it, and what they cannot."""
    from ..blocks.picture import by_residue, draw_blocks, write_picture
    from ..blocks.plan import write_plan
    from ..files import refuse_existing
    from ..molecule.matching import PartFinder
    from ..molecule.structure_files import load_structure

    out, picture = options.out, options.out.with_suffix(".png")
    if picture == out:
        raise ValueError(f"{out} is the name of the picture; name a file of blocks, such as a.yaml")
    for path in (out, picture):
        refuse_existing(path, options.force)
    topology, positions = load_structure(options.structure)
    for name in ("longest", "end"):
        if options.peptides is None and getattr(options, name) is not None:
            raise ValueError(f"{option_name(name)} goes with --peptides")
    structure = _Structure(topology, positions, PartFinder(topology).graph)
    proposed = _propose(options, structure)
    measured: list[Measured | None] = [None] * len(proposed.cut.blocks)
    if proposed.molecule is not None and proposed.cut.blocks:
        structure, measured = _measure(options, structure, proposed, proposed.molecule)
    plan = _plan(options, structure, proposed, measured)
    write_plan(out, plan)
    shown = by_residue(topology, proposed.cut.blocks, measured)
    title = f"Blocks of {options.structure.name}"
    figure = draw_blocks(topology, structure.positions, structure.graph, shown, title)
    write_picture(figure, picture)
    _summarise(plan, out, picture)


def _propose(options: BlocksOptions, structure: _Structure) -> _Proposed:
    from ..blocks.cutting import (
        common_temperature,
        find_peptides_beside,
        joined,
        open_sources,
        without_library,
    )
    from ..blocks.models import find_given
    from ..blocks.planned import tell_apart
    from ..blocks.sidechains import Cut, find_sidechains
    from ..molecule.selection import select_residues

    topology, positions = structure.topology, structure.positions
    models, named = options.model or (), options.residue
    sources = open_sources(models, options.library, options.peptides, topology, structure.graph)
    _tell_alternate_locations(options.structure)
    wanted = None if named is None else select_residues(topology, named)
    given = find_given(sources.models, topology, positions, wanted)
    if sources.library is None:
        sides = without_library(topology, wanted)
    else:
        sides = find_sidechains(topology, positions, wanted, sources.library)
    temperature = options.temperature or common_temperature(sources, sides)
    molecule = None
    if options.measure > 0 and (given.blocks or sides.blocks or sources.peptides is not None):
        # Before models of peptides are written, because it says what is wrong with the structure.
        molecule = _make_system(options, sources, sides.unserved)
    peptides = Cut((), ())
    if sources.peptides is not None:
        peptides = find_peptides_beside(
            given,
            sources.peptides,
            options.out.with_suffix(".models"),
            4 if options.longest is None else options.longest,
            options.end or 1,
            topology,
            positions,
            wanted,
        )
    cut = joined(given, peptides, sides, topology)
    return _Proposed(cut, tell_apart(cut.blocks, topology), sources, temperature, molecule)


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


def _make_system(
    options: BlocksOptions, sources: Sources, unserved: Sequence[Unserved]
) -> MolecularSystem:
    from ..simulation.systems import DynamicsOptions, load_molecule

    dynamics = DynamicsOptions(options.cutoff, options.hydrogen_mass)
    force_field = options.force_field or _force_field(options, sources)
    if force_field is None and options.system is None:
        raise ValueError(
            f"the model {sources.models[0].path} does not say which force field it is for; name "
            "one with --force-field, or give a --system"
        )
    try:
        # A System with force field files beside it is refused there.
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
    structure: _Structure,
    proposed: _Proposed,
    molecule: MolecularSystem,
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
        proposed.temperature,
        options.relax,
        platform,
        seed,
    )
    total = options.measure * len(proposed.cut.blocks)
    with counting("measuring", total, "proposals") as report:
        measured = measure_blocks(
            proposed.cut.blocks,
            structure.topology,
            structure.graph,
            molecule.system,
            positions,
            proposed.temperature,
            options.measure,
            platform,
            seed,
            report,
        )
    return _Structure(structure.topology, positions, structure.graph), list(measured)


def _plan(
    options: BlocksOptions,
    structure: _Structure,
    proposed: _Proposed,
    measured: Sequence[Measured | None],
) -> BlockPlan:
    from ..blocks.plan import BlockPlan, NotServed, describe_library, describe_model, portable
    from ..library import SIDE_CHAIN

    blocks, library = proposed.cut.blocks, proposed.sources.library
    folder = options.out.parent
    reasons: dict[str, list[str]] = {}
    for entry in proposed.cut.unserved:
        reasons.setdefault(entry.reason, []).append(entry.residue)
    files = dict.fromkeys(b.model for b in blocks if b.kind != SIDE_CHAIN)
    has_side_chains = any(block.kind == SIDE_CHAIN for block in blocks)
    return BlockPlan(
        format=1,
        structure=portable(options.structure, folder),
        library=describe_library(library, folder) if library and has_side_chains else None,
        temperature=proposed.temperature,
        force_field=_force_field(options, proposed.sources),
        models=[describe_model(Path(file), folder) for file in files],
        blocks=_planned(proposed, structure, measured, folder),
        not_served=[NotServed(reason=r, residues=labels) for r, labels in reasons.items()],
    )


def _planned(
    proposed: _Proposed,
    structure: _Structure,
    measured: Sequence[Measured | None],
    folder: Path,
) -> list[PlannedBlock]:
    from ..blocks.exposure import exposed_shares
    from ..blocks.plan import PlannedBlock, portable, proposed_weight
    from ..blocks.sidechains import block_torsions
    from ..library import SIDE_CHAIN

    blocks, topology, graph = proposed.cut.blocks, structure.topology, structure.graph
    parts = _parts(blocks, topology, graph)
    shares = exposed_shares(topology, structure.positions, parts)
    torsions = block_torsions(blocks, topology, graph)
    planned = []
    for i, (block, share, entry) in enumerate(zip(blocks, shares, measured, strict=True)):
        is_side_chain = block.kind == SIDE_CHAIN
        turns = entry is not None and (is_side_chain or torsions[i])
        planned.append(
            PlannedBlock.model_validate(
                {
                    "residue": block.residue,
                    "weight": proposed_weight(share),
                    "kind": block.kind,
                    "model": None if is_side_chain else portable(Path(block.model), folder),
                    "atom": proposed.atoms[i],
                    "exposed": None if share is None else round(share, 2),
                    "acceptance": None if entry is None else round(entry.acceptance, 4),
                    "proposals": None if entry is None else entry.tried,
                    "rotamer_changes": entry.rotamer_changes if entry and turns else None,
                }
            )
        )
    return planned


def _parts(
    blocks: Sequence[Block], topology: app.Topology, graph: nx.Graph
) -> list[tuple[Set[int], Set[int]]]:
    """Return of each block the atoms whose exposure counts, and those that are always around."""
    from ..blocks.exposure import side_chain_parts
    from ..library import SIDE_CHAIN

    residues = list(topology.residues())
    parts = []
    for block in blocks:
        if block.kind == SIDE_CHAIN:
            parts += side_chain_parts([residues[block.index]], graph)
        else:
            parts.append((frozenset(block.moved), frozenset(block.particles)))
    return parts


def _force_field(options: BlocksOptions, sources: Sources) -> list[str] | None:
    from ..potentials.registry import stated_force_field

    if options.system is not None:
        return None
    return options.force_field or stated_force_field(sources.force_field) or None


def _summarise(plan: BlockPlan, out: Path, picture: Path) -> None:
    others = sum(len(entry.residues) for entry in plan.not_served)
    residues = "residue" if others == 1 else "residues"
    typer.echo(f"{out}: {_counted(plan)} as blocks, {others} {residues} without; {picture}")
    rates = sorted(b.acceptance for b in plan.blocks if b.acceptance is not None)
    if rates:
        typer.echo(
            f"acceptance: median {rates[len(rates) // 2]:.1%}, from {rates[0]:.1%} to "
            f"{rates[-1]:.1%}; rotamers changed "
            f"{sum(b.rotamer_changes or 0 for b in plan.blocks)} times"
        )
    never = [block.name for block in plan.blocks if block.acceptance == 0]
    if never:
        typer.echo(f"never moved: {_names(never)}")
    for entry in plan.not_served:
        typer.echo(f"not served: {_names(entry.residues)}: {entry.reason}")


def _counted(plan: BlockPlan) -> str:
    """Return how many blocks there are of each kind, in words."""
    from ..blocks.kinds import PLURALS
    from ..library import SIDE_CHAIN

    counts = Counter(block.kind for block in plan.blocks)
    found = [
        f"{counts[kind]} {kind if counts[kind] == 1 else plural}"
        for kind, plural in PLURALS.items()
        if kind in counts or (kind == SIDE_CHAIN and not counts)
    ]
    *most, last = found
    return f"{', '.join(most)} and {last}" if most else last
