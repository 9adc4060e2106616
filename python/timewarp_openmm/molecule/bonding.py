"""What the bond graph says of the bonds: which are double, and which turn as if they were.

Topologies hardly ever state bond orders (a PDB file cannot), but they hold all hydrogens. So the
number of an atom's neighbours tells where double bonds are, and where charges or resonance leave
several places for one, no single bond of them is called double.
"""

from __future__ import annotations

from functools import lru_cache

import networkx as nx

from .graph import Molecule

#: Bonds that the commonest neutral form of an element has, double bonds counted twice.
_VALENCE = {"H": 1, "C": 4, "N": 3, "O": 2, "S": 2, "P": 3, "B": 3, "Si": 4, "Se": 2}


def is_unsaturated(graph: nx.Graph, atom: int) -> bool:
    """Whether the atom has fewer neighbours than bonds."""
    return bool(graph.degree(atom) < _VALENCE.get(graph.nodes[atom]["element"], 0))


def is_tetrahedral(graph: nx.Graph, atom: int) -> bool:
    """Whether bonds to the atom are single and no neighbour conjugates with its lone pair."""
    if graph.nodes[atom]["element"] in ("C", "Si"):
        return bool(graph.degree(atom) == 4)
    around = (atom, *graph[atom])
    return not any(is_unsaturated(graph, i) for i in around)


@lru_cache(maxsize=16)
def double_bonds(molecule: Molecule) -> frozenset[frozenset[int]]:
    """Return the bonds that are double in every assignment of double bonds; benzene has none."""
    graph = molecule.graph()
    conjugated = graph.subgraph([i for i in graph if is_unsaturated(graph, i)])
    doubles = len(nx.max_weight_matching(conjugated, maxcardinality=True))

    def is_needed(u: int, v: int) -> bool:
        without = nx.Graph(conjugated)
        without.remove_edge(u, v)
        return len(nx.max_weight_matching(without, maxcardinality=True)) < doubles

    return frozenset(frozenset(bond) for bond in conjugated.edges if is_needed(*bond))


@lru_cache(maxsize=16)
def partial_double_bonds(molecule: Molecule) -> frozenset[frozenset[int]]:
    """Return the C-N bonds of amides, ureas, amidines, guanidines and thioamides."""
    graph = molecule.graph()
    return frozenset(
        frozenset((u, v))
        for u, v in molecule.bonds
        if _is_amide(graph, u, v) or _is_amide(graph, v, u)
    )


def _is_amide(graph: nx.Graph, carbon: int, nitrogen: int) -> bool:
    element = nx.get_node_attributes(graph, "element")
    if element[carbon] != "C" or element[nitrogen] != "N":
        return False
    if graph.degree(carbon) != 3 or graph.degree(nitrogen) != 3:
        return False
    others = [n for n in graph[carbon] if n != nitrogen]
    ends = [n for n in others if element[n] in ("O", "S", "Se") and graph.degree(n) == 1]
    # In a ring it would be an aminopyridine or the like, whose amine turns.
    nitrogens = [n for n in others if element[n] == "N" and not in_ring(graph, carbon, n)]
    return bool(ends or nitrogens)


def in_ring(graph: nx.Graph, u: int, v: int) -> bool:
    """Whether a bond is part of a ring."""
    without = nx.restricted_view(graph, [], [(u, v)])
    return bool(nx.has_path(without, u, v))
