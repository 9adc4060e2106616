"""Atoms that differ in their labels only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container

from .graph import Molecule


def equivalent_leaves(molecule: Molecule) -> list[list[int]]:
    """Return groups of equivalent atoms that carry nothing else: one element, one neighbour.

    Examples
    --------
    >>> methyl = Molecule(("C", "H1", "H2", "H3", "F"), ("X",) * 5, (0,) * 5,
    ...                   ("C", "H", "H", "H", "F"), (12.0, 1.0, 1.0, 1.0, 19.0),
    ...                   ((0, 1), (0, 2), (0, 3), (0, 4)))
    >>> equivalent_leaves(methyl)
    [[1, 2, 3]]
    """
    graph = molecule.graph()
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for atom in sorted(graph.nodes):
        if graph.degree(atom) == 1:
            groups[next(iter(graph[atom])), molecule.elements[atom]].append(atom)
    return [group for group in groups.values() if len(group) > 1]


def equivalent_pairs(
    molecule: Molecule, moved: Container[int] | None = None
) -> dict[int, list[int]]:
    """Return by the atom that they are bonded to, two equivalent atoms that carry nothing else.

    With ``moved``, only of atoms that are among these.
    """
    graph = molecule.graph()
    pairs: dict[int, list[int]] = {}
    for group in equivalent_leaves(molecule):
        moving = [atom for atom in group if moved is None or atom in moved]
        if len(moving) > 1:
            pairs.setdefault(next(iter(graph[group[0]])), moving[:2])
    return pairs
