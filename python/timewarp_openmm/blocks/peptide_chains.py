"""The chains of amino acids in a structure, and what stands at their ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import networkx as nx

from ..molecule.amino_acids import Backbone, find_backbone
from ..molecule.chain_ends import FIRST, LAST, begins_charged, ends_charged

if TYPE_CHECKING:
    from openmm import app

_ACETYL = Counter({"C": 2, "O": 1, "H": 3})
_METHYL = Counter({"N": 1, "C": 1, "H": 4})


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
    begins_charged, ends_charged : bool
        Whether the first begins with NH3+, and the last ends with COO-.
    is_ring : bool
        Whether the last is bonded to the first.
    next_nitrogen : int, optional
        The atom after the last, where the chain goes on without being meant.
    """

    residues: tuple[app.topology.Residue, ...]
    backbones: tuple[Backbone, ...]
    acetyl: tuple[int, ...]
    methyl: tuple[int, ...]
    begins_charged: bool = False
    ends_charged: bool = False
    is_ring: bool = False
    next_nitrogen: int | None = None

    @property
    def has_beginning(self) -> bool:
        """Whether there is something that a flow can begin a peptide with."""
        return bool(self.acetyl) or self.begins_charged

    @property
    def has_end(self) -> bool:
        """Whether there is something that a flow can end a peptide with."""
        return bool(self.methyl) or self.ends_charged

    @property
    def is_whole(self) -> bool:
        """Whether it is a whole peptide, of which nothing stays where it is."""
        return self.has_beginning and self.next_nitrogen is None

    def end(self, count: int) -> Chain:
        """Return the last `count` residues, without what is before them."""
        return replace(
            self,
            residues=self.residues[-count:],
            backbones=self.backbones[-count:],
            acetyl=(),
            begins_charged=False,
        )

    def beginning(self) -> Chain:
        """Return the first of two residues or more, without what is after it."""
        return replace(
            self,
            residues=self.residues[:1],
            backbones=self.backbones[:1],
            methyl=(),
            ends_charged=False,
            next_nitrogen=self.backbones[1].nitrogen,
        )

    def charged_end(self, number: int) -> str:
        """Return what Amber puts before the name of a residue, counted from 0."""
        if number == 0 and self.begins_charged:
            return FIRST
        return LAST if number == len(self.residues) - 1 and self.ends_charged else ""


def find_chains(topology: app.Topology, graph: nx.Graph) -> list[Chain]:
    """Return the chains of amino acids in a structure, in the topology's order."""
    backbones = {r.index: find_backbone(r, graph) for r in topology.residues()}
    residues = {r.index: r for r in topology.residues() if backbones[r.index] is not None}
    owner = {atom.index: atom.residue.index for atom in topology.atoms()}
    after: dict[int, int] = {}
    for index in residues:
        backbone = backbones[index]
        assert backbone is not None
        for nitrogen in neighbours_outside(graph, backbone.carbon, "N", residues[index]):
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
        begins_charged(graph, known[0].nitrogen),
        ends_charged(graph, known[-1].carbon),
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
    for other in neighbours_outside(graph, atom, element, residue):
        without = graph.copy()
        without.remove_edge(atom, other)
        group = nx.node_connected_component(without, other)
        if Counter(graph.nodes[i]["element"] for i in group) == composition:
            return tuple(sorted(group))
    return ()


def neighbours_outside(
    graph: nx.Graph, atom: int, element: str, residue: app.topology.Residue
) -> list[int]:
    """Return the neighbours of an atom that are of an element and of another residue."""
    inside = {a.index for a in residue.atoms()}
    return [i for i in graph[atom] if i not in inside and graph.nodes[i]["element"] == element]
