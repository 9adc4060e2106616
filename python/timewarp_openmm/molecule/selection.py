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
#: Between the first residue's label and the last one's.
_TO = " to "


def select_atoms(topology: app.Topology, text: str) -> tuple[int, ...]:
    """Return the atoms that a text names, ascending.

    Parameters
    ----------
    topology : openmm.app.Topology
    text : str
        ``sidechain``: in each residue with atoms CA and CB, what bonds lead to from CB, which stays
        itself; ``sidechain of resSeq 45``: in the residues of which the rest selects an atom. Or
        indices, from 0, and ranges of them: ``4,7-9``. Or a selection in MDTraj's language:
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
            f"'{SIDE_CHAINS} of resSeq 45', indices such as 4,7-9, or a selection in "
            "MDTraj's language"
        ) from error
