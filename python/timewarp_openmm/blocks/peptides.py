"""The peptides of a structure, and ends of chains, that flows of residues make; and why others are
not made.

A peptide is served whole where it is a single chain between an acetyl and an N-methyl group. Of any
other chain that ends with an N-methyl group its last residues are, given what comes before them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
import torch
from numpy.typing import NDArray

from ..flows.chained.links import LinkedFlow
from ..flows.residues.peptide import PlacedResidue, peptide_flow
from ..flows.residues.residue import ResidueFlow, read_residue_flow
from ..library import RESIDUE, Library, open_library
from ..molecule.amino_acids import Backbone, find_backbone, identify
from ..molecule.graph import Molecule, molecule_from_topology
from ..molecule.isomorphism import StereoisomerError
from ..molecule.matching import PartFinder
from ..molecule.selection import residue_label
from .reasons import Diagnosis

if TYPE_CHECKING:
    from openmm import app, unit

_ACETYL = Counter({"C": 2, "O": 1, "H": 3})
_METHYL = Counter({"N": 1, "C": 1, "H": 4})


class NotServedError(ValueError):
    """A library does not make a chain; the message says of which residue, and why."""


@dataclass(frozen=True)
class Chain:
    """Residues of a structure that are bonded to each other in a row.

    Attributes
    ----------
    residues : tuple of Residue
        Amino acids, from the first to the last.
    backbones : tuple of Backbone
    acetyl, methyl : tuple of int
        Atoms of the groups before and after them; empty where there is none such.
    is_ring : bool
        Whether the last is bonded to the first.
    """

    residues: tuple[app.topology.Residue, ...]
    backbones: tuple[Backbone, ...]
    acetyl: tuple[int, ...]
    methyl: tuple[int, ...]
    is_ring: bool = False

    def end(self, count: int) -> Chain:
        """Return the last `count` residues, without what is before them."""
        return Chain(self.residues[-count:], self.backbones[-count:], (), self.methyl, self.is_ring)


@dataclass(frozen=True)
class Peptide:
    """What flows of residues make of a structure: a whole peptide, or the end of a chain.

    Attributes
    ----------
    residues : tuple of str
        Of the structure, such as ``A:VAL2``.
    entries : tuple of str
        The library's names of these.
    particles : tuple of int
        The structure's atom for each of the model's.
    moved : tuple of int
        Those of the model's atoms that it moves; the others are context.
    molecule : Molecule
        The model's.
    positions : array [N, 3], nm
        Its atoms in the structure.
    flow : LinkedFlow
    """

    residues: tuple[str, ...]
    entries: tuple[str, ...]
    particles: tuple[int, ...]
    moved: tuple[int, ...]
    molecule: Molecule
    positions: NDArray[np.float64]
    flow: LinkedFlow


class PeptideFinder:
    """Finds what a library makes of a structure.

    Parameters
    ----------
    topology : openmm.app.Topology
        Of the whole System.
    positions : array or Quantity [N, 3], nm
    library : Library, path or str
        Built with ``--kind residues``.

    Attributes
    ----------
    library : Library
    chains : list of Chain
    """

    def __init__(
        self,
        topology: app.Topology,
        positions: NDArray[np.floating] | unit.Quantity,
        library: Library | str | PathLike[str],
    ) -> None:
        self.library = library if isinstance(library, Library) else open_library(library)
        self._files = {entry.residue: entry.model for entry in self.library.of_kind(RESIDUE)}
        if not self._files:
            raise ValueError(
                f"the library {self.library.name} has no flows of whole residues; build one with "
                "timewarp-openmm library build --kind residues"
            )
        self._flows: dict[str, ResidueFlow] = {}
        self._topology = topology
        finder = PartFinder(topology, positions)
        if finder.positions is None:
            raise ValueError("positions= of all atoms are needed, to tell L residues from D ones")
        self._graph, self._positions = finder.graph, finder.positions
        self._diagnosis = Diagnosis(topology, self._graph, self._positions, self.library, RESIDUE)
        self.chains = find_chains(topology, self._graph)

    def _why_not(self, chain: Chain) -> str | None:
        """Return why the library does not make a chain, or None if it does."""
        for residue in chain.residues:
            if (reason := self._diagnosis.why_none(residue)) is not None:
                return f"{residue_label(residue)} is not served: {reason.text}"
        if chain.is_ring:
            return f"{residue_label(chain.residues[0])} is in a ring of residues, which has no end"
        if not chain.methyl:
            return (
                "the chain does not end with an N-methyl group after "
                f"{residue_label(chain.residues[-1])}, and the library has no model of another end"
            )
        return None

    def make(self, chain: Chain) -> Peptide:
        """Return the flow of a chain whose residues are all served and that ends with an N-methyl
        group; of a whole peptide if an acetyl group is before it.

        Raises
        ------
        NotServedError
            Naming the first residue that is not served, and why.
        """
        if (reason := self._why_not(chain)) is not None:
            raise NotServedError(reason)
        names = tuple(
            self._name(*pair) for pair in zip(chain.residues, chain.backbones, strict=True)
        )
        before = chain.acetyl or self._before(chain.residues[0], chain.backbones[0])
        own = [atom.index for residue in chain.residues for atom in residue.atoms()]
        particles = tuple(sorted({*before, *own, *chain.methyl}))
        molecule = molecule_from_topology(self._topology, particles=particles)
        positions = self._positions[list(particles)]
        place = {atom: i for i, atom in enumerate(particles)}
        placed = []
        for number, name in enumerate(names):
            atoms = self._atoms_of(chain, number)
            placed.append(PlacedResidue(self._flow(name), tuple(place[i] for i in atoms)))
        labels = tuple(residue_label(residue) for residue in chain.residues)
        try:
            flow = peptide_flow(molecule, torch.tensor(positions), placed, not chain.acetyl)
        except StereoisomerError as error:
            raise NotServedError(f"{', '.join(labels)}: {error}") from error
        moved = tuple(range(len(particles))) if flow.moved is None else tuple(flow.moved)
        self._refuse_other_bonds([particles[i] for i in moved], set(particles))
        return Peptide(labels, names, particles, moved, molecule, positions, flow)

    def _refuse_other_bonds(self, moved: Sequence[int], inside: set[int]) -> None:
        """Refuse atoms that would move away from others that they are bonded to."""
        atoms = list(self._topology.atoms())
        for atom in moved:
            for other in sorted(set(self._graph[atom]) - inside):
                label, far = (residue_label(atoms[i].residue) for i in (atom, other))
                raise NotServedError(
                    f"{label} is not served: its {atoms[atom].name} is bonded to "
                    f"{far}:{atoms[other].name}"
                )

    def _flow(self, name: str) -> ResidueFlow:
        if name not in self._flows:
            self._flows[name] = read_residue_flow(Path(self._files[name]))
        return self._flows[name]

    def _name(self, residue: app.topology.Residue, backbone: Backbone) -> str:
        known = identify(residue, self._graph, backbone)
        assert known is not None
        return known.name

    def _atoms_of(self, chain: Chain, number: int) -> list[int]:
        """Return the atoms of a residue and those of its neighbours that its flow knows."""
        residue, backbone = chain.residues[number], chain.backbones[number]
        before = self._before(residue, backbone)
        if number == 0 and chain.acetyl:
            before = chain.acetyl
        after: Sequence[int] = chain.methyl
        if number + 1 < len(chain.residues):
            after = [chain.backbones[number + 1].nitrogen]
        return [*before, *(atom.index for atom in residue.atoms()), *after]

    def _before(self, residue: app.topology.Residue, backbone: Backbone) -> tuple[int, ...]:
        """Return the carbonyl before a residue, and the carbon that it hangs on."""
        # A trans peptide bond was found there, so that there is one.
        carbon = _outside(self._graph, backbone.nitrogen, "C", residue)[0]
        return (carbon, *(i for i in self._graph[carbon] if i != backbone.nitrogen))


def find_chains(topology: app.Topology, graph: nx.Graph) -> list[Chain]:
    """Return the chains of amino acids in a structure, in the topology's order."""
    backbones = {r.index: find_backbone(r, graph) for r in topology.residues()}
    residues = {r.index: r for r in topology.residues() if backbones[r.index] is not None}
    owner = {atom.index: atom.residue.index for atom in topology.atoms()}
    after: dict[int, int] = {}
    for index in residues:
        backbone = backbones[index]
        assert backbone is not None
        for nitrogen in _outside(graph, backbone.carbon, "N", residues[index]):
            following = backbones.get(owner[nitrogen])
            if following is not None and following.nitrogen == nitrogen:
                after[index] = owner[nitrogen]
    starts = [index for index in residues if index not in after.values()]
    chains = [_chain(start, residues, backbones, after, graph) for start in starts]
    # Rings of residues have no first one.
    left = set(residues) - {residue.index for chain in chains for residue in chain.residues}
    while left:
        ring = _chain(min(left), residues, backbones, after, graph)
        chains.append(ring)
        left -= {residue.index for residue in ring.residues}
    return sorted(chains, key=lambda chain: chain.residues[0].index)


def _chain(
    start: int,
    residues: dict[int, app.topology.Residue],
    backbones: dict[int, Backbone | None],
    after: dict[int, int],
    graph: nx.Graph,
) -> Chain:
    row = [start]
    while row[-1] in after and after[row[-1]] != start:
        row.append(after[row[-1]])
    found = [backbones[index] for index in row]
    known = tuple(backbone for backbone in found if backbone is not None)
    first, last = residues[row[0]], residues[row[-1]]
    return Chain(
        tuple(residues[index] for index in row),
        known,
        _cap(graph, known[0].nitrogen, "C", first, _ACETYL),
        _cap(graph, known[-1].carbon, "N", last, _METHYL),
        is_ring=after.get(row[-1]) == start,
    )


def _cap(
    graph: nx.Graph,
    atom: int,
    element: str,
    residue: app.topology.Residue,
    composition: Counter[str],
) -> tuple[int, ...]:
    """Return the atoms of the group on an end of a chain if it is made of these elements."""
    for other in _outside(graph, atom, element, residue):
        without = graph.copy()
        without.remove_edge(atom, other)
        group = nx.node_connected_component(without, other)
        if Counter(graph.nodes[i]["element"] for i in group) == composition:
            return tuple(sorted(group))
    return ()


def _outside(graph: nx.Graph, atom: int, element: str, residue: app.topology.Residue) -> list[int]:
    """Return the neighbours of an atom that are of an element and of another residue."""
    inside = {a.index for a in residue.atoms()}
    return [i for i in graph[atom] if i not in inside and graph.nodes[i]["element"] == element]
