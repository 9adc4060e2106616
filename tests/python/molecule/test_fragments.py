"""Where a fragment lies in other molecules."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import pytest
from molecules import make

from timewarp_openmm.molecule import Molecule
from timewarp_openmm.molecule.fragments import connected, find_fragments

#: Capped peptides by their residues, joined from left to right.
RESIDUES = {
    "ALA": "N[C@@H](C)C(=O)",
    "ILE": "N[C@@H]([C@@H](C)CC)C(=O)",
    "LEU": "N[C@@H](CC(C)C)C(=O)",
    "PRO": "N1CCC[C@H]1C(=O)",
    "THR": "N[C@@H]([C@H](O)C)C(=O)",
    "VAL": "N[C@@H](C(C)C)C(=O)",
}


def peptide(*residues: str) -> Molecule:
    molecule, _ = make("CC(=O)" + "".join(RESIDUES[name] for name in residues) + "NC", 1)
    return molecule


def valine() -> tuple[Molecule, list[int]]:
    """Return capped valine without the hydrogens of its caps, and what moves: beyond CB."""
    whole = peptide("VAL")
    graph = whole.graph()
    beta = next(
        i
        for i in graph
        if whole.elements[i] == "C" and [whole.elements[n] for n in graph[i]].count("C") == 3
    )
    alpha = next(n for n in graph[beta] if "N" in (whole.elements[m] for m in graph[n]))
    moved = {n for n in graph[beta] if n != alpha}
    moved |= {h for n in moved for h in graph[n] if whole.elements[h] == "H"}
    last = max(i for i in graph if whole.elements[i] == "C")
    ends = {0, last, *(n for n in graph[last] if whole.elements[n] == "N")}
    caps = {h for end in ends for h in graph[end] if whole.elements[h] == "H"}
    kept = [i for i in graph if i not in caps]
    return whole.part(kept), [kept.index(i) for i in sorted(moved)]


@pytest.mark.parametrize(
    ("residues", "places"),
    [
        (("VAL",), 1),
        (("ALA", "VAL", "ALA"), 1),
        (("VAL", "LEU", "VAL"), 2),
        (("ALA", "VAL", "PRO"), 1),
        (("ALA", "LEU", "ILE", "THR"), 0),
    ],
)
def test_a_side_chain_is_found_wherever_it_is(residues: tuple[str, ...], places: int) -> None:
    fragment, moved = valine()
    larger = peptide(*residues)
    graph = larger.graph()
    found = find_fragments(fragment, moved, graph)
    assert len(found) == places
    for place in found:
        assert len(set(place)) == fragment.num_atoms
        there = larger.part(place)
        assert sorted(there.elements) == sorted(fragment.elements)
        assert nx.is_isomorphic(fragment.graph(), there.graph())


def test_names_decide_which_context_atom_is_meant() -> None:
    """Of the two carbons on a proline's nitrogen, that of the chain."""
    fragment, moved = valine()
    last = max(i for i in range(fragment.num_atoms) if fragment.elements[i] == "C")
    names, residues = list(fragment.atom_names), list(fragment.residue_names)
    names[last], residues[last] = "C", "NME"
    fragment = replace(fragment, atom_names=tuple(names), residue_names=tuple(residues))
    graph = peptide("VAL", "PRO").graph()
    nitrogen = next(i for i in graph if _is_of_proline(graph, i))
    either = [n for n in graph[nitrogen] if len([m for m in graph[n] if _is(graph, m, "H")]) > 0]
    assert len(either) == 2
    for alpha in either:
        graph.nodes[alpha]["name"] = "CA"
        (found,) = find_fragments(fragment, moved, graph)
        assert [i for i in either if i in found] == [alpha]
        graph.nodes[alpha]["name"] = "CD"


def _is(graph: nx.Graph, node: int, element: str) -> bool:
    return bool(graph.nodes[node]["element"] == element)


def _is_of_proline(graph: nx.Graph, node: int) -> bool:
    return _is(graph, node, "N") and all(_is(graph, n, "C") for n in graph[node])


def test_a_ring_that_the_fragment_has_not_is_no_place() -> None:
    chain, _ = make("CCCCC", 1)
    fragment = chain.part(range(5))
    ring, _ = make("C1CCCC1", 1)
    assert find_fragments(fragment, [2], ring.part(range(5)).graph()) == []
    longer, _ = make("CCCCCC", 1)
    assert len(find_fragments(fragment, [2], longer.part(range(6)).graph())) == 2


def test_what_lies_between_comes_along() -> None:
    chain, _ = make("CCCCC", 1)
    assert connected(chain, [0, 3]) == [0, 1, 2, 3]
    assert connected(chain, [4]) == [4]
