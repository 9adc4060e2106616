"""Handedness and amide bonds: what a run must not have flipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .graph import Molecule


class Stereochemistry:
    """Remembers the handedness and the cis/trans amides of a reference conformation.

    Every atom with four neighbours counts as a centre: which of its hydrogens is which cannot
    change in real dynamics either.

    Parameters
    ----------
    molecule : Molecule
    reference : array [N, 3]
        Any length unit.
    """

    def __init__(self, molecule: Molecule, reference: NDArray[np.floating]) -> None:
        self._molecule = molecule
        self._centres = stereocentres(molecule)
        self._amides = amide_torsions(molecule)
        self._volumes = np.sign(_volumes(reference, self._centres))
        self._trans = _is_trans(reference, self._amides)

    def find_flips(self, positions: NDArray[np.floating]) -> list[str]:
        """Return what differs from the reference, in words; empty if nothing does.

        Parameters
        ----------
        positions : array [N, 3]
        """
        flips = []
        for centre, old, new in zip(
            self._centres, self._volumes, np.sign(_volumes(positions, self._centres)), strict=True
        ):
            if old != new:
                flips.append(f"handedness of {self._molecule.describe_atom(centre[0])}")
        for amide, was, now in zip(
            self._amides, self._trans, _is_trans(positions, self._amides), strict=True
        ):
            if was != now:
                name = self._molecule.describe_atom(amide[2])
                flips.append(f"cis/trans of the amide bond at {name}")
        return flips


def torsion(positions: NDArray[np.floating], atoms: tuple[int, int, int, int]) -> float:
    """Return a torsion in radians, in (-pi, pi], IUPAC sign.

    Examples
    --------
    >>> import numpy as np
    >>> square = np.array([[1.0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 1]])
    >>> round(float(np.degrees(torsion(square, (0, 1, 2, 3)))), 6)
    -90.0
    """
    a, b, c, d = (positions[i] for i in atoms)
    axis = (c - b) / np.linalg.norm(c - b)
    first = np.cross(axis, np.cross(a - b, axis))
    last = np.cross(axis, np.cross(d - c, axis))
    return float(np.arctan2(np.dot(np.cross(first, last), axis), np.dot(first, last)))


def backbone_torsions(molecule: Molecule) -> dict[str, tuple[int, int, int, int]]:
    """Return phi and psi torsions by name, as ``phi A:ALA2``, from atom names and bonds."""
    names = molecule.atom_names
    graph = molecule.graph()
    torsions = {}
    for alpha in range(molecule.num_atoms):
        if names[alpha] != "CA":
            continue
        residue = molecule.residue_label(alpha)
        n = [i for i in graph[alpha] if names[i] == "N"]
        c = [i for i in graph[alpha] if names[i] == "C"]
        if not n or not c:
            continue
        before = [i for i in graph[n[0]] if names[i] == "C" and i != alpha]
        after = [i for i in graph[c[0]] if names[i] == "N"]
        if before:
            torsions[f"phi {residue}"] = (before[0], n[0], alpha, c[0])
        if after:
            torsions[f"psi {residue}"] = (n[0], alpha, c[0], after[0])
    return torsions


def stereocentres(molecule: Molecule) -> list[tuple[int, int, int, int]]:
    """Return each atom with four neighbours, and the first three of them."""
    graph = molecule.graph()
    return [(i, *sorted(graph[i])[:3]) for i in range(molecule.num_atoms) if len(graph[i]) == 4]


def _volumes(
    positions: NDArray[np.floating], centres: list[tuple[int, int, int, int]]
) -> NDArray[np.floating]:
    index = np.array(centres, dtype=int).reshape(-1, 4)
    a, b, c = (positions[index[:, k]] - positions[index[:, 0]] for k in (1, 2, 3))
    volumes: NDArray[np.floating] = np.einsum("ij,ij->i", a, np.cross(b, c))
    return volumes


def amide_torsions(molecule: Molecule) -> list[tuple[int, int, int, int]]:
    """Return (O, C, N, substituent of N) of each amide bond."""
    graph = molecule.graph()
    amides = []
    for carbon in range(molecule.num_atoms):
        if molecule.elements[carbon] != "C" or len(graph[carbon]) != 3:
            continue
        oxygens = [i for i in graph[carbon] if molecule.elements[i] == "O" and len(graph[i]) == 1]
        nitrogens = [i for i in graph[carbon] if molecule.elements[i] == "N"]
        for nitrogen in nitrogens if oxygens else []:
            others = sorted(i for i in graph[nitrogen] if i != carbon)
            if others:
                amides.append((oxygens[0], carbon, nitrogen, others[0]))
    return amides


def _is_trans(
    positions: NDArray[np.floating], amides: list[tuple[int, int, int, int]]
) -> list[bool]:
    return [abs(torsion(positions, atoms)) > np.pi / 2 for atoms in amides]
