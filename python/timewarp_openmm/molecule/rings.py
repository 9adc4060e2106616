"""The rings of a molecule."""

from __future__ import annotations

from functools import lru_cache

import networkx as nx

from .graph import Molecule

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
