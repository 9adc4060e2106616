"""Chirality and cis/trans: what dynamics cannot change, so that a run must not have flipped it.

This is the one definition of it. The chart of a flow, exploring, starting conformations and the
analysis all take it from here; `bonding` says which atoms and bonds they are.

A *centre* is an atom that keeps the arrangement of its neighbours in space: one with four
neighbours, or one with three that does not turn inside out (sulfoxides, sulfonium, phosphines,
arsines, and a nitrogen in a three-membered ring or at the head of a bridge). Which of its hydrogens
is which counts, since dynamics cannot exchange them. The arrangement is the sign of a triple
product; it does not ask how flat or distorted a centre is. Amines are no centres: they invert.
A sulfur with four neighbours and a lone pair (SF4) is none either, nor are atoms with five (PF5):
they rearrange. Six neighbours in an octahedron (SF5 groups) do not; which of them lie opposite each
other only positions can tell, so that a reference conformation says what their arrangement is.

A *fixed bond* is a double bond or one like it (amides, thioamides, ureas, amidines, guanidines)
that no small ring holds; it is cis or trans.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from .bonding import perceive
from .graph import Molecule
from .in_place import Fragment
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


def octahedron_corners(
    molecule: Molecule, reference: NDArray[np.floating]
) -> dict[int, list[tuple[int, int, int, int]]]:
    """Return the atoms with six neighbours in an octahedron, with its eight corners.

    Parameters
    ----------
    reference : array [N, 3]

    Returns
    -------
    corners : dict of int to list of (int, int, int, int)
        The atom and three neighbours at right angles, of positive triple product.
    """
    graph = molecule.graph()
    found = {}
    for atom in (i for i in sorted(graph) if graph.degree(i) == 6):
        around = sorted(graph[atom])
        edges = reference[around] - reference[atom]
        edges = edges / np.linalg.norm(edges, axis=1, keepdims=True)
        opposite = [int(i) for i in np.argmin(edges @ edges.T, axis=1)]
        axes = [(i, j) for i, j in enumerate(opposite) if i < j and opposite[j] == i]
        if len(axes) != 3:
            continue
        corners = []
        for a, b, c in product(*axes):
            if np.dot(edges[a], np.cross(edges[b], edges[c])) < 0:
                b, c = c, b
            corners.append((atom, around[a], around[b], around[c]))
        found[atom] = corners
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
    a, b, c = _edges(positions, [centre.corners for centre in centres])
    products: NDArray[np.float64] = np.einsum("fij,fij->fi", a, np.cross(b, c))
    return products


def _edges(
    positions: NDArray[np.floating], corners: list[tuple[int, int, int, int]]
) -> list[NDArray[np.float64]]:
    """Return the three edges [F, C, 3] from the first of each four atoms to the others."""
    index = np.array(corners, dtype=int).reshape(-1, 4)
    found = np.asarray(positions, dtype=float)[:, index]
    return [found[:, :, k] - found[:, :, 0] for k in (1, 2, 3)]


def _octahedron_kept(
    positions: NDArray[np.floating], corners: list[tuple[int, int, int, int]]
) -> NDArray[np.bool_]:
    """Return in which conformations [F] all corners of an octahedron are what they were.

    In units of the edges a corner's triple product is 1 for an ideal octahedron, 0 or -1 once
    neighbours have changed places.
    """
    a, b, c = (
        edge / np.linalg.norm(edge, axis=2, keepdims=True) for edge in _edges(positions, corners)
    )
    kept: NDArray[np.bool_] = (np.einsum("fij,fij->fi", a, np.cross(b, c)) > 1 / 3).all(axis=1)
    return kept


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
    fragment : Fragment, optional
        Remembers only what moving this fragment could change.

    Attributes
    ----------
    atoms : list of int
        That keep the arrangement of their neighbours: A centres, octahedra among them. Of a
        fragment they, and those of `fixed`, are counted among the known atoms.
    fixed : list of TorsionAtoms
        About the B bonds that stay cis or trans.
    """

    def __init__(
        self,
        molecule: Molecule,
        reference: NDArray[np.floating],
        fragment: Fragment | None = None,
    ) -> None:
        self._known: list[int] | slice = slice(None)
        if fragment is not None:
            molecule, self._known = fragment.molecule(molecule), list(fragment.known)
            reference = reference[self._known]
        moved = set(range(molecule.num_atoms))
        if fragment is not None and fragment.own_moved is not None:
            moved = set(fragment.own_moved)
        graph = molecule.graph()
        self._centres = [c for c in chirality_centres(molecule) if moved & set(c.corners)]
        self._octahedra = {
            atom: corners
            for atom, corners in octahedron_corners(molecule, reference).items()
            if moved & {atom, *graph[atom]}
        }
        self.atoms = [*(centre.atom for centre in self._centres), *self._octahedra]
        self.fixed = [atoms for atoms in fixed_torsions(molecule) if moved & set(atoms)]
        self._molecule = molecule
        self._positive = triple_products(reference[None], self._centres)[0] > 0
        self._trans = is_trans(reference[None], self.fixed)[0]

    def flipped(
        self, positions: NDArray[np.floating]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which atoms [F, A] and fixed bonds [F, B] of conformations [F, N, 3] differ from
        the reference."""
        positions = positions[:, self._known]
        chirality = (triple_products(positions, self._centres) > 0) != self._positive
        octahedra = [~_octahedron_kept(positions, c) for c in self._octahedra.values()]
        arrangement = np.column_stack([chirality, *octahedra])
        return arrangement, is_trans(positions, self.fixed) != self._trans

    def find_flips(self, positions: NDArray[np.floating]) -> list[str]:
        """Return what differs from the reference, in words; empty if nothing does.

        Parameters
        ----------
        positions : array [N, 3]
        """
        arrangement, turned = self.flipped(positions[None])
        describe = self._molecule.describe_atom
        flips = [
            f"chirality of {describe(atom)}"
            for atom, flip in zip(self.atoms, arrangement[0], strict=True)
            if flip
        ]
        flips += [
            f"cis/trans of the bond {describe(atoms[1])} - {describe(atoms[2])}"
            for atoms, flip in zip(self.fixed, turned[0], strict=True)
            if flip
        ]
        return flips
