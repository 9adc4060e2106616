"""The rings of a molecule, and which of their bonds flip."""

from __future__ import annotations

from functools import lru_cache

import networkx as nx

from .bonding import double_bonds, is_tetrahedral, partial_double_bonds
from .graph import Molecule

#: Smaller rings have no second shape to pucker to.
SMALLEST_PUCKERED_RING = 5
#: In rings from this size on, bonds from a planar to a tetrahedral atom flip in any case.
WIDE_RING = 7
#: A five- or six-membered ring with fewer tetrahedral atoms than this is flat.
TETRAHEDRAL_IF_PUCKERED = 3


#: A ring of a smallest set of rings, in order around it.
Ring = tuple[int, ...]


@lru_cache(maxsize=16)
def smallest_rings(molecule: Molecule) -> tuple[Ring, ...]:
    """Return a smallest set of rings that all others are made of."""
    # Without the chains, which hold no ring: the search takes the cube of the number of atoms.
    core = nx.k_core(molecule.graph(), 2)
    return tuple(tuple(ring) for ring in nx.minimum_cycle_basis(core))


def ring_bonds(molecule: Molecule, ring: Ring) -> set[frozenset[int]]:
    """Return the bonds of a ring."""
    atoms = set(ring)
    return {frozenset(bond) for bond in molecule.bonds if atoms.issuperset(bond)}


def bridged_rings(molecule: Molecule) -> list[Ring]:
    """Return the rings that share more than one bond with another, as those of norbornane do."""
    rings = smallest_rings(molecule)
    bonds = [ring_bonds(molecule, ring) for ring in rings]
    return [
        ring
        for i, ring in enumerate(rings)
        if any(len(bonds[i] & other) > 1 for j, other in enumerate(bonds) if j != i)
    ]


def puckering_bonds(molecule: Molecule, largest: int) -> set[frozenset[int]]:
    """Return the bonds of rings of at most `largest` atoms that flip, as a cyclohexane's do.

    Rings that share more than one bond (adamantane) hold each other, and flat rings do not flip.
    """
    graph = molecule.graph()
    held = bridged_rings(molecule)
    rigid = double_bonds(molecule) | partial_double_bonds(molecule)
    found: set[frozenset[int]] = set()
    for ring in smallest_rings(molecule):
        if not SMALLEST_PUCKERED_RING <= len(ring) <= largest or ring in held:
            continue
        tetrahedral = {atom for atom in ring if is_tetrahedral(graph, atom)}
        for bond in ring_bonds(molecule, ring) - rigid:
            flexible = len(ring) >= WIDE_RING or len(tetrahedral) >= TETRAHEDRAL_IF_PUCKERED
            if bond <= tetrahedral or (flexible and bond & tetrahedral):
                found.add(bond)
    return found
