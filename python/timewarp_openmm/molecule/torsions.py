"""Torsions: how they are measured, and those of a peptide's backbone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .graph import Molecule

#: Four atoms, the torsion about the bond (or line) between the middle two.
TorsionAtoms = tuple[int, int, int, int]


def measure_torsions(
    positions: NDArray[np.floating], torsions: Sequence[TorsionAtoms]
) -> NDArray[np.float64]:
    """Return torsions [F, R] in rad of conformations [F, N, 3], in (-pi, pi], IUPAC sign."""
    index = np.array(torsions, dtype=int).reshape(-1, 4)
    a, b, c, d = (np.asarray(positions, dtype=float)[:, index[:, k]] for k in range(4))
    axis = (c - b) / np.linalg.norm(c - b, axis=-1, keepdims=True)
    first = np.cross(axis, np.cross(a - b, axis))
    last = np.cross(axis, np.cross(d - c, axis))
    sine = (np.cross(first, last) * axis).sum(-1)
    angles: NDArray[np.float64] = np.arctan2(sine, (first * last).sum(-1))
    return angles


def torsion(positions: NDArray[np.floating], atoms: TorsionAtoms) -> float:
    """Return one torsion in rad of one conformation [N, 3].

    Examples
    --------
    >>> square = np.array([[1.0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 1]])
    >>> round(float(np.degrees(torsion(square, (0, 1, 2, 3)))), 6)
    -90.0
    """
    return float(measure_torsions(positions[None], [atoms])[0, 0])


def backbone_torsions(molecule: Molecule) -> dict[str, TorsionAtoms]:
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
