"""Where the atoms that a model of a part knows lie in other molecules.

Such a model moves some atoms and sees a few more around them. It fits wherever these are bonded in
the same way: moved atoms have the neighbours that they have in the model and no others, while
context atoms may have more, which the model does not see.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import networkx as nx

from .graph import Molecule

#: Of caps the residue and the atom that stands for a neighbouring residue's alpha carbon.
_ALPHA_CARBONS = {("ACE", "CH3"), ("NME", "CH3"), ("NME", "C")}


def find_fragments(
    fragment: Molecule,
    moved: Collection[int],
    graph: nx.Graph,
    among: Collection[int] | None = None,
) -> list[list[int]]:
    """Return the nodes of each place of a fragment in a bond graph, ascending.

    Each set of nodes for the moved atoms is one place, however many ways there are to tell which of
    them is which. Where several context atoms could be meant, names decide as far as they agree.

    Parameters
    ----------
    fragment : Molecule
        Connected.
    moved : collection of int
        Its atoms that have no other neighbours than in the fragment.
    graph : networkx.Graph
        Integer nodes with `element` and `name`.
    among : collection of int, optional
        Nodes that all moved atoms must be among.

    Examples
    --------
    >>> methyl = Molecule(("C", "H1", "H2", "H3", "X"), ("MOL",) * 5, (0,) * 5,
    ...                   ("C", "H", "H", "H", "C"), (12.0, 1.0, 1.0, 1.0, 12.0),
    ...                   ((0, 1), (0, 2), (0, 3), (0, 4)))
    >>> ethane = nx.Graph([(0, 1), (0, 2), (0, 3), (0, 4), (4, 5), (4, 6), (4, 7)])
    >>> nx.set_node_attributes(ethane, {i: "C" if i in (0, 4) else "H" for i in ethane}, "element")
    >>> nx.set_node_attributes(ethane, "", "name")
    >>> find_fragments(methyl, {1, 2, 3}, ethane)
    [[0, 1, 2, 3, 4], [0, 4, 5, 6, 7]]
    """
    search = _Search(fragment, frozenset(moved), graph)
    places: dict[frozenset[int], dict[int, int]] = {}
    for place in search.places():
        key = frozenset(place[i] for i in moved)
        if among is not None and not key.issubset(among):
            continue
        if key not in places or search.agreement(place) > search.agreement(places[key]):
            places[key] = place
    return [sorted(places[key].values()) for key in sorted(places, key=min)]


class _Search:
    """Core atoms are mapped one after the other along bonds; leaves are then told by name."""

    def __init__(self, fragment: Molecule, moved: frozenset[int], graph: nx.Graph) -> None:
        self._ours, self._theirs, self._moved = fragment.graph(), graph, moved
        leaves = {i for i in self._ours if self._ours.degree[i] == 1}
        if len(leaves) == len(self._ours):
            leaves = set()
        core = self._ours.subgraph(set(self._ours) - leaves)
        # A moved atom has the fewest images.
        start = min(core, key=lambda i: (i not in moved, i))
        self._order = list(nx.bfs_tree(core, start))
        self._leaves = {i: sorted(leaves & set(self._ours[i])) for i in core}

    def places(self) -> Iterator[dict[int, int]]:
        for node in sorted(self._theirs):
            if self._fits(self._order[0], node, {}):
                yield from self._extend({self._order[0]: node})

    def agreement(self, place: dict[int, int]) -> int:
        """Return how many names agree."""
        return sum(self._same_name(i, node) for i, node in place.items())

    def _same_name(self, atom: int, node: int) -> bool:
        ours, name = self._ours.nodes[atom], self._theirs.nodes[node]["name"]
        is_alpha = (ours["residue"], ours["name"]) in _ALPHA_CARBONS and name == "CA"
        return bool(is_alpha or name == ours["name"])

    def _fits(self, atom: int, node: int, mapping: dict[int, int]) -> bool:
        ours, theirs = self._ours, self._theirs
        if ours.nodes[atom]["element"] != theirs.nodes[node]["element"]:
            return False
        more = theirs.degree[node] - ours.degree[atom]
        if more < 0 or (more > 0 and atom in self._moved):
            return False
        # A bond on one side only would be a ring that the other does not have.
        return all(ours.has_edge(atom, i) == theirs.has_edge(node, k) for i, k in mapping.items())

    def _candidates(self, atom: int, parent: int, mapping: dict[int, int]) -> list[int]:
        taken = set(mapping.values())
        free = [
            node
            for node in self._theirs[mapping[parent]]
            if node not in taken and self._fits(atom, node, mapping)
        ]
        return sorted(free, key=lambda node: (not self._same_name(atom, node), node))

    def _extend(self, mapping: dict[int, int]) -> Iterator[dict[int, int]]:
        if len(mapping) == len(self._order):
            complete = self._with_leaves(mapping)
            if complete is not None:
                yield complete
            return
        atom = self._order[len(mapping)]
        parent = next(i for i in self._ours[atom] if i in mapping)
        for node in self._candidates(atom, parent, mapping):
            yield from self._extend({**mapping, atom: node})

    def _with_leaves(self, mapping: dict[int, int]) -> dict[int, int] | None:
        complete = dict(mapping)
        for parent, leaves in self._leaves.items():
            # Those whose name is there choose first.
            for by_name in (True, False):
                for leaf in leaves:
                    if leaf in complete:
                        continue
                    nodes = self._candidates(leaf, parent, complete)
                    if by_name:
                        nodes = [node for node in nodes if self._same_name(leaf, node)]
                    if nodes:
                        complete[leaf] = nodes[0]
                    elif not by_name:
                        return None
        return complete


def connected(molecule: Molecule, atoms: Sequence[int]) -> list[int]:
    """Return some atoms of a molecule and those on the shortest ways between them, ascending."""
    graph, chosen = molecule.graph(), set(atoms)
    first = min(atoms)
    for atom in atoms:
        if not nx.has_path(graph.subgraph(chosen), first, atom):
            chosen |= set(nx.shortest_path(graph, first, atom))
    return sorted(chosen)
