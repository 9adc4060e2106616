"""Chirality and cis/trans: what dynamics cannot change, so that a run must not have flipped it.

This is the one definition of it. The chart of a flow, exploring, starting conformations and the
analysis all take it from here; `bonding` says which atoms and bonds they are.

A *centre* is an atom that keeps the arrangement of its neighbours in space: one with four
neighbours, or one with three that does not turn inside out (sulfoxides, sulfonium, phosphines,
arsines, and a nitrogen in a three-membered ring or at the head of a bridge). Which of its hydrogens
is which counts, since dynamics cannot exchange them. The arrangement is the sign of a triple
product; it does not ask how flat or distorted a centre is. Amines are no centres: they invert.
Atoms with more than four neighbours are none either, nor is a sulfur with four and a lone pair
(SF4): a triple product does not describe them.

A *fixed bond* is a double bond or one like it (amides, thioamides, ureas, amidines, guanidines)
that no small ring holds; it is cis or trans.
"""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from .bonding import perceive
from .graph import Molecule
from .torsions import TorsionAtoms, measure_torsions


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
    found = []
    for atom in sorted(perceive(molecule).centres):
        around = sorted(graph[atom])
        corners = around if len(around) == 4 else [atom, *around]
        found.append(Centre(atom, (corners[0], corners[1], corners[2], corners[3])))
    return found


def fixed_torsions(molecule: Molecule) -> list[TorsionAtoms]:
    """Return a torsion about each fixed bond, between the first neighbours on both sides.

    An oxygen or sulfur that ends a chain comes first, so that of an amide it is O-C-N-substituent.
    """
    graph = molecule.graph()
    found = []
    for bond in sorted(perceive(molecule).cis_trans, key=sorted):
        first, second = sorted(bond, key=lambda i: (molecule.elements[i], i))
        before, after = _end(molecule, graph, first, second), _end(molecule, graph, second, first)
        found.append((before, first, second, after))
    return found


def _end(molecule: Molecule, graph: nx.Graph, atom: int, other: int) -> int:
    def rank(i: int) -> tuple[bool, int]:
        return not (molecule.elements[i] in ("O", "S", "Se") and graph.degree(i) == 1), i

    return int(min((i for i in graph[atom] if i != other), key=rank))


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
