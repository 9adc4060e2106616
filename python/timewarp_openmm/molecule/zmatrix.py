"""Which atom is placed from which: a Z-matrix made from the bond graph alone.

The atoms form a breadth-first tree whose root is a central atom *a*; two of its neighbours, *b* and
*c*, fix the frame. Every other atom is placed by a bond length to its parent, the angle at the
parent, and a torsion about the bond that leads to the parent, so that all atoms of one depth of
the tree can be placed together. Only the first child of an atom has a torsion of its own; its
siblings have offsets from it, which hardly change while the bond turns.

Where only a part of the atoms is placed, the others are its *context*: the trees grow from them,
and the first atom of a tree is placed from the context atom that it is bonded to and two more near
that.

Atoms can be *absent*: those that something else makes later, which nothing is placed from. What
bonds turn, which atoms are equivalent and which keep the arrangement of their neighbours is still
that of the whole molecule.

Through a straight angle (an alkyne, a nitrile) nothing can be said about a torsion. What lies
beyond it is placed from an atom aside of the line, a neighbour of the atom where the line begins,
and turns about the line as a whole.

A ring of up to seven atoms whose bonds all flip is placed by triangles (`ring_triangles`). Any
other ring is a chain of torsions whose last bond is left out of the tree, so that torsions about
double bonds are coordinates. What else is bonded to an atom at its open end is placed by its
offset from the ring's other end. Either way a ring of n atoms has n - 3 angles of its own, as many
as it has ways to pucker.

Two moved atoms between two context atoms, which can turn as a bridge, are placed about the axis of
the latter (`bridges`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn

import networkx as nx

from .bonding import perceive
from .bridges import turning_bridges
from .graph import Molecule
from .puckering import puckering_bonds
from .ring_triangles import ring_triangles
from .rings import ring_bonds, smallest_rings
from .torsions import TorsionAtoms

#: A bond in a ring of at most this many atoms does not turn freely.
LARGEST_STIFF_RING = 7
#: Larger rings close too seldom when their torsions are drawn for a chain.
LARGEST_RING = 12
_REMEDY = "Restrict the moved atoms to one molecule without it, or use coordinates: cartesian."


class CoordinateKind(Enum):
    """How a torsion is distributed, which decides how a flow transforms it."""

    #: About a bond that turns: anywhere on the circle.
    ROTATABLE = "rotatable"
    #: Flap of a ring that flips between shapes, or torsion about a bond of it: several peaks on the
    #: circle.
    PUCKER = "pucker"
    #: Offset at an atom that turns inside out, such as an amine: two peaks on the circle.
    INVERSION = "inversion"
    #: In a flat or small ring, about a double or amide bond, or offset from a sibling: one stiff
    #: peak.
    IMPROPER = "improper"

    @property
    def is_circular(self) -> bool:
        """Whether it has to be transformed on the circle."""
        return self is not CoordinateKind.IMPROPER


@dataclass(frozen=True)
class PlacedAtom:
    """One atom that is not a root, and the atoms it is placed from.

    Attributes
    ----------
    atom : int
    references : (int, int, int)
        Atoms p, q, r: the bond length is to p, the angle is atom-p-q, the torsion atom-p-q-r. In
        triangles of rings p need not be bonded to the atom, nor q to p, and in bridges q is not.
    level : int
        Depth in the tree of placements; all references have a lower level (roots: 0).
    kind : CoordinateKind
        Of its torsion.
    sibling : int or None
        Atom whose torsion this atom's torsion is an offset from; it has the same references.
    """

    atom: int
    references: tuple[int, int, int]
    level: int
    kind: CoordinateKind
    sibling: int | None


@dataclass(frozen=True)
class Octahedron:
    """An atom with six neighbours, of which five are equivalent (SF5).

    Which of the five lies opposite of the sixth, only positions can tell. It has to be placed
    from one of the others, since its torsion about the bond to the sixth is undefined.

    Attributes
    ----------
    centre, sixth : int
    around : (int, int, int, int)
    opposite : int
    """

    centre: int
    sixth: int
    around: tuple[int, ...]
    opposite: int


@dataclass(frozen=True)
class ZMatrix:
    """Placement of every atom of a molecule, or of a part of them.

    Attributes
    ----------
    num_atoms : int
        N.
    roots : (int, int, int)
        Atoms a, b, c; b and c are bonded to a. Of a part they are the context atoms from which the
        first atom is placed.
    placed : tuple of PlacedAtom
        In order of their level: all atoms but the roots and absent ones, or the part.
    context : tuple of int
        The atoms that stay, the roots first; empty where there are none.
    symmetric_torsions : tuple of tuple of int
        Groups of 2 to 4 equivalent atoms that carry nothing else and turn together (the hydrogens
        of a methyl group, the fluorines around an SF5 group); the first one of each group has the
        torsion.
    octahedra : tuple of Octahedron
    absent : tuple of int
        Atoms that are neither placed nor looked at.
    """

    num_atoms: int
    roots: tuple[int, int, int]
    placed: tuple[PlacedAtom, ...]
    symmetric_torsions: tuple[tuple[int, ...], ...]
    octahedra: tuple[Octahedron, ...]
    context: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()

    @property
    def num_levels(self) -> int:
        return max(p.level for p in self.placed)

    @property
    def torsion_kinds(self) -> tuple[CoordinateKind, ...]:
        return tuple(p.kind for p in self.placed)

    @property
    def torsion_atoms(self) -> tuple[TorsionAtoms, ...]:
        return tuple((p.atom, *p.references) for p in self.placed)


def build_zmatrix(
    molecule: Molecule, moved: Sequence[int] | None = None, absent: Sequence[int] = ()
) -> ZMatrix:
    """Make a Z-matrix for a connected molecule, or for a part of one.

    Parameters
    ----------
    molecule : Molecule
    moved : sequence of int, optional
        The atoms to place; by default all but the absent ones.
    absent : sequence of int
        Atoms that are made later.

    Raises
    ------
    ValueError
        If there are fewer than four atoms, several molecules, a ring of more than `LARGEST_RING`
        atoms, an atom with more than four neighbours, a straight angle in a ring, or cumulated
        double bonds between two atoms with further neighbours (allenes, carbodiimides). Of a part
        this is asked of the atoms that its placement needs, among which no angle may be straight,
        and each of its atoms must be joined by bonds to context atoms that it can be placed from.
        The message names the atoms.
    """
    graph = molecule.graph()
    graph.remove_nodes_from(absent)
    if moved is not None and len(set(moved)) < len(graph):
        return _build_part(molecule, graph, set(moved), tuple(sorted(absent)))
    _check_connected(molecule, graph)
    _check_lines(molecule, graph)
    _check_not_hypervalent(molecule, set(graph))
    _check_rings(molecule, set(graph))
    roots = _choose_roots(molecule, graph)
    a = roots[0]
    tree = _Tree(
        dict(nx.bfs_predecessors(graph, a)), nx.single_source_shortest_path_length(graph, a)
    )
    placement = _Placement(molecule, graph, tree, roots)
    placed = placement.atoms()
    return ZMatrix(
        molecule.num_atoms,
        roots,
        placed,
        _symmetric_torsions(molecule, placed),
        placement.octahedra,
        absent=tuple(sorted(absent)),
    )


def _build_part(
    molecule: Molecule, graph: nx.Graph, moved: set[int], absent: tuple[int, ...]
) -> ZMatrix:
    if not moved or not moved <= set(graph):
        raise ValueError(
            f"moved must name atoms of 0 to {molecule.num_atoms - 1}, got {sorted(moved)}"
        )
    whole = molecule.graph()
    tree = _grow_from_context(molecule, graph, moved)
    if crowded := [atom for atom in tree.anchors if whole.degree(atom) > 4]:
        raise ValueError(
            f"{molecule.describe_atom(crowded[0])} has {whole.degree(crowded[0])} neighbours, and "
            "what is bonded to it cannot be moved while it stays; move it as well, or leave it all"
        )
    if partial := [i for i in moved if _is_octahedron(whole, i) and len(set(whole[i]) & moved) < 5]:
        raise ValueError(
            f"what is bonded to {molecule.describe_atom(partial[0])} must be moved together with it"
        )
    context = [atom for atom in sorted(graph) if atom not in moved]
    placement = _Placement(molecule, graph, tree, tuple(context))
    placed = placement.atoms()
    needed = moved.union(*(set(p.references[:2]) for p in placed))
    _check_not_linear(molecule, needed)
    _check_not_hypervalent(molecule, needed)
    _check_rings(molecule, moved)
    symmetric = _symmetric_torsions(molecule, placed)
    roots = placed[0].references
    ordered = (*roots, *(atom for atom in context if atom not in roots))
    return ZMatrix(
        molecule.num_atoms, roots, placed, symmetric, placement.octahedra, ordered, absent
    )


def _names(molecule: Molecule, atoms: list[int], most: int = 6) -> str:
    text = ", ".join(molecule.describe_atom(i) for i in atoms[:most])
    return text if len(atoms) <= most else f"{text} and {len(atoms) - most} more"


def _check_connected(molecule: Molecule, graph: nx.Graph) -> None:
    if len(graph) < 4:
        raise ValueError(
            f"internal coordinates need at least 4 atoms, but there are {len(graph)}: "
            f"{_names(molecule, list(graph))}. {_REMEDY}"
        )
    parts = sorted(nx.connected_components(graph), key=len, reverse=True)
    if len(parts) == 1:
        return
    loose = sorted(set(graph) - parts[0])
    raise ValueError(
        f"internal coordinates need one molecule, but bonds join the atoms to {len(parts)} "
        f"separate parts; not bonded to the largest: {_names(molecule, loose)}. {_REMEDY} "
        "If a bond is missing from the topology (a disulfide, CONECT records), add it. Of several "
        "molecules, one is fitted in place (fit --particles)."
    )


def _check_not_linear(molecule: Molecule, atoms: set[int]) -> None:
    for atom in sorted(atoms & perceive(molecule).linear):
        _refuse_straight(molecule, atom, "and what is to be moved would be placed through it")


def _refuse_straight(molecule: Molecule, atom: int, why: str) -> NoReturn:
    first, second = sorted(molecule.graph()[atom])
    raise ValueError(
        f"the angle {molecule.describe_atom(first)} - {molecule.describe_atom(atom)} - "
        f"{molecule.describe_atom(second)} is straight, {why}. {_REMEDY}"
    )


def _check_lines(molecule: Molecule, graph: nx.Graph) -> None:
    """Refuse straight angles that nothing aside of their line can be placed through."""
    linear, whole = perceive(molecule).linear, molecule.graph()
    in_rings = set().union(*smallest_rings(molecule))
    for line in straight_lines(molecule):
        if linear & set(line) & in_rings:
            _refuse_straight(molecule, line[1], "and in a ring")
        further = [end for end in (line[0], line[-1]) if whole.degree(end) > 1]
        if len(further) == 2 and len(line) % 2:
            _refuse_straight(
                molecule,
                line[1],
                "between cumulated double bonds (allene, carbodiimide or the like), which turn by "
                "isomerising",
            )
    if not any(graph.degree(i) > 1 and i not in linear for i in graph):
        _refuse_straight(molecule, min(linear), "and there is nothing aside of its line")


def straight_lines(molecule: Molecule) -> list[tuple[int, ...]]:
    """Return the lines of atoms through straight angles, with the atoms at both ends.

    Examples
    --------
    Of but-2-yne it is all of its carbons: 0, 1, 2, 3.
    """
    graph, linear = molecule.graph(), perceive(molecule).linear
    lines = []
    for group in nx.connected_components(graph.subgraph(linear)):
        ends = sorted((n, i) for i in group for n in graph[i] if n not in group)
        if len(ends) != 2:
            continue  # a ring of nothing else, which no molecule is
        (first, begin), (last, end) = ends
        lines.append((first, *nx.shortest_path(graph.subgraph(group), begin, end), last))
    return sorted(lines)


def _check_not_hypervalent(molecule: Molecule, atoms: set[int]) -> None:
    graph = molecule.graph()
    see_saws = perceive(molecule).see_saws
    crowded = [
        i
        for i in sorted(atoms)
        if i in see_saws or (graph.degree(i) > 4 and not _is_octahedron(graph, i))
    ]
    if crowded:
        raise ValueError(
            f"{molecule.describe_atom(crowded[0])} has {graph.degree(crowded[0])} neighbours; two "
            f"of them lie opposite each other, and a torsion about such a line is undefined. "
            f"{_REMEDY}"
        )


def _is_octahedron(graph: nx.Graph, atom: int) -> bool:
    """Whether five of the atom's six neighbours are equivalent and carry nothing else."""
    leaves = [n for n in graph[atom] if graph.degree(n) == 1]
    equivalent = len({graph.nodes[n]["element"] for n in leaves}) == 1
    return len(graph[atom]) == 6 and len(leaves) == 5 and equivalent


def _check_rings(molecule: Molecule, atoms: set[int]) -> None:
    rings = sorted((ring for ring in smallest_rings(molecule) if atoms & set(ring)), key=len)
    largest = list(rings[-1]) if rings else []
    if len(largest) > LARGEST_RING:
        raise ValueError(
            f"the ring of {_names(molecule, largest)} has {len(largest)} atoms; rings of more than "
            f"{LARGEST_RING} hardly ever close when their torsions are drawn one by one, so no "
            f"proposal would be accepted. {_REMEDY}"
        )


def _choose_roots(molecule: Molecule, graph: nx.Graph) -> tuple[int, int, int]:
    """Choose the heavy atom in the middle, outside rings where that costs no depth, and its
    two neighbours that lead to most atoms."""
    eccentricity, whole = nx.eccentricity(graph), molecule.graph()
    linear = perceive(molecule).linear
    in_ring = set().union(*nx.cycle_basis(graph), set())

    def heavy(atom: int) -> bool:
        return bool(graph.nodes[atom]["element"] != "H")

    def rank(atom: int) -> tuple[bool, bool, int, bool, int, int]:
        heavy_neighbours = sum(map(heavy, graph[atom]))
        too_few = min(heavy_neighbours, 2)
        crowded = whole.degree(atom) > 4
        return crowded, -too_few, eccentricity[atom], atom in in_ring, -heavy_neighbours, atom  # type: ignore[return-value]

    a = min((i for i in graph if graph.degree(i) >= 2 and i not in linear), key=rank)

    def branch_size(atom: int) -> int:
        without = graph.copy()
        without.remove_node(a)
        return len(nx.node_connected_component(without, atom))

    b, c = sorted(graph[a], key=lambda n: (not heavy(n), -branch_size(n), n))[:2]
    return a, b, c


@dataclass(frozen=True)
class _Tree:
    """How bonds lead to each atom that is to be placed.

    Attributes
    ----------
    parent : dict
        In breadth-first order.
    depth : dict
        Bonds from the root, or from the context.
    anchors : dict
        Of each context atom that is a parent, the two more atoms that place its children.
    """

    parent: dict[int, int]
    depth: dict[int, int]
    anchors: dict[int, tuple[int, int]] = field(default_factory=dict)


def _grow_from_context(molecule: Molecule, graph: nx.Graph, moved: set[int]) -> _Tree:
    """Return the trees that grow from context atoms, all at the same time.

    Raises
    ------
    ValueError
        If an atom is not reached, or has too few context atoms to be placed from.
    """
    wave = [atom for atom in sorted(graph) if atom not in moved]
    depth, parent = dict.fromkeys(wave, 0), dict[int, int]()
    while wave:
        reached = []
        for atom in wave:
            for neighbour in sorted(graph[atom]):
                if neighbour not in depth:
                    depth[neighbour], parent[neighbour] = depth[atom] + 1, atom
                    reached.append(neighbour)
        wave = reached
    if loose := sorted(moved - set(depth)):
        raise ValueError(
            f"{_names(molecule, loose)} cannot be placed: no bonds join them to an atom that "
            "stays. Leave three atoms of each molecule that is moved where they are"
        )
    starts = sorted({atom for atom in parent.values() if atom not in moved})
    return _Tree(parent, depth, {p: _anchors(molecule, graph, moved, p) for p in starts})


def _anchors(molecule: Molecule, graph: nx.Graph, moved: set[int], p: int) -> tuple[int, int]:
    """Return the two context atoms from which, beside p, the moved atoms at p are placed."""

    def staying(atom: int, without: int) -> list[int]:
        around = [n for n in graph[atom] if n not in moved and n != without]
        return sorted(around, key=lambda n: (molecule.elements[n] == "H", n))

    near = staying(p, p)
    for q in near:
        # A third atom at p itself is best: what is placed is then an offset from it.
        for r in [n for n in near if n != q] or staying(q, p):
            return q, r
    raise ValueError(
        f"the atoms to be moved at {molecule.describe_atom(p)} need two more atoms that stay and "
        f"are bonded to it or to a neighbour of it, but there are only {_names(molecule, near)}"
        if near
        else f"all that is bonded to {molecule.describe_atom(p)} is to be moved, so that nothing "
        "says in which direction; leave two more atoms where they are, or move it as well"
    )


class _Placement:
    """Finds the references and the kind of every atom that is to be placed.

    Parameters
    ----------
    given : tuple of int
        The roots a, b and c, or all context atoms.
    """

    def __init__(
        self, molecule: Molecule, graph: nx.Graph, tree: _Tree, given: tuple[int, ...]
    ) -> None:
        self._graph, self._given, whole = graph, given, molecule.graph()
        self._parent, self._depth, self._anchors = tree.parent, tree.depth, tree.anchors
        self._size = _subtree_sizes(self._parent)
        self._stiff = _stiff_bonds(molecule)
        self._puckering = puckering_bonds(molecule, LARGEST_STIFF_RING)
        self._inverting = perceive(molecule).inverting
        # Of a part they are refused in the end, where they are needed.
        self._linear = frozenset() if tree.anchors else perceive(molecule).linear
        self._in_rings = set().union(*smallest_rings(molecule))
        self._triangles = ring_triangles(molecule, tree.parent, tree.depth, LARGEST_STIFF_RING)
        moved = set(tree.parent) if tree.anchors else set[int]()
        self._bridges = turning_bridges(graph, moved, self._in_rings)
        self._of_bridges = {k: v for bridge in self._bridges for k, v in bridge.references.items()}
        self._beside_bridges = {k: v for bridge in self._bridges for k, v in bridge.sides.items()}
        self._level = dict.fromkeys(given, 0)
        to_place = [atom for atom in sorted(graph) if atom not in self._level]
        self.octahedra = tuple(
            Octahedron(p, self._parent[p], tuple(children[:4]), children[4])
            for p in sorted(self._parent)
            if _is_octahedron(whole, p)
            for children in [self._ordered(p)]
        )
        self._opposite = {octahedron.opposite: octahedron for octahedron in self.octahedra}
        self._references = {atom: self._refer(atom) for atom in to_place}

    def atoms(self) -> tuple[PlacedAtom, ...]:
        """Return all placed atoms in the order of their levels."""
        placed = [entry for p in self._parents() for entry in self._children(p)]
        placed.sort(key=lambda entry: entry.level)
        return tuple(placed)

    def _parents(self) -> list[int]:
        """Return the atoms with children in breadth-first order, siblings by size."""
        wave, found = list(self._given), []
        while wave:
            found += wave
            wave = [child for p in wave for child in self._ordered(p)]
        return found

    def _ordered(self, p: int) -> list[int]:
        """Return the children of p. The one that leads to most atoms carries the torsion: it is
        heavy, and in a ring first."""
        children = [n for n in self._graph[p] if self._parent.get(n) == p and n not in self._given]
        return sorted(children, key=lambda n: (-self._size[n], n))

    def _children(self, p: int) -> list[PlacedAtom]:
        entries: list[PlacedAtom] = []
        turning: int | None = None
        for atom in self._ordered(p):
            references = self._references[atom]
            if atom in self._triangles.references:
                level = self._find_level(atom)
                entries.append(PlacedAtom(atom, references, level, CoordinateKind.PUCKER, None))
                continue
            if atom in self._of_bridges:
                level, kind = self._find_level(atom), self._kind_in_bridge(atom)
                entries.append(PlacedAtom(atom, references, level, kind, None))
                continue
            # Bonded to p, r marks the third direction at p: the torsion is an offset from it.
            from_neighbour = self._graph.has_edge(p, references[2])
            sibling = None if from_neighbour else turning
            if sibling is None and not from_neighbour:
                turning = atom
            entries.append(
                PlacedAtom(
                    atom,
                    references,
                    self._find_level(atom),
                    self._kind(references, from_neighbour or sibling is not None),
                    sibling,
                )
            )
        return entries

    def _refer(self, atom: int) -> tuple[int, int, int]:
        p = self._parent[atom]
        if atom in self._triangles.references:
            return self._triangles.references[atom]
        if atom in self._of_bridges:
            return self._of_bridges[atom]
        if p in self._beside_bridges:
            return p, *self._beside_bridges[p]
        start = self._start(p)
        if start is not None:
            return p, *start
        if p in self._triangles.sides:
            return p, *self._triangles.sides[p]
        q = self._parent[p]
        if p in self._linear:
            return p, self._aside(p), q
        if atom in self._opposite:
            return p, self._opposite[atom].around[0], q
        across = self._across(atom, p)
        if across is not None:
            return p, q, across
        if q in self._linear:
            return p, q, self._aside(q)
        further = self._start(q, p)
        return p, q, self._parent[q] if further is None else further[0]

    def _aside(self, atom: int) -> int:
        """Return an atom beside the line through an atom with a straight angle."""
        line = atom
        while self._parent[line] in self._linear:
            line = self._parent[line]
        begin = self._parent[line]
        further = self._start(begin, line)
        return self._parent[begin] if further is None else further[0]

    def _start(self, atom: int, without: int | None = None) -> tuple[int, int] | None:
        """Return the two atoms that place what is bonded to an atom where a tree starts, another
        one than `without` first; None for other atoms."""
        if self._anchors:
            return self._anchors.get(atom)
        a, b, c = self._given
        if atom != a:
            return None
        return (b, c) if without != b else (c, b)

    def _across(self, atom: int, p: int) -> int | None:
        """Return the neighbour of p at the other side of a ring's open bond, if `atom` can be
        placed from it.

        It can if it does not lead to that neighbour: if it lies deeper in the tree, or at the same
        depth but in no ring.
        """
        reach = self._depth[p] + (0 if atom in self._in_rings else 1)
        outside_tree = [
            n for n in self._graph[p] if self._parent.get(p) != n and self._parent.get(n) != p
        ]
        found = [n for n in outside_tree if self._depth[n] <= reach]
        return min(found, key=lambda n: (self._depth[n], n), default=None)

    def _find_level(self, atom: int) -> int:
        if atom not in self._level:
            self._level[atom] = 1 + max(self._find_level(i) for i in self._references[atom])
        return self._level[atom]

    def _kind_in_bridge(self, atom: int) -> CoordinateKind:
        """Return the kind of a torsion about a bridge's axis."""
        (bridge,) = (b for b in self._bridges if atom in (b.first, b.second))
        # Given the first, the second is where the bond between them has one of its shapes.
        stiff = atom == bridge.second and frozenset((bridge.first, atom)) in self._stiff
        return CoordinateKind.IMPROPER if stiff else CoordinateKind.ROTATABLE

    def _kind(self, references: tuple[int, int, int], offset: bool) -> CoordinateKind:
        bond = frozenset(references[:2])
        if offset:
            inverts = references[0] in self._inverting
            return CoordinateKind.INVERSION if inverts else CoordinateKind.IMPROPER
        if bond in self._puckering:
            return CoordinateKind.PUCKER
        return CoordinateKind.IMPROPER if bond in self._stiff else CoordinateKind.ROTATABLE


def _subtree_sizes(parent: dict[int, int]) -> dict[int, int]:
    """Count the atoms below each atom, itself included; `parent` is in breadth-first order."""
    size = dict.fromkeys(parent, 1)
    for atom in reversed(list(parent)):
        if parent[atom] in size:
            size[parent[atom]] += size[atom]
    return size


def _stiff_bonds(molecule: Molecule) -> set[frozenset[int]]:
    """Return the bonds that do not turn: in small rings, amides and their like, double bonds."""
    stiff = set(perceive(molecule).rigid)
    for ring in smallest_rings(molecule):
        if len(ring) <= LARGEST_STIFF_RING:
            stiff |= ring_bonds(molecule, ring)
    return stiff


def _symmetric_torsions(
    molecule: Molecule, placed: tuple[PlacedAtom, ...]
) -> tuple[tuple[int, ...], ...]:
    graph, groups = molecule.graph(), []
    # Exchanging two atoms at a centre that does not turn inside out mirrors it.
    centres = perceive(molecule).centres
    for first in placed:
        if first.kind is not CoordinateKind.ROTATABLE:
            continue
        siblings = [p.atom for p in placed if p.sibling == first.atom]
        group = (first.atom, *siblings)
        alike = len({molecule.elements[i] for i in group}) == 1
        ends = all(graph.degree(i) == 1 for i in group)
        # A third neighbour that is no sibling (ring closure) would break the symmetry.
        others = graph.degree(first.references[0]) - len(group)
        complete = others == (2 if len(group) == 4 else 1)
        mirrors = len(group) == 2 and first.references[0] in centres
        if alike and ends and complete and not mirrors and len(group) in (2, 3, 4):
            groups.append(group)
    return tuple(groups)
