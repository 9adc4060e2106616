"""Matches the atoms of a topology with those of a model's molecule."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from networkx.algorithms.isomorphism import GraphMatcher

from ..contract import read_metadata
from .graph import Molecule, molecule_from_topology

if TYPE_CHECKING:
    from openmm import app


def match_atoms(model: str | PathLike[str], topology: app.Topology) -> list[int]:
    """Return the topology's atom index for each atom of a model.

    Raises
    ------
    ValueError
        If the topology is not that of the model's molecule; the message says how they differ.
    """
    metadata = read_metadata(str(model))
    found = molecule_from_topology(topology)
    if metadata.molecule is None:
        return list(range(found.num_atoms))
    return match_molecules(metadata.molecule, found)


def match_molecules(wanted: Molecule, found: Molecule) -> list[int]:
    """Return the index in `found` for each atom of `wanted`.

    Bonds and elements must agree. Where several assignments do (hydrogens of a methyl group), the
    one that keeps atom names is taken, then the one that keeps the order.

    Raises
    ------
    ValueError
        If the molecules differ.

    Examples
    --------
    >>> water = Molecule(("O", "H1", "H2"), ("HOH",) * 3, (0,) * 3, ("O", "H", "H"),
    ...                  (15.999, 1.008, 1.008), ((0, 1), (0, 2)))
    >>> other = Molecule(("H1", "O", "H2"), ("HOH",) * 3, (0,) * 3, ("H", "O", "H"),
    ...                  (1.008, 15.999, 1.008), ((0, 1), (1, 2)))
    >>> match_molecules(water, other)
    [1, 0, 2]
    """
    if wanted.num_atoms != found.num_atoms:
        raise ValueError(
            f"the model's molecule has {wanted.num_atoms} atoms, the topology {found.num_atoms}; "
            "pass the topology of that molecule alone"
        )
    if sorted(wanted.elements) != sorted(found.elements):
        raise ValueError(
            f"the model's molecule is {_formula(wanted)}, the topology {_formula(found)}"
        )
    if wanted.elements == found.elements and wanted.bonds == found.bonds:
        return list(range(wanted.num_atoms))
    for same in (_same_name, _same_element):
        matcher = GraphMatcher(wanted.graph(), found.graph(), node_match=same)
        # Swapping the substituents of a chiral centre also preserves the graph; atom names
        # tell them apart, and where they do not, heavy atoms must have one assignment only.
        assignments = _distinct_heavy_assignments(matcher, wanted)
        if len(assignments) == 1:
            return assignments[0]
        if len(assignments) > 1:
            raise ValueError(
                "the topology's atoms can be matched with the model's in more than one way; "
                "give them the model's atom names: " + " ".join(wanted.atom_names)
            )
    raise ValueError(
        f"the topology has the atoms of the model's molecule ({_formula(wanted)}) but other bonds"
    )


def _distinct_heavy_assignments(matcher: GraphMatcher, wanted: Molecule) -> list[list[int]]:
    found: dict[tuple[int, ...], list[int]] = {}
    for mapping in matcher.isomorphisms_iter():
        assignment = [mapping[i] for i in range(wanted.num_atoms)]
        heavy = tuple(a for a, e in zip(assignment, wanted.elements, strict=True) if e != "H")
        if heavy not in found or assignment < found[heavy]:
            found[heavy] = assignment
        if len(found) > 1:
            break
    return list(found.values())


def _same_name(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return bool(a["element"] == b["element"] and a["name"] == b["name"])


def _same_element(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return bool(a["element"] == b["element"])


def _formula(molecule: Molecule) -> str:
    counts: dict[str, int] = {}
    for element in molecule.elements:
        counts[element] = counts.get(element, 0) + 1
    return "".join(f"{e}{n if n > 1 else ''}" for e, n in sorted(counts.items()))
