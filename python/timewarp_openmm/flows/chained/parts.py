"""Which atoms of a molecule are made one after the other."""

from __future__ import annotations

import networkx as nx

from ...molecule.equivalent_atoms import equivalent_leaves
from ...molecule.graph import Molecule
from .config import ChainedFlowConfig

#: Context of a chain comes before all of its parts.
_CONTEXT = -1


def ordered_parts(config: ChainedFlowConfig, molecule: Molecule) -> list[tuple[int, ...]]:
    """Return the atoms of each part in the order in which they are made.

    Raises
    ------
    ValueError
        If a part names atoms that there are not, nothing is left to come first, the first part of a
        whole molecule does not hang together, or equivalent atoms do not come together and last of
        what is bonded to their neighbour. The message names the atoms.
    """
    atoms = range(molecule.num_atoms)
    named = {atom for part in config.later_parts for atom in part}
    if unknown := sorted(named - set(atoms)):
        raise ValueError(
            f"later parts name the atoms {unknown}, but there are {molecule.num_atoms} atoms, "
            "counted from 0"
        )
    first = tuple(i for i in (atoms if config.moved is None else config.moved) if i not in named)
    if not first:
        raise ValueError("the later parts have all atoms, so that none comes first; leave some out")
    if config.moved is None:
        _check_connected(molecule, first)
    parts = [first, *config.later_parts]
    _check_equivalent(molecule, parts)
    return parts


def _check_connected(molecule: Molecule, first: tuple[int, ...]) -> None:
    pieces = sorted(nx.connected_components(molecule.graph().subgraph(first)), key=len)
    if len(pieces) > 1:
        loose = ", ".join(molecule.describe_atom(i) for i in sorted(pieces[0]))
        raise ValueError(
            f"the atoms that come first do not hang together: bonds join {loose} to the others "
            "through later parts only; let what is between come first as well, or all of it later"
        )


def _check_equivalent(molecule: Molecule, parts: list[tuple[int, ...]]) -> None:
    """Their labels mean nothing only where all of them are made at the same time, and what they are
    equivalent with respect to is there."""
    turn = {atom: number for number, part in enumerate(parts) for atom in part}
    graph = molecule.graph()
    for group in equivalent_leaves(molecule):
        moved = [atom for atom in group if atom in turn]
        centre = next(iter(graph[group[0]]))
        last = max(turn.get(atom, _CONTEXT) for atom in (centre, *graph[centre]))
        if any(turn[atom] != last for atom in moved):
            names = ", ".join(molecule.describe_atom(i) for i in moved)
            raise ValueError(
                f"{names} are equivalent and must be made together, and not before anything else "
                f"that is bonded to {molecule.describe_atom(centre)}; put them in the last of "
                "these parts"
            )
