"""The blocks of a plan in a structure: its own, or any with residues of these labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..files import sha256_of
from ..library import SIDE_CHAIN, Library, open_library
from ..molecule.matching import PartFinder
from ..molecule.selection import select_span
from .models import GivenModel, find_places, open_model, place_blocks
from .plan import BlockPlan, PlannedBlock
from .sidechains import Block, Cut, find_sidechains

if TYPE_CHECKING:
    from openmm import app

#: Places that a message names.
_MOST_NAMED = 4


def planned_library(plan: BlockPlan, folder: Path) -> Library | None:
    """Return the library of a plan in `folder`, if it has one.

    Raises
    ------
    FileNotFoundError, ValueError
        If it cannot be read, or is another one now.
    """
    named = plan.library
    if named is None:
        return None
    library = open_library(named.name if named.folder is None else folder / named.folder)
    if library.digest != named.sha256:
        raise ValueError(
            f"the library {named.name} in {library.folder} is not the one that the blocks were "
            "made with; make them again with timewarp-openmm blocks, or restore the library"
        )
    return library


def planned_models(plan: BlockPlan, folder: Path) -> dict[str, GivenModel]:
    """Return the models of the blocks of a plan in `folder`, by the plan's names of their files.

    Raises
    ------
    FileNotFoundError, ValueError
        If one cannot be read, or is another one now.
    """
    used = {block.model for block in plan.blocks}
    found = {}
    for named in plan.models:
        if named.file not in used:
            continue
        path = folder / named.file
        if not path.is_file():
            raise FileNotFoundError(
                f"the blocks' model {path} is missing; restore it, or make the blocks again with "
                "timewarp-openmm blocks"
            )
        if sha256_of(path) != named.sha256:
            raise ValueError(
                f"the model {path} is not the one that the blocks were made with (its SHA-256 is "
                "another one); make them again with timewarp-openmm blocks, or restore the file"
            )
        found[named.file] = open_model(path)
    return found


def planned_blocks(
    plan: BlockPlan,
    library: Library | None,
    models: Mapping[str, GivenModel],
    topology: app.Topology,
    positions: NDArray[np.float64],
) -> list[tuple[Block, float]]:
    """Return the blocks of a plan with their weights, in the plan's order.

    The structure is any that has residues of these labels, such as the plan's own in water.

    Parameters
    ----------
    library : Library, optional
        As `planned_library` returns it.
    models : mapping of str to GivenModel
        As `planned_models` returns them.

    Raises
    ------
    ValueError
        If a residue is not there, or its model does not fit there; naming all such.
    """
    chains = [block.residue for block in plan.blocks if block.kind == SIDE_CHAIN]
    found, problems = dict[tuple[str, str | None, str | None], Block](), []
    if library is not None and chains:
        sides = find_sidechains(topology, positions, chains, library)
        found |= {(block.residue, None, None): block for block in sides.blocks}
        problems += [f"  {entry.residue}: {entry.reason}" for entry in sides.unserved]
    finder = PartFinder(topology, positions)
    for name, model in models.items():
        lines = [block for block in plan.blocks if block.model == name]
        spans, missing = _spans(lines, topology)
        problems += missing
        among = {a.index for residues in spans.values() for r in residues for a in r.atoms()}
        there = place_blocks(model, find_places(model, finder, among), finder, topology)
        for line in lines:
            if line.residue not in spans:
                continue
            try:
                found[line.residue, name, line.atom] = _place_of(line, there, topology)
            except ValueError as error:
                problems.append(f"  {line.name}: {error}")
    if problems:
        raise ValueError("\n".join(["some residues cannot be blocks here:", *problems]))
    return [(found[b.residue, b.model, b.atom], b.weight) for b in plan.blocks]


def _spans(
    lines: Sequence[PlannedBlock], topology: app.Topology
) -> tuple[dict[str, list[app.topology.Residue]], list[str]]:
    """Return the residues that lines of a plan name, and which are not there."""
    spans, problems = {}, []
    for line in lines:
        try:
            spans[line.residue] = select_span(topology, line.residue)
        except ValueError as error:
            problems.append(f"  {line.name}: {error}")
    return spans, problems


def _place_of(planned: PlannedBlock, places: Cut, topology: app.Topology) -> Block:
    """Return the block of the one place that a line of a plan is about."""
    here = [block for block in places.blocks if block.residue == planned.residue]
    if not here:
        mirrored = [e.reason for e in places.unserved if e.residue == planned.residue]
        raise ValueError(mirrored[0] if mirrored else f"{planned.model} does not fit there")
    names = [atom.name for atom in topology.atoms()]
    chosen = here
    if planned.atom is not None:
        chosen = [block for block in here if planned.atom in {names[i] for i in block.moved}]
        if not chosen:
            raise ValueError(f"{planned.model} moves no atom {planned.atom} there")
    if len(chosen) > 1:
        told = telling_atoms(here, topology)
        raise ValueError(
            f"{planned.model} fits {len(chosen)} places there; name an atom that the one moves, "
            f"such as {' or '.join(f'atom: {name}' for name in told[:_MOST_NAMED])}"
        )
    return chosen[0]


def tell_apart(blocks: Sequence[Block], topology: app.Topology) -> list[str | None]:
    """Return of each block the name of an atom that tells it from others of its model with its
    label, or None where there are no others.

    Raises
    ------
    ValueError
        If no name tells them apart.
    """
    places: dict[tuple[str, str], list[int]] = {}
    for i, block in enumerate(blocks):
        places.setdefault((block.residue, block.model), []).append(i)
    found: list[str | None] = [None] * len(blocks)
    for same in places.values():
        if len(same) > 1:
            names = telling_atoms([blocks[i] for i in same], topology)
            for i, name in zip(same, names, strict=True):
                found[i] = name
    return found


def telling_atoms(places: Sequence[Block], topology: app.Topology) -> list[str]:
    """Return of each of several places of a model the name of an atom that it alone moves.

    Raises
    ------
    ValueError
        If there is none such of a place.
    """
    names = [atom.name for atom in topology.atoms()]
    moved = [[names[i] for i in block.moved] for block in places]
    times = Counter(name for of_one in moved for name in set(of_one))
    told = [next((name for name in of_one if times[name] == 1), "") for of_one in moved]
    if "" in told:
        raise ValueError(
            f"several parts of the structure are called {places[0].residue}, with the same names "
            "of atoms; give its chains different identifiers"
        )
    return told
