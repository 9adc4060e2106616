"""From bond orders where they are known, from the bond graph where they are not."""

from __future__ import annotations

from functools import lru_cache

import networkx as nx

from ..graph import Molecule
from ..rings import bridged_rings, ring_bonds, smallest_rings
from .base import Bond, Bonding, Geometry
from .by_graph import geometry_by_graph

#: A bridge of larger rings lets a nitrogen at its head turn inside out.
_LARGEST_HOLDING_RING = 7
#: A double bond in a ring of at most this many atoms is cis, and cannot be otherwise.
_LARGEST_CIS_RING = 7


def perceive(molecule: Molecule) -> Bonding:
    """Return what a molecule's bonds are.

    Raises
    ------
    ValueError
        If bond orders are given that its atoms cannot have.
    """
    return _perceive(molecule, molecule.bond_orders, molecule.formal_charges)


# Molecules are equal whether or not their bond orders are known.
@lru_cache(maxsize=16)
def _perceive(molecule: Molecule, orders: tuple[int, ...], charges: tuple[int, ...]) -> Bonding:
    if orders:
        # Sampling a model asks for no bond orders, and must not wait for RDKit.
        from .by_orders import geometry_by_orders

        found = geometry_by_orders(molecule)
    else:
        found = geometry_by_graph(molecule)
    graph = molecule.graph()
    centres = found.centres | _bridgehead_nitrogens(molecule, graph)
    rigid = found.double | _amide_bonds(molecule, graph)
    return Bonding(
        linear=found.linear,
        tetrahedral=found.tetrahedral,
        see_saws=found.see_saws,
        centres=centres,
        inverting=_inverting(molecule, graph, found.tetrahedral) - centres,
        rigid=rigid,
        cis_trans=_cis_trans(molecule, graph, rigid, found),
    )


def _bridgehead_nitrogens(molecule: Molecule, graph: nx.Graph) -> frozenset[int]:
    """Return the nitrogens at the head of a small bridge, also if an aryl group flattens them."""
    in_rings = set().union(*(ring_bonds(molecule, ring) for ring in smallest_rings(molecule)))
    small = [set(ring) for ring in bridged_rings(molecule) if len(ring) <= _LARGEST_HOLDING_RING]
    return frozenset(
        atom
        for atom in set().union(*small)
        if molecule.elements[atom] == "N"
        and graph.degree(atom) == 3
        and all(frozenset((atom, n)) in in_rings for n in graph[atom])
    )


def _inverting(molecule: Molecule, graph: nx.Graph, tetrahedral: frozenset[int]) -> frozenset[int]:
    """Return what turns inside out unless it is held.

    A nitrogen that conjugates (amides, anilines) is flat and has one arrangement only, but not in a
    three-membered ring (N-acylaziridines), which has no room for it.
    """
    cornered = set().union(*(ring for ring in smallest_rings(molecule) if len(ring) == 3))
    return frozenset(
        atom
        for atom in graph
        if molecule.elements[atom] in ("N", "O")
        and graph.degree(atom) == 3
        and (atom in tetrahedral or (atom in cornered and molecule.elements[atom] == "N"))
    )


def _amide_bonds(molecule: Molecule, graph: nx.Graph) -> frozenset[Bond]:
    """Return the C-N bonds of amides, ureas, amidines, guanidines and thioamides."""
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
    nitrogens = [n for n in others if element[n] == "N" and not _in_ring(graph, carbon, n)]
    return bool(ends or nitrogens)


def _in_ring(graph: nx.Graph, u: int, v: int) -> bool:
    without = nx.restricted_view(graph, [], [(u, v)])
    return bool(nx.has_path(without, u, v))


def _cis_trans(
    molecule: Molecule, graph: nx.Graph, rigid: frozenset[Bond], found: Geometry
) -> frozenset[Bond]:
    """Return the rigid bonds in no small ring with a neighbour aside at both ends."""
    small: set[Bond] = set()
    for ring in smallest_rings(molecule):
        if len(ring) <= _LARGEST_CIS_RING:
            small |= ring_bonds(molecule, ring)
    return frozenset(
        bond
        for bond in rigid - small
        if all(graph.degree(i) > 1 and i not in found.linear for i in bond)
    )
