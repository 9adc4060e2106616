"""Where bond orders are not known: what the bond graph says.

A PDB file cannot state bond orders, but it holds all hydrogens. So the number of an atom's
neighbours tells where double bonds are, and where charges or resonance leave several places for
one, no single bond of them is called double.
"""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from ..graph import Molecule
from ..rings import smallest_rings
from .base import Bond, Geometry

#: Bonds that the commonest neutral form of an element has, double bonds counted twice.
_VALENCE = {"H": 1, "C": 4, "N": 3, "O": 2, "S": 2, "P": 3, "B": 3, "Si": 4, "Se": 2}
#: Atoms that take part in a double bond more by a positive charge: iminium, nitrones, sulfines.
_DONORS = {("N", 3), ("O", 2), ("S", 2), ("Se", 2)}
#: Atoms with three neighbours that do not turn inside out at room temperature.
_STABLE_PYRAMIDS = frozenset({"S", "P", "Se", "As", "Sb", "Te"})
_CHALCOGENS = frozenset({"S", "Se", "Te"})


def geometry_by_graph(molecule: Molecule) -> Geometry:
    """Read double bonds and shapes from the numbers of neighbours."""
    graph = molecule.graph()
    see_saws = frozenset(i for i in graph if _is_see_saw(graph, i))
    return Geometry(
        linear=frozenset(i for i in graph if _is_linear(graph, i)),
        tetrahedral=frozenset(i for i in graph if _is_tetrahedral(graph, i)) - see_saws,
        centres=_centres(molecule, graph) - see_saws,
        see_saws=see_saws,
        double=_double_bonds(graph),
    )


def _is_unsaturated(graph: nx.Graph, atom: int) -> bool:
    """Whether the atom has fewer neighbours than bonds."""
    return bool(graph.degree(atom) < _VALENCE.get(graph.nodes[atom]["element"], 0))


def _conjugates(graph: nx.Graph, atom: int) -> bool:
    return any(_is_unsaturated(graph, i) for i in graph[atom])


def _is_linear(graph: nx.Graph, atom: int) -> bool:
    if graph.degree(atom) != 2:
        return False
    element = graph.nodes[atom]["element"]
    if element == "C":
        return True
    # Azides, diazonium ions, isonitriles: an end atom with a triple or cumulated bond.
    ends = (n for n in graph[atom] if graph.degree(n) == 1)
    return element == "N" and any(graph.nodes[n]["element"] in ("C", "N") for n in ends)


def _is_see_saw(graph: nx.Graph, atom: int) -> bool:
    """Whether a sulfur has four single bonds, as in SF4; sulfones have double ones."""
    chalcogen = graph.nodes[atom]["element"] in _CHALCOGENS
    return chalcogen and graph.degree(atom) == 4 and not _conjugates(graph, atom)


def _is_tetrahedral(graph: nx.Graph, atom: int) -> bool:
    if graph.degree(atom) == 4 or _is_stable_pyramid(graph, atom):
        return True
    if graph.nodes[atom]["element"] in ("C", "Si", "B") or graph.degree(atom) > 4:
        return False
    return not _is_unsaturated(graph, atom) and not _conjugates(graph, atom)


def _is_stable_pyramid(graph: nx.Graph, atom: int) -> bool:
    return graph.degree(atom) == 3 and graph.nodes[atom]["element"] in _STABLE_PYRAMIDS


def _centres(molecule: Molecule, graph: nx.Graph) -> frozenset[int]:
    """Return atoms with four neighbours, pyramids that are stable, and nitrogens in aziridines."""
    cornered = set().union(*(ring for ring in smallest_rings(molecule) if len(ring) == 3))
    return frozenset(
        atom
        for atom in graph
        if graph.degree(atom) == 4
        or _is_stable_pyramid(graph, atom)
        or (
            atom in cornered
            and molecule.elements[atom] == "N"
            and graph.degree(atom) == 3
            and not _conjugates(graph, atom)
        )
    )


def _double_bonds(graph: nx.Graph) -> frozenset[Bond]:
    """Return the bonds that are double in every best assignment of double bonds; benzene has none.

    An assignment is the better the fewer atoms lack a bond, carbon before all others, so that a
    charge is on oxygen rather than on carbon (enolates).
    """
    conjugated = _conjugated(graph)
    found: set[Bond] = set()
    for part in nx.connected_components(conjugated):
        found |= _needed(conjugated.subgraph(part))
    return frozenset(found)


def delocalised_charges(molecule: Molecule, drawn: frozenset[Bond]) -> frozenset[Bond]:
    """Return those of the double bonds in a structure that another one of the same charges lacks.

    Whether a cyanine or the anion of acetylacetone is drawn with the charge at one end or at the
    other must not matter. Double bonds that change places with single ones without a charge
    (cyclooctatetraene) are what they are drawn as.
    """
    graph = molecule.graph()
    conjugated = _conjugated(graph)
    found: set[Bond] = set()
    for part in nx.connected_components(conjugated):
        here = conjugated.subgraph(part)
        doubles = {bond for bond in drawn if here.has_edge(*bond)}
        carriers = {atom for bond in doubles for atom in bond}
        lacking = {atom for atom in part if _is_unsaturated(graph, atom)}
        if carriers != lacking and _total(here, doubles) == _worth(here):
            found |= doubles - _needed(here)
    return frozenset(found)


def _conjugated(graph: nx.Graph) -> nx.Graph:
    """Return the bonds that may be double, with what that is worth."""
    unsaturated = {i for i in graph if _is_unsaturated(graph, i)}
    takes_part = unsaturated | {
        i for i in graph if (graph.nodes[i]["element"], graph.degree(i)) in _DONORS
    }
    conjugated = nx.Graph()
    for u, v in graph.edges:
        if {u, v} <= takes_part and unsaturated & {u, v}:
            conjugated.add_edge(u, v, weight=_gain(graph, unsaturated, u, v))
    return conjugated


def _gain(graph: nx.Graph, unsaturated: set[int], u: int, v: int) -> int:
    """Return what a double bond is worth: its atoms that lacked one, then those of carbon."""
    lacking = unsaturated & {u, v}
    return sum(100 + (graph.nodes[i]["element"] == "C") for i in lacking)


def _needed(conjugated: nx.Graph) -> set[Bond]:
    best = _worth(conjugated)

    def is_needed(u: int, v: int) -> bool:
        without = nx.Graph(conjugated)
        without.remove_edge(u, v)
        return _worth(without) < best

    return {frozenset((u, v)) for u, v in nx.max_weight_matching(conjugated) if is_needed(u, v)}


def _worth(conjugated: nx.Graph) -> int:
    """Return the worth of a best assignment."""
    return _total(conjugated, nx.max_weight_matching(conjugated))


def _total(conjugated: nx.Graph, doubles: Iterable[Iterable[int]]) -> int:
    return sum(conjugated.edges[tuple(bond)]["weight"] for bond in doubles)
