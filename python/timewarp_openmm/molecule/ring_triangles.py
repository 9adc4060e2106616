"""How the atoms of a ring that flips are placed: by triangles, so that every ring closes.

A ring of n atoms is cut into n - 2 triangles (Hill and Reilly, J. Chem. Inf. Model. 47, 1031
(2007)). One corner of a new triangle is placed from the two that it has in common with another, by
a distance, an angle in the triangle's plane, and the angle between the two planes. These n - 3
flaps are all that changes when the ring flips. Whatever they are, every bond of the ring is a side
of a triangle, so that its length depends on the triangle alone, and almost linearly. Were the ring
drawn as a chain, the last bond would close at one combination of its torsions only.

An entrance, the atom of the ring that is placed first, and its two neighbours are placed as in
any branch; they are the first triangle. Where two rings share a bond, the second ring continues
from both of its ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .graph import Molecule
from .puckering import puckering_bonds
from .rings import Ring, ring_bonds, smallest_rings

#: The three atoms that one is placed from.
References = tuple[int, int, int]


@dataclass(frozen=True)
class RingTriangles:
    """What is placed by the triangles of rings.

    Attributes
    ----------
    references : dict of int to (int, int, int)
        Of each ring atom that is placed by a triangle: the corner that its distance is to, the
        other corner of the side that the triangle shares, and the corner behind that side.
    sides : dict of int to (int, int)
        The neighbours in the ring of each atom beyond its entrance, from which what else is bonded
        to the atom is placed; the nearer to the entrance first.
    """

    references: dict[int, References]
    sides: dict[int, tuple[int, int]]


def ring_triangles(
    molecule: Molecule, parent: Mapping[int, int], depth: Mapping[int, int], largest: int
) -> RingTriangles:
    """Cut the rings of at most `largest` atoms whose bonds all flip into triangles.

    Parameters
    ----------
    parent, depth : mapping of int to int
        Of each atom in the trees of placements; rings are entered where they are nearest the root.
        Atoms that stay where they are have no parent. A ring with an atom that has no depth is not
        there yet.
    """
    flips = puckering_bonds(molecule, largest)
    rings = [
        ring
        for ring in smallest_rings(molecule)
        if ring_bonds(molecule, ring) <= flips and depth.keys() >= set(ring)
    ]
    rings.sort(key=lambda ring: sorted(depth[atom] for atom in ring))
    others = [ring for ring in smallest_rings(molecule) if ring not in rings]
    held = set().union(*(ring_bonds(molecule, ring) for ring in others))
    found = RingTriangles({}, {})
    placed: set[int] = set()
    for ring in rings:
        ordered = _from_entrance(ring, depth)
        start, end = _arms(ordered, held)
        triangles = _between(ordered, start, end, ordered[start - 1])
        # A ring that other branches enter, too, or that holds atoms of others elsewhere than at
        # its entrance stays a chain.
        entered_once = all(parent.get(atom) in ring for atom in triangles)
        arms = (*ordered[1 : start + 1], *ordered[end:])
        leads_out = all(parent.get(atom) not in triangles for atom in arms)
        if entered_once and leads_out and placed.isdisjoint(triangles):
            found.references.update(triangles)
            for atom, sides in _sides(ordered, start, end).items():
                found.sides.setdefault(atom, sides)
            placed.update(ring)
        held |= ring_bonds(molecule, ring)
    return found


def _from_entrance(ring: Ring, depth: Mapping[int, int]) -> Ring:
    """Return the ring's atoms in order, beginning where it is nearest the root."""
    first = min(range(len(ring)), key=lambda i: (depth[ring[i]], ring[i]))
    ordered = ring[first:] + ring[:first]
    return ordered if ordered[1] < ordered[-1] else (ordered[0], *ordered[:0:-1])


def _arms(ring: Ring, held: set[frozenset[int]]) -> tuple[int, int]:
    """Return the places around the ring between which its atoms are placed by triangles.

    They are the entrance's neighbours, or the atoms beyond these where the bond to a neighbour is
    ``held`` by another ring: the angles between the two rings are then coordinates.
    """
    start = 2 if frozenset(ring[:2]) in held else 1
    return start, len(ring) - (2 if frozenset((ring[0], ring[-1])) in held else 1)


def _between(ring: Ring, start: int, end: int, behind: int) -> dict[int, References]:
    """Return the references of the atoms between two places around a ring.

    ``behind`` is the third corner of the triangle on the other side of these two.
    """
    if end - start < 2:
        return {}
    middle = (start + end) // 2
    near, far = ring[start], ring[end]
    # A bond's length rather than a distance, where there is one.
    references = (far, near, behind) if end - middle == 1 else (near, far, behind)
    return {
        ring[middle]: references,
        **_between(ring, start, middle, far),
        **_between(ring, middle, end, near),
    }


def _sides(ring: Ring, start: int, end: int) -> dict[int, tuple[int, int]]:
    """Return the neighbours in the ring of each atom from `start` to `end`, the nearer to the
    entrance first."""
    pairs = {i: (ring[i - 1], ring[(i + 1) % len(ring)]) for i in range(start, end + 1)}
    return {ring[i]: pair if i <= len(ring) // 2 else pair[::-1] for i, pair in pairs.items()}
