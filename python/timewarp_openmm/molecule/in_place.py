"""A fragment in place: what a model moves among the other atoms of a structure."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx

from .graph import Molecule


@dataclass(frozen=True)
class Fragment:
    """Which atoms of a structure a model knows, and which of them it moves.

    The structure may hold other molecules, and pieces of molecules whose bonds lead out of it.

    Attributes
    ----------
    known : tuple of int
        Atoms joined by bonds, ascending: the molecule that the fragment belongs to, or what of it
        is in the structure.
    moved : tuple of int
        The fragment, ascending; if all atoms are moved that are known, it is a whole molecule.
    """

    known: tuple[int, ...]
    moved: tuple[int, ...]

    @property
    def own_moved(self) -> tuple[int, ...] | None:
        """The moved atoms, counted among the known ones; None for a whole molecule."""
        if self.moved == self.known:
            return None
        place = {atom: i for i, atom in enumerate(self.known)}
        return tuple(place[atom] for atom in self.moved)

    def molecule(self, structure: Molecule) -> Molecule:
        """Return the known atoms.

        Raises
        ------
        ValueError
            If they do not lie in one piece, or a moved atom is bonded to one that is not known.
        """
        _check(self, structure)
        return structure.part(self.known)


def _check(fragment: Fragment, structure: Molecule) -> None:
    known, moved = set(fragment.known), set(fragment.moved)
    if not moved or not moved <= known or not known <= set(range(structure.num_atoms)):
        raise ValueError(
            f"the fragment moves the atoms {sorted(moved)} of the known ones {sorted(known)}, in a "
            f"structure of {structure.num_atoms}; it must move some that are known and there"
        )
    graph = structure.graph()
    if not nx.is_connected(graph.subgraph(known)):
        raise ValueError("bonds do not join all atoms that a model of a fragment is to know")
    for atom in sorted(moved):
        if outside := sorted(set(graph[atom]) - known):
            raise ValueError(
                f"{structure.describe_atom(atom)} is to be moved, and "
                f"{structure.describe_atom(outside[0])}, which is bonded to it, is not known"
            )
