"""Torsions of a molecule by name, and their values over frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ..molecule.graph import Molecule
from ..molecule.stereochemistry import amide_torsions
from ..molecule.torsions import backbone_torsions, measure_torsions
from ..molecule.zmatrix import straight_lines


@dataclass(frozen=True)
class Torsion:
    """A proper torsion about a bond that is in no ring, or about a straight line of bonds.

    Attributes
    ----------
    name : str
        "phi A:ALA2", "chi1 A:LEU2:CB", or the residue and the four atoms' names.
    atoms : tuple of 4 int
    kind : {"phi", "psi", "omega", "other"}
    fold : int
        How many equivalent hydrogens turn about the bond (3 for methyl), 1 for a true rotatable
        torsion. Rotations by 2 pi / fold only relabel them.
    """

    name: str
    atoms: tuple[int, int, int, int]
    kind: str
    fold: int = 1


def proper_torsions(molecule: Molecule) -> list[Torsion]:
    """Return a torsion for each bond in no ring that has neighbours on both sides, and one for a
    straight line of them (an alkyne).

    Backbone torsions come first, in the order of the residues; then side chains and others.
    """
    graph = molecule.graph()
    named = {frozenset(t[1:3]): (name, t) for name, t in _named_backbone(molecule).items()}
    found: list[Torsion] = []
    for b, c, beyond_b, beyond_c in _axes(molecule, graph):
        if graph.degree[b] < 2 or graph.degree[c] < 2:
            continue
        fold = max(_fold(graph, b, beyond_b), _fold(graph, c, beyond_c))
        if frozenset((b, c)) in named:
            name, atoms = named[frozenset((b, c))]
            found.append(Torsion(name, atoms, name.split()[0]))
        else:
            atoms = (_end(graph, b, beyond_b), b, c, _end(graph, c, beyond_c))
            found.append(Torsion(_name(molecule, graph, atoms, fold), atoms, "other", fold))
    order = {name: i for i, (name, _) in enumerate(named.values())}
    return sorted(found, key=lambda t: (order.get(t.name, len(order)), t.fold, t.atoms[1:3]))


def _axes(molecule: Molecule, graph: nx.Graph) -> list[tuple[int, int, int, int]]:
    """Return the atoms b and c of each bond in no ring, or at the ends of a straight line, and the
    neighbour of each in the direction of the other."""
    lines = [line for line in straight_lines(molecule) if len(line) % 2 == 0]
    within = {frozenset(bond) for line in straight_lines(molecule) for bond in pairwise(line)}
    axes = [(b, c, c, b) for b, c in nx.bridges(graph) if frozenset((b, c)) not in within]
    axes += [(line[0], line[-1], line[1], line[-2]) for line in lines]
    return sorted(
        axis if axis[0] < axis[1] else (axis[1], axis[0], axis[3], axis[2]) for axis in axes
    )


def true_torsions(torsions: Sequence[Torsion]) -> list[Torsion]:
    """Return the torsions whose rotation does more than relabel like hydrogens."""
    return [torsion for torsion in torsions if torsion.fold == 1]


def folded_torsions(
    positions: NDArray[np.floating], torsions: Sequence[Torsion]
) -> NDArray[np.float32]:
    """Return torsions [F, T] in rad of frames [F, N, 3], in [-pi, pi].

    Those that turn like hydrogens are given modulo their fold.
    """
    angles = measure_torsions(positions, [torsion.atoms for torsion in torsions])
    period = 2 * np.pi / np.array([torsion.fold for torsion in torsions])
    folded: NDArray[np.float64] = angles - period * np.round(angles / period)
    return folded.astype(np.float32)


def ramachandran_columns(torsions: Sequence[Torsion]) -> list[tuple[str, int, int]]:
    """Return (residue, column of phi, column of psi) of each residue that has both."""
    columns = {torsion.name: i for i, torsion in enumerate(torsions)}
    return [
        (name.removeprefix("phi "), i, columns[name.replace("phi ", "psi ", 1)])
        for name, i in columns.items()
        if name.startswith("phi ") and name.replace("phi ", "psi ", 1) in columns
    ]


def _named_backbone(molecule: Molecule) -> dict[str, tuple[int, int, int, int]]:
    torsions = backbone_torsions(molecule)
    graph = molecule.graph()
    for _, carbon, nitrogen, _ in amide_torsions(molecule):
        before = [i for i in graph[carbon] if molecule.elements[i] == "C"]
        after = [i for i in graph[nitrogen] if molecule.elements[i] == "C" and i != carbon]
        # The peptide bond only: a side chain's amide has no carbon beyond its nitrogen.
        if before and after and molecule.atom_names[carbon] == "C":
            residue = molecule.residue_label(nitrogen)
            torsions[f"omega {residue}"] = (before[0], carbon, nitrogen, after[0])
    return torsions


def _fold(graph: nx.Graph, atom: int, axis: int) -> int:
    others = [i for i in graph[atom] if i != axis]
    alike = len(others) > 1 and all(graph.nodes[i]["element"] == "H" for i in others)
    return len(others) if alike else 1


def _end(graph: nx.Graph, atom: int, axis: int) -> int:
    others = [i for i in graph[atom] if i != axis]
    return int(min(others, key=lambda i: (graph.nodes[i]["element"] == "H", i)))


def _name(molecule: Molecule, graph: nx.Graph, atoms: tuple[int, int, int, int], fold: int) -> str:
    b, c = atoms[1:3]
    residue = molecule.residue_label(b)
    alphas = [
        i
        for i in graph
        if molecule.atom_names[i] == "CA"
        and molecule.residue_indices[i] == molecule.residue_indices[b]
    ]
    same = molecule.residue_indices[b] == molecule.residue_indices[c]
    if fold == 1 and same and alphas:
        depth = [nx.shortest_path_length(graph, alphas[0], i) for i in (b, c)]
        far = b if depth[0] > depth[1] else c
        # A carboxylate at the end of a chain hangs on the alpha carbon, and is no side chain.
        is_backbone = molecule.atom_names[far] in ("C", "N")
        has_hydrogen = "H" in (molecule.elements[atoms[0]], molecule.elements[atoms[3]])
        if min(depth) < 4 and not is_backbone and not has_hydrogen:
            return f"chi{min(depth) + 1} {residue}:{molecule.atom_names[far]}"
    return f"{residue} " + "-".join(molecule.atom_names[i] for i in atoms)


def count_crossings(angle: NDArray[np.floating], low: float = 0.0, high: float = 2.4) -> int:
    """Count how often a torsion goes from outside the window (low, high) to inside or back.

    Parameters
    ----------
    angle : array [F], radians
    low, high : float
        The window; the default is the basin phi > 0 of a dipeptide, between its two barriers.

    Examples
    --------
    >>> count_crossings(np.array([-1.0, 1.0, 1.1, -2.0, -1.5, 1.0]))
    3
    """
    inside = (angle > low) & (angle < high)
    return int(np.count_nonzero(inside[1:] != inside[:-1]))
