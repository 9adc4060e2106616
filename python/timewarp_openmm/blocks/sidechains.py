"""The side chains of a structure that a library has models of, and why the others have none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ..contract import read_metadata
from ..library import SIDE_CHAIN, Library, LibraryEntry, open_library
from ..molecule.amino_acids import find_backbone, identify
from ..molecule.isomorphism import StereoisomerError
from ..molecule.matching import PartFinder
from ..molecule.rotamers import rotamer_torsions
from ..molecule.selection import residue_label, select_residues
from ..molecule.torsions import TorsionAtoms
from .reasons import MIRRORED, NO_PLACE, Diagnosis, has_side_chain

if TYPE_CHECKING:
    from openmm import app, unit


@dataclass(frozen=True)
class Block:
    """A part of a structure and the model that moves it: what `addBlock` needs.

    Attributes
    ----------
    residue : str
        Of the structure, such as ``A:VAL12``; the first and the last of several, such as ``A:ACE1
        to A:NME5``.
    index : int
        Of the (first) residue in the topology.
    model : str
        Path of the model file.
    particles : tuple of int
        The particle of each of the model's atoms, in the model's order.
    moved : tuple of int
        Those that the model moves; the others are context.
    kind : str
        What moves: "side chain", "peptide", "end of a chain", "molecule" or "part".
    entry : str
        The library's name of the residue, such as "HIE"; empty without a library.
    acceptance : float, optional
        Of single proposals where the library was measured; a site may have more or less.
    """

    residue: str
    index: int
    model: str
    particles: tuple[int, ...]
    moved: tuple[int, ...]
    kind: str
    entry: str = ""
    acceptance: float | None = None


@dataclass(frozen=True)
class Unserved:
    """A residue that gets no block.

    Attributes
    ----------
    residue : str
        As a `Block` has it.
    reason : str
        Why, with the remedy where there is one.
    incomplete : bool
        Whether atoms or bonds are missing, so that no force field takes the residue either.
    """

    residue: str
    reason: str
    incomplete: bool


@dataclass(frozen=True)
class Cut:
    """Blocks of a structure, and what gets none, each in the order of the residues."""

    blocks: tuple[Block, ...]
    unserved: tuple[Unserved, ...]


@dataclass(frozen=True)
class Measured:
    """What became of the proposals of a block while everything but the blocks stood still.

    Attributes
    ----------
    tried, accepted : int
    rotamer_changes : int
        How often the rotamer (`rotamer_torsions`), or one of several, was another one after a round
        of as many proposals as there are blocks, in which one of this block was accepted.
    """

    tried: int
    accepted: int
    rotamer_changes: int

    @property
    def acceptance(self) -> float:
        return self.accepted / self.tried if self.tried else 0.0


def sidechain_blocks(
    topology: app.Topology,
    positions: NDArray[np.floating] | unit.Quantity,
    residues: Sequence[str | app.topology.Residue] | None = None,
    library: Library | str | PathLike[str] | None = None,
) -> list[Block]:
    """Return a block for each side chain that a library has a model of.

    Bonds decide which residue is which, not its name. Which residues get none, and why, is what
    `unserved_residues` returns.

    Parameters
    ----------
    topology : openmm.app.Topology
        Of the whole System.
    positions : array or Quantity [N, 3], nm
        Of all its atoms: they tell L residues from D ones, cis peptides and broken chains.
    residues : sequence of str or Residue, optional
        Only these, by their labels (``A:VAL12``, with an insertion code ``A:VAL12B``).
    library : Library, path or str, optional
        As for `open_library`; by default the bundled one.

    Raises
    ------
    FileNotFoundError, ValueError
        If the library cannot be read, or the structure has no such residue.

    Examples
    --------
    >>> for block in sidechain_blocks(topology, positions):  # doctest: +SKIP
    ...     integrator.addBlock(block.model, block.particles)
    """
    return list(find_sidechains(topology, positions, residues, library).blocks)


def unserved_residues(
    topology: app.Topology,
    positions: NDArray[np.floating] | unit.Quantity,
    residues: Sequence[str | app.topology.Residue] | None = None,
    library: Library | str | PathLike[str] | None = None,
) -> list[Unserved]:
    """Return the residues that `sidechain_blocks` has no block for, each with the reason.

    Water, ions and the caps of chains are left out unless `residues` names them.
    """
    return list(find_sidechains(topology, positions, residues, library).unserved)


def find_sidechains(
    topology: app.Topology,
    positions: NDArray[np.floating] | unit.Quantity,
    residues: Sequence[str | app.topology.Residue] | None = None,
    library: Library | str | PathLike[str] | None = None,
) -> Cut:
    """Return both: the blocks and the residues without one; see `sidechain_blocks`."""
    opened = library if isinstance(library, Library) else open_library(library)
    if residues is None:
        asked = [residue for residue in topology.residues() if has_side_chain(residue)]
    else:
        asked = select_residues(topology, residues)
    finder = PartFinder(topology, positions)
    if finder.positions is None:
        raise ValueError("positions= of all atoms are needed, to tell L residues from D ones")
    places, mirrored = _places(finder, opened, asked)
    diagnosis = Diagnosis(topology, finder.graph, finder.positions, opened, SIDE_CHAIN)
    blocks, unserved = [], []
    for residue in asked:
        place, label = places.get(residue.index), residue_label(residue)
        reason = diagnosis.why_none(residue) if place is None else diagnosis.unfit_chain(residue)
        if place is None or reason is not None:
            found = reason or (MIRRORED if residue.index in mirrored else NO_PLACE)
            unserved.append(Unserved(label, found.text, found.incomplete))
        else:
            entry, atoms, moved = place
            blocks.append(
                Block(
                    label,
                    residue.index,
                    entry.model,
                    atoms,
                    moved,
                    SIDE_CHAIN,
                    entry.residue,
                    entry.acceptance,
                )
            )
    return Cut(tuple(blocks), tuple(unserved))


def _places(
    finder: PartFinder, library: Library, asked: Sequence[app.topology.Residue]
) -> tuple[dict[int, tuple[LibraryEntry, tuple[int, ...], tuple[int, ...]]], set[int]]:
    """Return the model of each residue's side chain, its particles and those that it moves, by the
    residue's index; and the residues that are other stereoisomers of what a model is of."""
    residues = {atom.index: residue.index for residue in asked for atom in residue.atoms()}
    found, mirrored = {}, set()
    for entry in library.of_kind(SIDE_CHAIN):
        metadata = read_metadata(entry.model)
        moved = metadata.moved_atoms()
        for place in finder.find(metadata, set(residues)):
            try:
                particles = tuple(finder.in_order(metadata, place))
            except StereoisomerError:
                # Neighbours have fewer of its atoms than the residue itself.
                owners = Counter(residues[i] for i in place if i in residues)
                mirrored.add(owners.most_common(1)[0][0])
            else:
                own = tuple(particles[atom] for atom in moved)
                found[residues[own[0]]] = (entry, particles, own)
    return found, mirrored


def block_torsions(
    blocks: Sequence[Block], topology: app.Topology, graph: nx.Graph
) -> list[list[TorsionAtoms]]:
    """Return the torsions of the rotamers (`rotamer_torsions`) that each block turns; none where it
    turns no side chain of an amino acid."""
    owners, known = [atom.residue for atom in topology.atoms()], dict[int, list[TorsionAtoms]]()
    found = []
    for block in blocks:
        residues = {owners[i].index: owners[i] for i in block.moved}
        for index in residues.keys() - known.keys():
            known[index] = residue_torsions(residues[index], graph)
        moved = set(block.moved)
        found.append([t for index in sorted(residues) for t in known[index] if t[-1] in moved])
    return found


def residue_torsions(residue: app.topology.Residue, graph: nx.Graph) -> list[TorsionAtoms]:
    """Return the torsions of a residue's rotamers; none where it is no amino acid."""
    backbone = find_backbone(residue, graph)
    known = None if backbone is None else identify(residue, graph, backbone)
    return [] if known is None else rotamer_torsions(known, graph)
