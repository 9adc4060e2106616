"""Which atoms of a structure a text names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import networkx as nx

if TYPE_CHECKING:
    from openmm import app

#: Names the side chains of all residues, beyond their beta carbons.
SIDE_CHAINS = "sidechain"
#: Names the peptide plane between two alpha carbons, with what turns with it.
PLANE = "plane"
#: Between the first residue's label and the last one's.
_TO = " to "


def select_atoms(topology: app.Topology, text: str) -> tuple[int, ...]:
    """Return the atoms that a text names, ascending.

    Parameters
    ----------
    topology : openmm.app.Topology
    text : str
        ``sidechain``: in each residue with atoms CA and CB, what bonds lead to from CB, which stays
        itself; ``sidechain of resSeq 45``: in the residues of which the rest selects an atom.
        ``plane``: what lies between the two alpha carbons of the structure (see `peptide_plane`).
        Or indices, from 0, and ranges of them: ``4,7-9``. Or a selection in MDTraj's language:
        ``resSeq 2 and name CG``.

    Raises
    ------
    ValueError
        If it is no selection, or selects nothing.

    Examples
    --------
    >>> from timewarp_openmm.simulation.systems import named_molecule
    >>> select_atoms(named_molecule("alanine-dipeptide").topology, "sidechain")
    (11, 12, 13)
    """
    if text.strip() == SIDE_CHAINS:
        found = side_chains(topology)
    elif part := re.fullmatch(rf"{SIDE_CHAINS}\s+of\s+(.+)", text.strip()):
        chosen, atoms = set(select_atoms(topology, part[1])), list(topology.atoms())
        residues = {atoms[i].residue.index for i in chosen}
        found = {i for i in side_chains(topology) if atoms[i].residue.index in residues}
    elif text.strip() == PLANE:
        found = peptide_plane(topology)
    elif re.fullmatch(r"[\d\s,-]+", text):
        found = _numbered(topology, text)
    else:
        found = _selected(topology, text)
    if not found:
        raise ValueError(f"the selection {text!r} names no atom of the structure")
    return tuple(sorted(found))


def residue_label(residue: app.topology.Residue) -> str:
    """Return the name of a residue as `Molecule.residue_label` has it, such as ``A:VAL12A``."""
    number = f"{residue.id}{(residue.insertionCode or '').strip()}"
    return f"{(residue.chain.id or '').strip()}:{residue.name}{number}".removeprefix(":")


def span_label(residues: Iterable[app.topology.Residue]) -> str:
    """Return the name of some residues by the first and the last, such as ``A:ACE1 to A:NME5``."""
    ordered = sorted(residues, key=lambda residue: residue.index)
    return _TO.join(dict.fromkeys(residue_label(residue) for residue in (ordered[0], ordered[-1])))


def select_span(topology: app.Topology, label: str) -> list[app.topology.Residue]:
    """Return the residues of a `span_label`: the first one, the last one and those between.

    Raises
    ------
    ValueError
        If the first or the last is not there, or there several times.
    """
    ends = select_residues(topology, label.split(_TO))
    return list(topology.residues())[ends[0].index : ends[-1].index + 1]


def is_water(residue: app.topology.Residue) -> bool:
    """Tell water, also without hydrogens or with virtual sites, from other residues."""
    elements = sorted(a.element.symbol for a in residue.atoms() if a.element is not None)
    return elements in (["H", "H", "O"], ["O"])


def select_residues(
    topology: app.Topology, wanted: Sequence[str | app.topology.Residue]
) -> list[app.topology.Residue]:
    """Return residues by their labels (see `residue_label`), in the topology's order.

    Raises
    ------
    ValueError
        If there is none of a label, or several.
    """
    labelled: dict[str, list[app.topology.Residue]] = {}
    for residue in topology.residues():
        labelled.setdefault(residue_label(residue), []).append(residue)
    found = set()
    for entry in wanted:
        if not isinstance(entry, str):
            found.add(entry.index)
            continue
        there = labelled.get(entry, [])
        if not there:
            raise ValueError(_no_residue(entry, list(labelled)))
        if len(there) > 1:
            raise ValueError(
                f"{len(there)} residues of the structure are called {entry}; give its chains "
                "different identifiers"
            )
        found.add(there[0].index)
    return [residue for residue in topology.residues() if residue.index in found]


def _no_residue(label: str, labels: list[str]) -> str:
    near = get_close_matches(label, labels) or labels[:3]
    return f"the structure has no residue {label!r}; it has {', '.join(near)}, for instance"


def side_chains(topology: app.Topology) -> set[int]:
    """Return all atoms beyond beta carbons; a ring that closes over CA (proline) has none."""
    graph = nx.Graph((a.index, b.index) for a, b in topology.bonds())
    found: set[int] = set()
    for residue in topology.residues():
        atoms = {atom.name: atom.index for atom in residue.atoms()}
        if "CA" not in atoms or "CB" not in atoms:
            continue
        without = graph.copy()
        without.remove_node(atoms["CB"])
        beyond = {
            atom
            for start in graph[atoms["CB"]]
            if start != atoms["CA"]
            for atom in nx.node_connected_component(without, start)
        }
        if atoms["CA"] not in beyond:
            found |= beyond
    return found


def peptide_plane(topology: app.Topology) -> set[int]:
    """Return the atoms of the peptide plane between two alpha carbons, which stay, and what else is
    bonded to these but the nitrogen before the first and the carbonyl carbon behind the second.

    Hydrogens and side chains move along, because an alpha carbon with three neighbours that stay
    says where its fourth one is, and then nothing turns.

    Raises
    ------
    ValueError
        If there is not exactly one such plane (as between the two residues of Ace-Ala-Gly-NMe), or
        what would move belongs to more than its two residues, or to a ring over the backbone.
    """
    graph = nx.Graph((a.index, b.index) for a, b in topology.bonds())
    planes = _planes(topology, graph)
    if len(planes) != 1:
        raise ValueError(
            f"{PLANE!r} is the one peptide plane between two residues with atoms N, CA and C, and "
            f"the structure has {len(planes)} such planes; give a dipeptide between caps, or the "
            "indices of the atoms"
        )
    first, second = planes[0]
    found, atoms = set[int](), list(topology.atoms())
    for piece, ties in _pieces(graph, first, second):
        if len(ties) != (2 if first["C"] in piece else 1):
            label = residue_label(atoms[max(ties)].residue)
            raise ValueError(
                f"the peptide plane cannot turn, because {label} has a ring over its backbone"
            )
        found |= piece
    if others := found - {*first.values(), *second.values()}:
        label = residue_label(atoms[min(others)].residue)
        raise ValueError(f"the peptide plane cannot turn, because {label} would move with it")
    return found


def _planes(topology: app.Topology, graph: nx.Graph) -> list[tuple[dict[str, int], dict[str, int]]]:
    """Return pairs of residues that a peptide bond joins, each as indices of atoms by names."""
    residues = [{a.name: a.index for a in residue.atoms()} for residue in topology.residues()]
    amino = [residue for residue in residues if {"N", "CA", "C"} <= residue.keys()]
    owner = {residue["N"]: residue for residue in amino}
    return [
        (residue, owner[atom])
        for residue in amino
        for atom in sorted(graph[residue["C"]])
        if atom in owner
    ]


def _pieces(
    graph: nx.Graph, first: dict[str, int], second: dict[str, int]
) -> list[tuple[set[int], list[int]]]:
    """Return what is left on the alpha carbons of two residues without these and the neighbours
    that stay, as connected pieces, with the atoms of each that are bonded to what stays."""
    stay = {first["N"], first["CA"], second["CA"], second["C"]}
    without = graph.copy()
    without.remove_nodes_from(stay)
    starts = (set(graph[first["CA"]]) | set(graph[second["CA"]])) - stay
    pieces = [piece for piece in nx.connected_components(without) if piece & starts]
    return [(piece, [i for i in piece for n in graph[i] if n in stay]) for piece in pieces]


def _numbered(topology: app.Topology, text: str) -> set[int]:
    count, found = topology.getNumAtoms(), set[int]()
    for part in text.replace(",", " ").split():
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if ends is None:
            raise ValueError(f"{part!r} is neither the index of an atom nor a range such as 7-9")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if last >= count or first > last:
            raise ValueError(f"{part} are not atoms of 0 to {count - 1}")
        found |= set(range(first, last + 1))
    return found


def _selected(topology: app.Topology, text: str) -> set[int]:
    import mdtraj

    try:
        return {int(i) for i in mdtraj.Topology.from_openmm(topology).select(text)}
    except Exception as error:  # MDTraj raises many kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"cannot select {text!r}: {reason}; give {SIDE_CHAINS!r}, "
            f"'{SIDE_CHAINS} of resSeq 45', {PLANE!r}, indices such as 4,7-9, or a selection in "
            "MDTraj's language"
        ) from error
