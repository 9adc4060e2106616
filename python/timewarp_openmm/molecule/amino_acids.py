"""Which amino acid a residue is, by its bonds: names of residues say it wrongly all too often.

The 20 and their atoms' names are those of OpenMM's own table of standard residues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import networkx as nx
from networkx.algorithms.isomorphism import GraphMatcher
from openmm import app

#: In Amber's names, the usual protonation states.
_NAMES = (
    "ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE",
    "LEU", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL",
)  # fmt: skip
#: Other names in use, of protonation states for the most part.
_SYNONYMS = {
    **dict.fromkeys(("HID", "HIE", "HIP", "HSD", "HSE", "HSP"), "HIS"),
    **dict.fromkeys(("CYX", "CYM"), "CYS"),
    **{"ASH": "ASP", "GLH": "GLU", "LYN": "LYS"},
}
#: Names of residues that have no side chain: caps of chains.
CAPS = frozenset({"ACE", "FOR", "NH2", "NHE", "NME"})
#: How many of the hydrogens that an atom can have are a matter of the protonation state.
_TITRATED = {
    ("ASP", "OD2"): 1,
    ("GLU", "OE2"): 1,
    ("CYS", "SG"): 1,
    ("HIS", "ND1"): 1,
    ("HIS", "NE2"): 1,
    ("LYS", "NZ"): 1,
    ("TYR", "OH"): 1,
    ("PRO", "N"): 1,
}
#: (residue, hydrogens on these atoms together): Amber's name of a state that is not the usual one.
_STATES: dict[str, tuple[tuple[tuple[str, ...], int, str], ...]] = {
    "ASP": ((("OD1", "OD2"), 1, "ASH"),),
    "GLU": ((("OE1", "OE2"), 1, "GLH"),),
    "LYS": ((("NZ",), 2, "LYN"),),
    "CYS": ((("SG",), 0, "CYM"),),
    "TYR": ((("OH",), 0, "TYM"),),
    "HIS": ((("ND1", "NE2"), 2, "HIP"), (("NE2",), 0, "HID"), (("ND1",), 0, "HIE")),
}
_BACKBONE = ("N", "CA", "C", "O")


@dataclass(frozen=True)
class Backbone:
    """Atoms of an amino acid's backbone, by their index in the topology."""

    nitrogen: int
    alpha: int
    carbon: int


@dataclass(frozen=True)
class AminoAcid:
    """An amino acid in a topology.

    Attributes
    ----------
    name : str
        Amber's name of it in its protonation state, CYX for a cysteine in a disulfide.
    backbone : Backbone
    atoms : dict of str to int
        Standard names of N, CA and the heavy atoms of the side chain, and where these are.
    missing : tuple of str
        Names of hydrogens that any protonation state has and that are not there.
    links : tuple of (int, int)
        Bonds from atoms of the side chain to other residues.
    """

    name: str
    backbone: Backbone
    atoms: dict[str, int]
    missing: tuple[str, ...]
    links: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Template:
    name: str
    heavy: nx.Graph
    hydrogens: Mapping[str, tuple[str, ...]]

    @property
    def elements(self) -> Counter[str]:
        return Counter(self.heavy.nodes[name]["element"] for name in self.heavy)


@cache
def _templates() -> dict[str, _Template]:
    path = Path(app.__file__).parent / "data" / "residues.xml"
    found = {}
    for residue in ElementTree.parse(path).getroot().iter("Residue"):
        name = residue.get("name", "")
        if name in _NAMES:
            bonds = [(bond.get("from", ""), bond.get("to", "")) for bond in residue.iter("Bond")]
            found[name] = _template(name, bonds)
    return found


def _template(name: str, bonds: list[tuple[str, str]]) -> _Template:
    heavy, hydrogens = nx.Graph(), dict[str, tuple[str, ...]]()
    for pair in bonds:
        a, b = sorted(pair, key=lambda atom: atom.startswith("H"))
        if {a, b} & {"C", "O", "OXT", "-C"} or b in ("H2", "H3"):
            continue
        if b.startswith("H"):
            hydrogens[a] = (*hydrogens.get(a, ()), b)
        else:
            heavy.add_edge(a, b)
    for atom in heavy:
        # Names of atoms of the 20 begin with their elements.
        heavy.nodes[atom].update(element=atom[0], role=atom if atom in ("N", "CA") else "")
    return _Template(name, heavy, hydrogens)


def find_backbone(residue: app.topology.Residue, graph: nx.Graph) -> Backbone | None:
    """Return the backbone of a residue, or None if it has none: it is no amino acid.

    Parameters
    ----------
    residue : openmm.app.topology.Residue
    graph : networkx.Graph
        Bonds of the whole topology; nodes carry `element` and `name`.
    """
    inside = {atom.index for atom in residue.atoms()}
    found = [
        Backbone(nitrogen, alpha, carbon)
        for alpha in sorted(inside)
        if graph.nodes[alpha]["element"] == "C"
        for nitrogen in _neighbours(graph, alpha, "N", inside)
        for carbon in _neighbours(graph, alpha, "C", inside)
        if _neighbours(graph, carbon, "O", inside)
    ]

    def likelihood(backbone: Backbone) -> tuple[int, bool, bool]:
        """By names, by what follows in the chain, and last by an oxygen that is a carbonyl's."""
        atoms = (backbone.nitrogen, backbone.alpha, backbone.carbon)
        names = sum(graph.nodes[i]["name"] == n for i, n in zip(atoms, _BACKBONE, strict=False))
        after = any(i not in inside for i in graph[backbone.carbon])
        oxygens = _neighbours(graph, backbone.carbon, "O", inside)
        return names, after, any(graph.degree[i] == 1 for i in oxygens)

    return max(found, key=likelihood, default=None)


def _neighbours(graph: nx.Graph, atom: int, element: str, inside: set[int]) -> list[int]:
    return sorted(i for i in graph[atom] if i in inside and graph.nodes[i]["element"] == element)


def identify(
    residue: app.topology.Residue, graph: nx.Graph, backbone: Backbone
) -> AminoAcid | None:
    """Return which of the 20 amino acids a residue is, or None."""
    inside = {atom.index for atom in residue.atoms()}
    heavy = _side_chain(graph, backbone, inside)
    elements = Counter(heavy.nodes[i]["element"] for i in heavy)
    for template in _templates().values():
        if template.elements != elements:
            continue
        atoms = _match(template, heavy)
        if atoms is not None:
            return _amino_acid(template, atoms, graph, backbone, inside)
    return None


def _match(template: _Template, heavy: nx.Graph) -> dict[str, int] | None:
    """Return where the template's atoms are; names decide between equivalent ones if they fit."""
    named = {heavy.nodes[i]["name"]: i for i in heavy}
    if set(named) == set(template.heavy) and len(heavy.edges) == len(template.heavy.edges):
        same = all(_same_atom(template.heavy.nodes[n], heavy.nodes[i]) for n, i in named.items())
        if same and all(heavy.has_edge(named[a], named[b]) for a, b in template.heavy.edges):
            return named
    matcher = GraphMatcher(template.heavy, heavy, node_match=_same_atom)
    return matcher.mapping if matcher.is_isomorphic() else None


def _same_atom(ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool:
    return (ours["element"], ours["role"]) == (theirs["element"], theirs["role"])


def _side_chain(graph: nx.Graph, backbone: Backbone, inside: set[int]) -> nx.Graph:
    """Return N, CA and the heavy atoms beyond, within the residue."""
    kept = [i for i in inside if i != backbone.carbon and graph.nodes[i]["element"] != "H"]
    part = graph.subgraph(kept)
    heavy = nx.Graph(part.subgraph(nx.node_connected_component(part, backbone.alpha)))
    roles = {backbone.nitrogen: "N", backbone.alpha: "CA"}
    nx.set_node_attributes(heavy, {i: roles.get(i, "") for i in heavy}, "role")
    return heavy


def _amino_acid(
    template: _Template,
    atoms: dict[str, int],
    graph: nx.Graph,
    backbone: Backbone,
    inside: set[int],
) -> AminoAcid:
    count = {
        name: sum(graph.nodes[i]["element"] == "H" for i in graph[atom])
        for name, atom in atoms.items()
    }
    missing: list[str] = []
    for name, hydrogens in template.hydrogens.items():
        needed = len(hydrogens) - _TITRATED.get((template.name, name), 0)
        if count[name] < needed:
            present = {graph.nodes[i]["name"] for i in graph[atoms[name]]}
            missing += [h for h in hydrogens if h not in present][: needed - count[name]]
    if template.name == "HIS" and count["ND1"] + count["NE2"] == 0:
        missing.append("HD1 or HE2")
    beyond = {name: atom for name, atom in atoms.items() if name not in ("N", "CA")}
    links = tuple(
        (atom, other) for atom in beyond.values() for other in graph[atom] if other not in inside
    )
    return AminoAcid(
        _state(template.name, count, graph, links), backbone, atoms, tuple(missing), links
    )


def _state(
    name: str, count: Mapping[str, int], graph: nx.Graph, links: tuple[tuple[int, int], ...]
) -> str:
    if name == "CYS" and any(graph.nodes[other]["element"] == "S" for _, other in links):
        return "CYX"
    if links:
        return name
    for atoms, hydrogens, state in _STATES.get(name, ()):
        if sum(count[atom] for atom in atoms) == hydrogens:
            return state
    return name


def missing_heavy_atoms(residue: app.topology.Residue) -> list[str]:
    """Return the names of the heavy atoms that a residue must have by its name, and has not.

    There are none where the name is not one of the 20 amino acids', or other atoms are there.
    """
    template = _templates().get(_SYNONYMS.get(residue.name, residue.name))
    if template is None:
        return []
    heavy = (a for a in residue.atoms() if a.element is not None and a.element.symbol != "H")
    present = {atom.name for atom in heavy}
    if not present <= {*_BACKBONE, "OXT", *template.heavy}:
        return []
    return [name for name in dict.fromkeys([*_BACKBONE, *template.heavy]) if name not in present]
