"""Chirality and cis/trans: what dynamics cannot change, so that a run must not have flipped it.

This is the one definition of it. The chart of a flow, exploring, starting conformations and the
analysis all take it from here.

A *centre* is an atom that keeps the arrangement of its neighbours in space: one with four
neighbours, or one with three that does not turn inside out (sulfoxides, sulfonium, phosphines,
arsines, and a nitrogen in a three-membered ring or at the head of a bridge). Which of its hydrogens
is which counts, since dynamics cannot exchange them. The arrangement is the sign of a triple
product; it does not ask how flat or distorted a centre is. Amines are no centres: they invert.
Atoms with more than four neighbours are none either: a triple product does not describe them.

A *fixed bond* is a double bond or one like it (amides, thioamides, ureas, amidines, guanidines)
that no small ring holds; it is cis or trans.
"""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from .bonding import double_bonds, is_tetrahedral, partial_double_bonds
from .graph import Molecule
from .rings import bridged_rings, ring_bonds, smallest_rings
from .torsions import TorsionAtoms, measure_torsions

#: Atoms with three neighbours that do not turn inside out at room temperature.
_STABLE_PYRAMIDS = frozenset({"S", "P", "Se", "As", "Sb", "Te"})
#: A bridge of larger rings lets a nitrogen at its head turn inside out.
_LARGEST_HOLDING_RING = 7
#: A double bond in a ring of at most this many atoms is cis, and cannot be otherwise.
_LARGEST_CIS_RING = 7


@dataclass(frozen=True)
class Centre:
    """An atom that does not turn inside out.

    Attributes
    ----------
    atom : int
    corners : (int, int, int, int)
        The sign of the triple product of the edges from the first corner to the others is the
        chirality. They are the four neighbours; where there are three, the atom and these.
    """

    atom: int
    corners: tuple[int, int, int, int]


def chirality_centres(molecule: Molecule) -> list[Centre]:
    """Return every centre, in the order of the atoms."""
    graph = molecule.graph()
    held = _held_by_rings(molecule)
    found = []
    for atom in sorted(graph):
        around = sorted(graph[atom])
        pyramid = molecule.elements[atom] in _STABLE_PYRAMIDS or atom in held
        if len(around) == 4:
            found.append(Centre(atom, (around[0], around[1], around[2], around[3])))
        elif len(around) == 3 and pyramid:
            found.append(Centre(atom, (atom, around[0], around[1], around[2])))
    return found


def _held_by_rings(molecule: Molecule) -> set[int]:
    """Return the nitrogens in three-membered rings and those at the head of a small bridge."""
    nitrogens = {i for i, element in enumerate(molecule.elements) if element == "N"}
    rings = smallest_rings(molecule)
    in_rings = set().union(*(ring_bonds(molecule, ring) for ring in rings))
    small = [set(ring) for ring in bridged_rings(molecule) if len(ring) <= _LARGEST_HOLDING_RING]
    graph = molecule.graph()
    heads = {
        atom
        for atom in nitrogens.intersection(set().union(*small))
        if all(frozenset((atom, n)) in in_rings for n in graph[atom])
    }
    return heads | nitrogens.intersection(set().union(*(ring for ring in rings if len(ring) == 3)))


def inverting_atoms(molecule: Molecule) -> set[int]:
    """Return the atoms that turn inside out at room temperature: amines, and oxonium.

    A nitrogen that conjugates (amides, anilines) is flat and has one arrangement only.
    """
    graph = molecule.graph()
    centres = {centre.atom for centre in chirality_centres(molecule)}
    return {
        atom
        for atom in graph
        if molecule.elements[atom] in ("N", "O")
        and graph.degree(atom) == 3
        and is_tetrahedral(graph, atom)
        and atom not in centres
    }


def fixed_torsions(molecule: Molecule) -> list[TorsionAtoms]:
    """Return a torsion about each fixed bond, between the first neighbours on both sides.

    An oxygen or sulfur that ends a chain comes first, so that of an amide it is O-C-N-substituent.
    """
    graph = molecule.graph()
    small: set[frozenset[int]] = set()
    for ring in smallest_rings(molecule):
        if len(ring) <= _LARGEST_CIS_RING:
            small |= ring_bonds(molecule, ring)
    fixed = (double_bonds(molecule) | partial_double_bonds(molecule)) - small
    found = []
    for bond in sorted(fixed, key=sorted):
        first, second = sorted(bond, key=lambda i: (molecule.elements[i], i))
        before, after = _end(molecule, graph, first, second), _end(molecule, graph, second, first)
        if before is not None and after is not None:
            found.append((before, first, second, after))
    return found


def _end(molecule: Molecule, graph: nx.Graph, atom: int, other: int) -> int | None:
    def rank(i: int) -> tuple[bool, int]:
        return not (molecule.elements[i] in ("O", "S", "Se") and graph.degree(i) == 1), i

    return min((i for i in graph[atom] if i != other), key=rank, default=None)


def amide_torsions(molecule: Molecule) -> list[TorsionAtoms]:
    """Return (O or S, C, N, substituent of N) of each fixed bond of an amide or thioamide."""
    graph = molecule.graph()
    return [
        atoms
        for atoms in fixed_torsions(molecule)
        if molecule.elements[atoms[2]] == "N"
        and molecule.elements[atoms[0]] in ("O", "S", "Se")
        and graph.degree(atoms[0]) == 1
    ]


def triple_products(positions: NDArray[np.floating], centres: list[Centre]) -> NDArray[np.float64]:
    """Return the triple products [F, C] of conformations [F, N, 3]; their signs are chiralities."""
    index = np.array([centre.corners for centre in centres], dtype=int).reshape(-1, 4)
    corners = np.asarray(positions, dtype=float)[:, index]
    a, b, c = (corners[:, :, k] - corners[:, :, 0] for k in (1, 2, 3))
    products: NDArray[np.float64] = np.einsum("fij,fij->fi", a, np.cross(b, c))
    return products


def is_trans(positions: NDArray[np.floating], torsions: list[TorsionAtoms]) -> NDArray[np.bool_]:
    """Return which torsions of conformations [F, N, 3] are nearer to 180 degrees than to 0."""
    return np.abs(measure_torsions(positions, torsions)) > np.pi / 2


class Stereochemistry:
    """Remembers the chirality and the cis/trans bonds of a reference conformation.

    Parameters
    ----------
    molecule : Molecule
    reference : array [N, 3]
        Any length unit.
    """

    def __init__(self, molecule: Molecule, reference: NDArray[np.floating]) -> None:
        self.centres = chirality_centres(molecule)
        self.fixed = fixed_torsions(molecule)
        self._molecule = molecule
        self._positive = triple_products(reference[None], self.centres)[0] > 0
        self._trans = is_trans(reference[None], self.fixed)[0]

    def flipped(
        self, positions: NDArray[np.floating]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which centres [F, C] and fixed bonds [F, B] of conformations [F, N, 3] differ from
        the reference."""
        chirality = (triple_products(positions, self.centres) > 0) != self._positive
        return chirality, is_trans(positions, self.fixed) != self._trans

    def find_flips(self, positions: NDArray[np.floating]) -> list[str]:
        """Return what differs from the reference, in words; empty if nothing does.

        Parameters
        ----------
        positions : array [N, 3]
        """
        chirality, turned = self.flipped(positions[None])
        describe = self._molecule.describe_atom
        flips = [
            f"chirality of {describe(centre.atom)}"
            for centre, flip in zip(self.centres, chirality[0], strict=True)
            if flip
        ]
        flips += [
            f"cis/trans of the bond {describe(atoms[1])} - {describe(atoms[2])}"
            for atoms, flip in zip(self.fixed, turned[0], strict=True)
            if flip
        ]
        return flips
