"""How two moved atoms between two context atoms are placed: about the axis of the latter.

The part that is moved hangs on both. Were either atom placed from its own end, the length of the
bond between them would depend on two torsions and close at few pairs of these. So both are placed
about the axis from one end to the other: the first by its torsion about it, which is anywhere on
the circle, the second by its offset from the first. All lengths and angles between the four are
then those of stiff coordinates, whichever way the bridge is turned. A peptide plane between two
alpha carbons is such a bridge.

That is so where each end has one neighbour left that stays. What else is bonded to an end moves
along with the bridge and is placed from it. Where two neighbours of an end stay, they say where the
bridge begins, and it cannot turn.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import networkx as nx


@dataclass(frozen=True)
class Bridge:
    """Two moved atoms that are bonded to each other, and each to a context atom.

    Attributes
    ----------
    first, second : int
        The moved atoms.
    start, end : int
        The context atom at the first, and that at the second.
    before, after : int
        The one neighbour of each of these that stays.
    """

    first: int
    second: int
    start: int
    end: int
    before: int
    after: int

    @property
    def references(self) -> dict[int, tuple[int, int, int]]:
        """What either atom is placed from: its distance is to the context atom that it is bonded
        to, its angle is there with the axis, and its torsion is about the axis."""
        return {
            self.first: (self.start, self.end, self.before),
            self.second: (self.end, self.start, self.first),
        }

    @property
    def sides(self) -> dict[int, tuple[int, int]]:
        """Of each end the neighbours from which what else is bonded to it is placed."""
        return {self.start: (self.before, self.first), self.end: (self.after, self.second)}


def turning_bridges(
    graph: nx.Graph, moved: Collection[int], rings: Collection[int]
) -> list[Bridge]:
    """Return the bridges that can turn; no context atom is an end of two.

    Parameters
    ----------
    graph : networkx.Graph
        Of bonds.
    moved : collection of int
    rings : collection of int
        Atoms in rings, which are placed in ways of their own.
    """
    found: list[Bridge] = []
    taken = set[int]()
    for first, second in sorted(sorted(bond) for bond in graph.subgraph(moved).edges):
        if {first, second} & set(rings):
            continue
        ends = [[n for n in graph[atom] if n not in moved] for atom in (first, second)]
        if [len(end) for end in ends] != [1, 1]:
            continue
        start, end = ends[0][0], ends[1][0]
        staying = [[n for n in graph[i] if n not in moved] for i in (start, end)]
        if [len(around) for around in staying] != [1, 1] or {start, end} & taken or start == end:
            continue
        before, after = staying[0][0], staying[1][0]
        if end != before:
            found.append(Bridge(first, second, start, end, before, after))
            taken |= {start, end}
    return found
