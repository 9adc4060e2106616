"""Fragments that no model can move in place, refused before time is spent on them."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from ..molecule.selection import is_water
from .systems import MolecularSystem

#: Atoms of a fragment. A flow makes all of them at once, and of more nothing is accepted.
MOST_ATOMS = 100


def check_fragment(
    whole: MolecularSystem, graph: nx.Graph, moved: Sequence[int], names: Sequence[str]
) -> None:
    """Refuse atoms that a model cannot move.

    Parameters
    ----------
    graph : networkx.Graph
        The bonds of the structure.
    moved : sequence of int
    names : sequence of str
        Of all atoms, for messages.
    """
    system, atoms = whole.system, list(whole.topology.atoms())
    if len(moved) > MOST_ATOMS:
        raise ValueError(
            f"--particles names {len(moved)} atoms, and a model of more than {MOST_ATOMS} at once "
            "is hardly ever accepted; name a part of them"
        )
    for atom in moved:
        if is_water(atoms[atom].residue):
            raise ValueError(
                f"--particles names {names[atom]}, which is water; dynamics move it, and it has no "
                "shape to draw"
            )
        if system.isVirtualSite(atom) or system.getParticleMass(atom)._value <= 0:
            raise ValueError(
                f"--particles names {names[atom]}, which is a virtual site or has no mass, so that "
                "no model can move it; leave it out, or give the particle its mass"
            )
    others = [atom for atom in moved if not nx.has_path(graph, moved[0], atom)]
    if others:
        raise ValueError(
            f"--particles names atoms of several molecules ({names[moved[0]]} and "
            f"{names[others[0]]}, which no bonds join); fit a model of each by itself, one serves "
            "all copies"
        )
    _check_anchors(graph, moved, names)


def _check_anchors(graph: nx.Graph, moved: Sequence[int], names: Sequence[str]) -> None:
    """Refuse a piece that hangs on what stays by more than one bond."""
    inside = set(moved)
    for piece in nx.connected_components(graph.subgraph(inside)):
        bonds = sorted((a, b) for a in piece for b in graph[a] if b not in inside)
        if len(bonds) > 1:
            (first, one), (second, other) = bonds[:2]
            raise ValueError(
                f"--particles names atoms between others that stay ({names[first]} is bonded to "
                f"{names[one]}, and {names[second]} to {names[other]}), so that moving them would "
                "tear the molecule apart; name what hangs on the rest by one bond, such as a side "
                "chain beyond its beta carbon, or the whole molecule"
            )


def check_kept(
    whole: MolecularSystem, moved: Sequence[int], atoms: Sequence[int], names: Sequence[str]
) -> None:
    """Refuse surroundings that a fit in place cannot have.

    Parameters
    ----------
    atoms : sequence of int
        All that are kept, the fragment's own included.
    """
    if len(atoms) == len(moved):
        raise ValueError(
            f"there is nothing around {names[moved[0]]} and what else --particles names; fit the "
            "molecule by itself, without --particles"
        )
    for atom in atoms:
        if whole.system.isVirtualSite(atom):
            raise ValueError(
                f"{names[atom]}, near the fragment, is a virtual site, which fits in place do not "
                "know yet; make the System with a model of water of three sites, such as TIP3P. "
                "The model serves Systems with the other water, too"
            )
