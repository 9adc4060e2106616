"""Which atom is placed from which: a Z-matrix made from the bond graph alone.

The atoms form a breadth-first tree whose root is a central atom *a*; two of its neighbours, *b* and
*c*, fix the frame. Every other atom is placed by a bond length to its parent, the angle at the
parent, and the torsion about the bond that leads to the parent, so that all atoms of one depth of
the tree can be placed together. Only the first child of an atom has a torsion of its own; its
siblings have offsets from it, which stay narrow while the bond turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import networkx as nx

from .graph import Molecule

#: A bond in a ring of at most this many atoms does not turn freely.
LARGEST_STIFF_RING = 7
#: Smaller rings have no second shape to pucker to.
SMALLEST_PUCKERED_RING = 5
#: Bonds that the commonest neutral form of an element has, double bonds counted twice.
_VALENCE = {"H": 1, "C": 4, "N": 3, "O": 2, "S": 2, "P": 3, "B": 3, "Si": 4, "Se": 2}
#: Atoms with three neighbours that do not turn inside out at room temperature.
_STABLE_PYRAMIDS = frozenset({"S", "P", "Se", "As"})
_REMEDY = "Restrict the moved atoms to one molecule without it, or use coordinates: cartesian."


class CoordinateKind(Enum):
    """How a coordinate is distributed, which decides how a flow transforms it."""

    BOND = "bond"
    ANGLE = "angle"
    #: Torsion about a bond that turns: lives on the whole circle.
    ROTOR = "rotor"
    #: Torsion about a single bond of a ring that flips between shapes: several narrow peaks.
    PUCKER = "pucker"
    #: Torsion in a flat ring, about a double or amide bond, or offset from a sibling: narrow.
    IMPROPER = "improper"


@dataclass(frozen=True)
class PlacedAtom:
    """One atom that is not a root, and the atoms it is placed from.

    Attributes
    ----------
    atom : int
    references : (int, int, int)
        Atoms p, q, r: the bond length is to p, the angle is atom-p-q, the torsion atom-p-q-r.
    level : int
        Depth in the tree of placements; all references have a lower level (roots: 0).
    kind : CoordinateKind
        ROTOR, PUCKER or IMPROPER: the kind of its torsion.
    sibling : int or None
        Atom whose torsion this atom's torsion is an offset from; it has the same references.
    offset : bool
        Whether the torsion is measured from another neighbour of p, so that 0 would put two atoms
        on one spot's side and never occurs. True for every atom with a sibling, and for the
        neighbours of the first root.
    handed : bool
        Whether the sign of the offset is fixed because p cannot turn inside out.
    """

    atom: int
    references: tuple[int, int, int]
    level: int
    kind: CoordinateKind
    sibling: int | None
    offset: bool
    handed: bool


@dataclass(frozen=True)
class ZMatrix:
    """Placement of every atom of a molecule.

    Attributes
    ----------
    num_atoms : int
        N.
    roots : (int, int, int)
        Atoms a, b, c; b and c are bonded to a.
    placed : tuple of PlacedAtom, length N - 3
        In order of their level.
    symmetric_rotors : tuple of tuple of int
        Groups of 2 or 3 atoms that are alike, carry nothing else and turn together (the hydrogens
        of a methyl group); the first one of each group has the torsion.
    """

    num_atoms: int
    roots: tuple[int, int, int]
    placed: tuple[PlacedAtom, ...]
    symmetric_rotors: tuple[tuple[int, ...], ...]

    @property
    def num_levels(self) -> int:
        return max(p.level for p in self.placed)

    @property
    def torsion_kinds(self) -> tuple[CoordinateKind, ...]:
        return tuple(p.kind for p in self.placed)

    @property
    def torsion_atoms(self) -> tuple[tuple[int, int, int, int], ...]:
        return tuple((p.atom, *p.references) for p in self.placed)


def build_zmatrix(molecule: Molecule) -> ZMatrix:
    """Make a Z-matrix for a connected molecule.

    Raises
    ------
    ValueError
        If there are fewer than four atoms, several molecules, or an atom whose neighbours lie on a
        straight line (alkynes, nitriles, azides), about which a torsion is undefined. The message
        names the atoms.
    """
    graph = molecule.graph()
    _check_connected(molecule, graph)
    _check_not_linear(molecule, graph)
    roots = _choose_roots(molecule, graph)
    placed = _place(molecule, graph, roots)
    return ZMatrix(molecule.num_atoms, roots, placed, _symmetric_rotors(molecule, graph, placed))


def _names(molecule: Molecule, atoms: list[int], most: int = 6) -> str:
    text = ", ".join(molecule.describe_atom(i) for i in atoms[:most])
    return text if len(atoms) <= most else f"{text} and {len(atoms) - most} more"


def _check_connected(molecule: Molecule, graph: nx.Graph) -> None:
    if molecule.num_atoms < 4:
        raise ValueError(
            f"internal coordinates need at least 4 atoms, but there are {molecule.num_atoms}: "
            f"{_names(molecule, list(graph))}. {_REMEDY}"
        )
    parts = sorted(nx.connected_components(graph), key=len, reverse=True)
    if len(parts) == 1:
        return
    loose = sorted(set(graph) - parts[0])
    raise ValueError(
        f"internal coordinates need one molecule, but bonds join the atoms to {len(parts)} "
        f"separate parts; not bonded to the largest: {_names(molecule, loose)}. {_REMEDY} "
        "If a bond is missing from the topology (a disulfide, CONECT records), add it."
    )


def _is_linear(graph: nx.Graph, atom: int) -> bool:
    """Whether an atom with two neighbours has them on a straight line."""
    if graph.degree(atom) != 2:
        return False
    element = graph.nodes[atom]["element"]
    if element == "C":
        return True
    # Azides, diazonium ions, isonitriles: an end atom with a triple or cumulated bond.
    ends = (n for n in graph[atom] if graph.degree(n) == 1)
    return element == "N" and any(graph.nodes[n]["element"] in ("C", "N") for n in ends)


def _check_not_linear(molecule: Molecule, graph: nx.Graph) -> None:
    for atom in graph:
        if _is_linear(graph, atom):
            first, second = sorted(graph[atom])
            raise ValueError(
                f"the angle {molecule.describe_atom(first)} - {molecule.describe_atom(atom)} - "
                f"{molecule.describe_atom(second)} is straight (alkyne, nitrile, azide or the "
                f"like), and torsions about a straight angle are undefined. {_REMEDY}"
            )


def _choose_roots(molecule: Molecule, graph: nx.Graph) -> tuple[int, int, int]:
    """Choose the heavy atom in the middle, outside rings where that costs no depth, and its
    two neighbours that lead to most atoms."""
    eccentricity = nx.eccentricity(graph)
    in_ring = set().union(*nx.cycle_basis(graph), set())

    def heavy(atom: int) -> bool:
        return bool(graph.nodes[atom]["element"] != "H")

    def rank(atom: int) -> tuple[bool, int, bool, int, int]:
        heavy_neighbours = sum(map(heavy, graph[atom]))
        too_few = min(heavy_neighbours, 2)
        return -too_few, eccentricity[atom], atom in in_ring, -heavy_neighbours, atom  # type: ignore[return-value]

    a = min((i for i in graph if graph.degree(i) >= 2), key=rank)

    def branch_size(atom: int) -> int:
        without = graph.copy()
        without.remove_node(a)
        return len(nx.node_connected_component(without, atom))

    b, c = sorted(graph[a], key=lambda n: (not heavy(n), -branch_size(n), n))[:2]
    return a, b, c


def _place(
    molecule: Molecule, graph: nx.Graph, roots: tuple[int, int, int]
) -> tuple[PlacedAtom, ...]:
    a, b, c = roots
    parent = dict(nx.bfs_predecessors(graph, a))
    size = _subtree_sizes(parent)
    stiff = _stiff_bonds(molecule, graph)
    puckering = _puckering_bonds(graph)
    children: dict[int, list[int]] = {i: [] for i in graph}
    for atom, its_parent in parent.items():
        if atom not in roots:
            children[its_parent].append(atom)

    level = dict.fromkeys(roots, 0)
    placed: list[PlacedAtom] = []
    wave: list[int] = [a, b, c]
    while wave:
        following: list[int] = []
        for p in wave:
            if p == a:
                references = (a, b, c)
            else:
                q = parent[p]
                r = parent[q] if q != a else (c if p == b else b)
                references = (p, q, r)
            # The child that leads to most atoms carries the torsion: heavy, and in a ring first.
            order = sorted(children[p], key=lambda n: (-size[n], n))
            depth = 1 + max(level[i] for i in references)
            bond = frozenset(references[:2])
            for rank, atom in enumerate(order):
                offset = p == a or rank > 0
                kind = CoordinateKind.ROTOR
                if offset or bond in stiff:
                    kind = CoordinateKind.IMPROPER
                if not offset and bond in puckering:
                    kind = CoordinateKind.PUCKER
                placed.append(
                    PlacedAtom(
                        atom=atom,
                        references=references,
                        level=depth,
                        kind=kind,
                        sibling=order[0] if p != a and rank > 0 else None,
                        offset=offset,
                        handed=offset and _keeps_its_hand(graph, p),
                    )
                )
                level[atom] = depth
            following.extend(order)
        wave = following
    placed.sort(key=lambda entry: entry.level)
    return tuple(placed)


def _subtree_sizes(parent: dict[int, int]) -> dict[int, int]:
    """Count the atoms below each atom, itself included; `parent` is in breadth-first order."""
    size = dict.fromkeys(parent, 1)
    for atom in reversed(list(parent)):
        if parent[atom] in size:
            size[parent[atom]] += size[atom]
    return size


def _keeps_its_hand(graph: nx.Graph, centre: int) -> bool:
    degree = graph.degree(centre)
    return degree == 4 or (degree == 3 and graph.nodes[centre]["element"] in _STABLE_PYRAMIDS)


def _stiff_bonds(molecule: Molecule, graph: nx.Graph) -> set[frozenset[int]]:
    """Return the bonds that do not turn: in small rings, amides and their like, double bonds."""
    unsaturated = [i for i in graph if _is_unsaturated(graph, i)]
    conjugated = graph.subgraph(unsaturated)
    doubles = len(nx.max_weight_matching(conjugated, maxcardinality=True))

    def is_double(u: int, v: int) -> bool:
        # In every assignment of double bonds there is one here.
        if not conjugated.has_edge(u, v):
            return False
        without = nx.Graph(conjugated)
        without.remove_edge(u, v)
        return len(nx.max_weight_matching(without, maxcardinality=True)) < doubles

    return {
        frozenset((u, v))
        for u, v in molecule.bonds
        if _smallest_ring(graph, u, v) <= LARGEST_STIFF_RING
        or _is_amide(graph, u, v)
        or _is_amide(graph, v, u)
        or is_double(u, v)
    }


def _puckering_bonds(graph: nx.Graph) -> set[frozenset[int]]:
    """Return the single bonds of rings that flip, as proline's or a cyclohexane's.

    A bond of two rings is held by both, and so are all bonds of bridged rings (adamantane), which
    share more than one.
    """
    rings = [_ring_bonds(graph, ring) for ring in nx.minimum_cycle_basis(graph)]
    bonds: set[frozenset[int]] = set()
    for ring in rings:
        shared = [ring & other for other in rings if other is not ring]
        size_fits = SMALLEST_PUCKERED_RING <= len(ring) <= LARGEST_STIFF_RING
        if size_fits and all(len(common) <= 1 for common in shared):
            bonds |= ring.difference(*shared)
    return {bond for bond in bonds if all(_is_tetrahedral(graph, atom) for atom in bond)}


def _ring_bonds(graph: nx.Graph, ring: list[int]) -> set[frozenset[int]]:
    return {frozenset(bond) for bond in graph.subgraph(ring).edges}


def _is_tetrahedral(graph: nx.Graph, atom: int) -> bool:
    """Whether bonds to the atom are single and no neighbour conjugates with its lone pair."""
    if graph.nodes[atom]["element"] in ("C", "Si"):
        return bool(graph.degree(atom) == 4)
    around = (atom, *graph[atom])
    return not any(_is_unsaturated(graph, i) for i in around)


def _is_unsaturated(graph: nx.Graph, atom: int) -> bool:
    return bool(graph.degree(atom) < _VALENCE.get(graph.nodes[atom]["element"], 0))


def _smallest_ring(graph: nx.Graph, u: int, v: int) -> float:
    """Return the number of atoms of the smallest ring that holds the bond; inf if there is none."""
    without = graph.copy()
    without.remove_edge(u, v)
    try:
        return float(nx.shortest_path_length(without, u, v) + 1)
    except nx.NetworkXNoPath:
        return float("inf")


def _is_amide(graph: nx.Graph, carbon: int, nitrogen: int) -> bool:
    """Whether this is the C-N bond of an amide, urea, amidine, guanidine or thioamide."""
    element = nx.get_node_attributes(graph, "element")
    if element[carbon] != "C" or element[nitrogen] != "N":
        return False
    if graph.degree(carbon) != 3 or graph.degree(nitrogen) != 3:
        return False
    others = [n for n in graph[carbon] if n != nitrogen]
    ends = [n for n in others if element[n] in ("O", "S") and graph.degree(n) == 1]
    # In a ring it would be an aminopyridine or the like, whose amine turns.
    nitrogens = [
        n for n in others if element[n] == "N" and _smallest_ring(graph, carbon, n) == float("inf")
    ]
    return bool(ends or nitrogens)


def _symmetric_rotors(
    molecule: Molecule, graph: nx.Graph, placed: tuple[PlacedAtom, ...]
) -> tuple[tuple[int, ...], ...]:
    groups = []
    for first in placed:
        if first.kind is not CoordinateKind.ROTOR:
            continue
        siblings = [p.atom for p in placed if p.sibling == first.atom]
        group = (first.atom, *siblings)
        alike = len({molecule.elements[i] for i in group}) == 1
        ends = all(graph.degree(i) == 1 for i in group)
        # A third neighbour that is no sibling (ring closure) would break the symmetry.
        complete = graph.degree(first.references[0]) == len(group) + 1
        if alike and ends and complete and len(group) in (2, 3):
            groups.append(group)
    return tuple(groups)
