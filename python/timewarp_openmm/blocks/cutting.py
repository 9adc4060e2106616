"""What a structure is cut into: which models are asked, and which of their blocks go together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ..files import sha256_of
from ..library import SIDE_CHAIN, Library, open_library
from ..molecule.amino_acids import find_backbone
from ..molecule.selection import residue_label
from .models import GivenModel, open_model
from .reasons import NO_AMINO_ACID, has_side_chain
from .sidechains import Block, Cut, Unserved

if TYPE_CHECKING:
    from openmm import app


@dataclass(frozen=True)
class Sources:
    """Where the models of blocks come from.

    Attributes
    ----------
    models : tuple of GivenModel
        Files that somebody names.
    library : Library, optional
        Of side chains; none where nothing in the structure has one.
    peptides : Library, optional
        Of whole residues, if peptides are asked for.
    """

    models: tuple[GivenModel, ...]
    library: Library | None
    peptides: Library | None

    @property
    def force_field(self) -> tuple[str, ...]:
        """What the models were made with: of the first library, or else of the first model."""
        for library in (self.library, self.peptides):
            if library is not None:
                return library.force_field
        return tuple(self.models[0].metadata.force_field)


def open_sources(
    models: Sequence[str | PathLike[str]],
    library: str | None,
    peptides: str | None,
    topology: app.Topology,
    graph: nx.Graph,
) -> Sources:
    """Open what is asked for; of side chains the bundled library if `library` is None, unless
    nothing but other models is needed.

    Raises
    ------
    FileNotFoundError, ValueError
        If one cannot be read, two files are the same model, or a library is of another kind.
    """
    given = _open_models(models)
    units = None if peptides is None else open_library(peptides)
    sides = None
    if library is not None or not (given or units) or _has_amino_acids(topology, graph):
        sides = open_library(library)
        if not sides.of_kind(SIDE_CHAIN):
            raise ValueError(
                f"the library {sides.name} has no models of side chains; if it is one of whole "
                "residues, give it with --peptides"
            )
    return Sources(given, sides, units)


def _open_models(paths: Sequence[str | PathLike[str]]) -> tuple[GivenModel, ...]:
    seen: dict[str, str | PathLike[str]] = {}
    found = []
    for path in paths:
        found.append(open_model(path))
        digest = sha256_of(Path(path))
        if digest in seen:
            raise ValueError(f"{seen[digest]} and {path} are the same model; give it once")
        seen[digest] = path
    return tuple(found)


def _has_amino_acids(topology: app.Topology, graph: nx.Graph) -> bool:
    return any(find_backbone(residue, graph) is not None for residue in topology.residues())


def common_temperature(sources: Sources, sides: Cut) -> float:
    """Return the temperature / K of the models that blocks are made of.

    Raises
    ------
    ValueError
        If they are of several; naming two of them.
    """
    known = [(f"the model {m.path}", m.metadata.temperature) for m in sources.models]
    if sources.peptides is not None:
        known.append((f"the library {sources.peptides.name}", sources.peptides.temperature))
    if sources.library is not None and (sides.blocks or not known):
        known.append((f"the library {sources.library.name}", sources.library.temperature))
    (first, temperature), *others = known
    for name, other in others:
        if other != temperature:
            raise ValueError(
                f"all blocks are sampled at one temperature, but {first} is of {temperature:g} K "
                f"and {name} of {other:g} K; make one of them again at the other's, or say at "
                "which to sample with --temperature (what was made for another one accepts less)"
            )
    return temperature


def without_library(topology: app.Topology, wanted: Sequence[app.topology.Residue] | None) -> Cut:
    """Return that no residue of a structure without amino acids is a side chain."""
    asked = [r for r in topology.residues() if has_side_chain(r)] if wanted is None else wanted
    reason = NO_AMINO_ACID.text
    return Cut((), tuple(Unserved(residue_label(r), reason, False) for r in asked))


def find_peptides_beside(
    given: Cut,
    library: Library,
    folder: Path,
    longest: int,
    end: int,
    topology: app.Topology,
    positions: NDArray[np.float64],
    wanted: Sequence[app.topology.Residue] | None,
) -> Cut:
    """Return the blocks of short peptides and ends of chains, without those that move the same
    atoms as a model that somebody names; see `peptide_blocks` and `find_given`."""
    # The only module of these that needs torch.
    from .peptide_models import find_peptides

    chosen = None if wanted is None else {a.index for r in wanted for a in r.atoms()}
    taken = _moved_together(given)

    def is_wanted(moved: Collection[int]) -> bool:
        here = chosen is None or not chosen.isdisjoint(moved)
        return here and frozenset(moved) not in taken

    found = find_peptides(topology, positions, library, folder, longest, end, is_wanted)
    labels = None if wanted is None else {residue_label(residue) for residue in wanted}
    unserved = [e for e in found.unserved if labels is None or e.residue in labels]
    return Cut(found.blocks, tuple(unserved))


def _moved_together(cut: Cut) -> set[frozenset[int]]:
    return {frozenset(block.moved) for block in cut.blocks}


def joined(given: Cut, peptides: Cut, sides: Cut, topology: app.Topology) -> Cut:
    """Return all blocks and what has none: one of a model that somebody names stands in for that of
    a library which moves the same atoms.

    A peptide and the side chains of its residues stay, both: the one moves the backbone, too, and
    the others are accepted more often.

    Raises
    ------
    ValueError
        If the labels of a block are those of several residues.
    """
    taken = _moved_together(given)
    own = [block for block in sides.blocks if frozenset(block.moved) not in taken]
    blocks = (*given.blocks, *peptides.blocks, *own)
    moved = _labels(blocks, topology)
    named = _labels(given.blocks, topology)
    other = {entry.residue for entry in given.unserved}
    unserved = [
        *given.unserved,
        *(
            replace(entry, reason=f"as a peptide or the end of one: {entry.reason}")
            for entry in peptides.unserved
            if entry.residue not in named
        ),
        *(entry for entry in sides.unserved if entry.residue not in moved | other),
    ]
    _refuse_repeated_labels(moved, topology)
    return Cut(blocks, tuple(unserved))


def _labels(blocks: Iterable[Block], topology: app.Topology) -> set[str]:
    """Return the labels of all residues that blocks move."""
    owners = [atom.residue for atom in topology.atoms()]
    moved = {owners[i].index: owners[i] for block in blocks for i in block.moved}
    return {residue_label(residue) for residue in moved.values()}


def _refuse_repeated_labels(labels: set[str], topology: app.Topology) -> None:
    """A plan names residues by their labels alone."""
    times = Counter(residue_label(residue) for residue in topology.residues())
    for label in sorted(labels):
        if times[label] > 1:
            raise ValueError(
                f"two residues of the structure are called {label}; give its chains different "
                "identifiers"
            )
