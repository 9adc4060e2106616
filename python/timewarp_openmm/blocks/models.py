"""Where a model file fits in a structure: each copy of its molecule, or each place of its part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ..contract import ModelMetadata, read_metadata
from ..molecule.isomorphism import StereoisomerError
from ..molecule.matching import PartFinder
from ..molecule.selection import span_label
from .kinds import MOLECULE, PART
from .sidechains import Block, Cut, Unserved

if TYPE_CHECKING:
    from openmm import app

#: Copies of a molecule that are a liquid: were each of more than these a block, a try would seldom
#: be of any one of them.
MOST_COPIES = 100
#: Places that a message names.
_MOST_NAMED = 4
_WATER = ["H", "H", "O"]


@dataclass(frozen=True)
class GivenModel:
    """A model file that somebody names.

    Attributes
    ----------
    path : str
    metadata : ModelMetadata
        Of one molecule, or of a part of one.
    """

    path: str
    metadata: ModelMetadata

    @property
    def kind(self) -> str:
        return PART if self.metadata.context_atoms() else MOLECULE


def open_model(path: str | PathLike[str]) -> GivenModel:
    """Read what a model says of itself.

    Raises
    ------
    FileNotFoundError, ContractError
        As `read_metadata`.
    ValueError
        If it is not of one molecule, so that no structure says which of its atoms it moves; or is
        one of water.
    """
    metadata = read_metadata(Path(path))
    molecule = metadata.molecule
    if molecule is None or not nx.is_connected(molecule.graph()):
        what = "any particles" if molecule is None else "several molecules"
        raise ValueError(
            f"{path} is a model of {what}, so that a structure does not say what it moves; add it "
            "in Python (addBlock with particles=)"
        )
    if sorted(molecule.elements) == _WATER:
        raise ValueError(
            f"{path} is a model of water, which needs none: it is rigid in the Systems that blocks "
            "are for, and dynamics move it; leave it out"
        )
    return GivenModel(str(path), metadata)


def find_places(
    model: GivenModel, finder: PartFinder, among: AbstractSet[int] | None = None
) -> list[list[int]]:
    """Return the atoms of each place of a model; with `among`, of those that have some of these."""
    places = finder.find(model.metadata)
    return places if among is None else [p for p in places if not among.isdisjoint(p)]


def place_blocks(
    model: GivenModel, places: Sequence[list[int]], finder: PartFinder, topology: app.Topology
) -> Cut:
    """Return a block for each place of a model.

    Parameters
    ----------
    model : GivenModel
    places : sequence of list of int
        As `find_places` returns them.
    finder : PartFinder
        Of the topology, with positions.

    Returns
    -------
    Cut
        Unserved are places of another stereoisomer.
    """
    metadata, residues = model.metadata, [atom.residue for atom in topology.atoms()]
    blocks, mirrored = [], []
    for place in places:
        try:
            particles = tuple(finder.in_order(metadata, place))
        except StereoisomerError as error:
            owners = [residues[i] for i in place]
            if model.kind == PART:
                # Neighbours have fewer of its atoms than what it moves.
                ((index, _),) = Counter(r.index for r in owners).most_common(1)
                owners = [r for r in owners if r.index == index]
            mirrored.append(Unserved(span_label(owners), f"{model.path}: {error}", False))
            continue
        except ValueError as error:
            raise ValueError(f"{model.path}: {error}") from error
        moved = tuple(particles[i] for i in metadata.moved_atoms())
        own = [residues[i] for i in moved]
        first = min(residue.index for residue in own)
        blocks.append(Block(span_label(own), first, model.path, particles, moved, model.kind))
    return Cut(tuple(blocks), tuple(mirrored))


def find_given(
    models: Sequence[GivenModel],
    topology: app.Topology,
    positions: NDArray[np.floating],
    residues: Sequence[app.topology.Residue] | None = None,
) -> Cut:
    """Return the blocks of models that somebody names, in their order.

    Parameters
    ----------
    residues : sequence of Residue, optional
        Only blocks that move atoms of these.

    Raises
    ------
    ValueError
        If a model fits nowhere (or at none of these residues), or its molecule is a liquid; naming
        the model.
    """
    finder = PartFinder(topology, positions)
    among = None if residues is None else {a.index for r in residues for a in r.atoms()}
    blocks: list[Block] = []
    mirrored: list[Unserved] = []
    for model in models:
        places = find_places(model, finder, among)
        if model.kind == MOLECULE and len(places) > MOST_COPIES:
            raise ValueError(_too_many(model, places, topology))
        there = place_blocks(model, places, finder, topology)
        chosen = [b for b in there.blocks if among is None or not among.isdisjoint(b.moved)]
        if not chosen:
            raise ValueError(_why_none(model, there, finder, topology))
        blocks += chosen
        mirrored += there.unserved
    return Cut(tuple(blocks), tuple(mirrored))


def _too_many(model: GivenModel, places: Sequence[list[int]], topology: app.Topology) -> str:
    residues = [atom.residue for atom in topology.atoms()]
    labels = [span_label(residues[i] for i in place) for place in places[:_MOST_NAMED]]
    return (
        f"{model.path}: the structure holds {len(places)} copies of its molecule "
        f"({', '.join(labels)}, ...), which are a liquid: with a block for each of them, "
        "one would hardly ever be tried. Name those that are meant with --residue, once for each; "
        f"up to {MOST_COPIES} can be blocks"
    )


def _why_none(model: GivenModel, there: Cut, finder: PartFinder, topology: app.Topology) -> str:
    if there.unserved:
        return f"{there.unserved[0].reason} (at {there.unserved[0].residue})"
    everywhere = find_places(model, finder)
    if everywhere:
        some = place_blocks(model, everywhere[:_MOST_NAMED], finder, topology)
        labels = [*(b.residue for b in some.blocks), *(u.residue for u in some.unserved)]
        more = ", ..." if len(everywhere) > _MOST_NAMED else ""
        return (
            f"{model.path} moves nothing of the residues that --residue names; it fits at "
            f"{', '.join(labels)}{more}: name one of these, too, or leave the model out"
        )
    return f"{model.path}: {finder.why_nowhere(model.metadata)}"
