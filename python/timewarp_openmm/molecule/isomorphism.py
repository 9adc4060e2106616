"""Which atom of one molecule is which of another: bond graphs, then names, chirality and amides.

Hydrogens that hang on one atom can change places in as many ways as their factorial, so that the
search runs over the other atoms only (the core) and hydrogens are then assigned atom by atom.
Colours (Weisfeiler and Lehman, NTI 2(9), 12 (1968)) tell most atoms apart before networkx's VF2
(Cordella et al., IEEE Trans. Pattern Anal. 26, 1367 (2004)) searches among those that are left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from networkx.algorithms.isomorphism import GraphMatcher
from numpy.typing import NDArray

from .graph import Molecule
from .stereochemistry import chirality_centres, fixed_torsions
from .torsions import torsion

#: A colour for each core atom.
Colours = dict[int, int]


class StereoisomerError(ValueError):
    """Two molecules that differ in the chirality of centres alone."""


@dataclass(frozen=True)
class Core:
    """A molecule's bond graph without the hydrogens that hang on another atom.

    Attributes
    ----------
    graph : networkx.Graph
        Core atoms by their index in the molecule.
    hydrogens : dict of int to list of int
        Those on each core atom.
    centres : dict of int to tuple of int
        Stereocentres and their core neighbours, where these are three or four: two hydrogens on a
        centre can always be named so that its chirality is right.
    fixed : list of (int, int, int, int)
        Torsions about bonds that are cis or trans, among core atoms.
    """

    molecule: Molecule
    graph: nx.Graph
    hydrogens: dict[int, list[int]]
    centres: dict[int, tuple[int, ...]]
    fixed: list[tuple[int, int, int, int]]

    @staticmethod
    def of(molecule: Molecule) -> Core:
        graph = molecule.graph()
        element = molecule.elements
        parents = {
            i: next(iter(graph[i]))
            for i in graph
            if element[i] == "H" and graph.degree[i] == 1 and element[next(iter(graph[i]))] != "H"
        }
        hydrogens: dict[int, list[int]] = {i: [] for i in graph if i not in parents}
        for hydrogen, parent in parents.items():
            hydrogens[parent].append(hydrogen)
        core = graph.subgraph(hydrogens)
        centres = [centre.atom for centre in chirality_centres(molecule)]
        around = {c: tuple(sorted(core[c])) for c in centres if c in core}
        return Core(
            molecule,
            core,
            hydrogens,
            {c: atoms for c, atoms in around.items() if len(atoms) > 2},
            [t for t in fixed_torsions(molecule) if all(i in core for i in t)],
        )


@dataclass(frozen=True)
class Shapes:
    """Positions [N, 3] of both molecules, in any one unit."""

    wanted: NDArray[np.floating]
    found: NDArray[np.floating]


def find_isomorphism(
    wanted: Molecule, found: Molecule, shapes: Shapes | None = None
) -> list[int] | None:
    """Return the index in `found` for each atom of `wanted`, or None if their bonds differ.

    Elements and bonds agree. Where that leaves a choice, the chirality of every centre agrees if
    positions are given, and so does cis or trans of equivalent atoms about a bond that does not
    turn (amides, double bonds); then names are kept where they tell atoms apart, then the order.

    Raises
    ------
    StereoisomerError
        If positions are given and one is no more than a stereoisomer of the other.
    ValueError
        If none are given and equivalent atoms about a centre or an amide, which names do not tell
        apart, would have to be told apart by them.
    """
    # Bonds of both are perceived alike, though only one may come with bond orders.
    ours, theirs = Core.of(wanted.without_bond_orders()), Core.of(found.without_bond_orders())
    plain = _colour(ours, theirs, _constitution(ours), _constitution(theirs))
    if plain is None:
        return None
    colourings = [c for c in (_colour_by_name(ours, theirs, *plain), plain) if c is not None]
    if shapes is None:
        return _match_without_shapes(ours, theirs, colourings)
    # Cis or trans of two equivalent atoms is a matter of labels; of others it is what it is.
    labels = [t for t in ours.fixed if _repeated(_around(ours, t), plain[0])]
    for fixed in (labels, []):
        geometry = _Geometry(ours, shapes, fixed)
        mapping = _keep_order(ours, found, geometry)
        for colours in colourings:
            mapping = mapping or _search_with_shapes(ours, theirs, colours, geometry)
        if mapping is not None:
            return _with_hydrogens(ours, theirs, mapping, shapes)
    mapping = _search(ours, theirs, plain, None)
    if mapping is None:
        return None
    other = [
        wanted.describe_atom(c)
        for c in ours.centres
        if not _same_chirality(ours, mapping, shapes, c)
    ]
    raise StereoisomerError(
        "the structure is another stereoisomer than the model's molecule: the chirality differs at "
        + ", ".join(other)
        + "; use a model of this stereoisomer, or the other structure"
    )


def _keep_order(ours: Core, found: Molecule, geometry: _Geometry) -> dict[int, int] | None:
    """Return the mapping of each core atom to its like if bonds and geometry allow it."""
    molecule = ours.molecule
    if molecule.elements != found.elements or molecule.bonds != found.bonds:
        return None
    mapping = {i: i for i in ours.graph}
    return mapping if all(geometry.allows(mapping, i) for i in mapping) else None


def _search_with_shapes(
    ours: Core, theirs: Core, colours: tuple[Colours, Colours], geometry: _Geometry
) -> dict[int, int] | None:
    chiral = _colour_by_chirality(ours, theirs, colours, geometry.shapes)
    return None if chiral is None else _search(ours, theirs, chiral, geometry)


def _match_without_shapes(
    ours: Core, theirs: Core, colourings: list[tuple[Colours, Colours]]
) -> list[int] | None:
    for colours in colourings:
        mapping = _search(ours, theirs, colours, None)
        if mapping is not None:
            _refuse_ambiguity(ours, colours[0])
            return _with_hydrogens(ours, theirs, mapping, None)
    return None


def _refuse_ambiguity(core: Core, colours: Colours) -> None:
    """Refuse where the search has chosen by chance what positions would decide."""
    molecule = core.molecule
    choices = [*core.centres.values()]
    for torsion_atoms in core.fixed:
        choices += _around(core, torsion_atoms)
    for atoms in choices:
        if repeated := _repeated([atoms], colours):
            alike = [molecule.describe_atom(i) for i in repeated]
            raise ValueError(
                f"atom names do not tell which atoms of the topology are {' and '.join(alike)} of "
                "the model: pass positions=, by whose chirality they are told apart, or give the "
                f"topology the model's atom names: {' '.join(molecule.atom_names)}"
            )


def _around(core: Core, torsion_atoms: tuple[int, int, int, int]) -> list[tuple[int, ...]]:
    """Return the core atoms on either end of the bond in the middle of a torsion."""
    _, b, c, _ = torsion_atoms
    return [tuple(i for i in core.graph[x] if i != y) for x, y in ((b, c), (c, b))]


def _repeated(groups: Sequence[tuple[int, ...]], colours: Colours) -> list[int]:
    """Return the atoms of one colour in the first of the groups that has several of one."""
    for atoms in groups:
        for colour, count in Counter(colours[i] for i in atoms).items():
            if count > 1:
                return [i for i in atoms if colours[i] == colour]
    return []


def _constitution(core: Core) -> dict[int, Hashable]:
    element = core.molecule.elements
    return {i: (element[i], len(core.hydrogens[i])) for i in core.graph}


def _colour(
    ours: Core, theirs: Core, our_labels: Mapping[int, Hashable], labels: Mapping[int, Hashable]
) -> tuple[Colours, Colours] | None:
    """Return the coarsest colours that tell apart labels and neighbours; None if they differ."""
    graph = nx.disjoint_union_all([_ordered(ours), _ordered(theirs)])
    given = [
        *(our_labels[i] for i in sorted(ours.graph)),
        *(labels[i] for i in sorted(theirs.graph)),
    ]
    palette = {label: k for k, label in enumerate(dict.fromkeys(given))}
    colours = [palette[label] for label in given]
    while True:
        keys = [(colours[i], *sorted(colours[j] for j in graph[i])) for i in graph]
        names = {key: k for k, key in enumerate(sorted(set(keys)))}
        finer = [names[key] for key in keys]
        if len(names) == len(set(colours)):
            break
        colours = finer
    count = len(ours.graph)
    if Counter(colours[:count]) != Counter(colours[count:]):
        return None
    return (
        dict(zip(sorted(ours.graph), colours[:count], strict=True)),
        dict(zip(sorted(theirs.graph), colours[count:], strict=True)),
    )


def _ordered(core: Core) -> nx.Graph:
    graph = nx.Graph()
    graph.add_nodes_from(sorted(core.graph))
    graph.add_edges_from(core.graph.edges)
    return graph


def _colour_by_name(
    ours: Core, theirs: Core, our_colours: Colours, colours: Colours
) -> tuple[Colours, Colours] | None:
    """Refine colours by atom names where these are the same in both molecules."""

    def names(core: Core, of: Colours, colour: int) -> list[str]:
        return sorted(core.molecule.atom_names[i] for i in of if of[i] == colour)

    telling = {
        colour
        for colour in set(our_colours.values())
        if names(ours, our_colours, colour) == names(theirs, colours, colour)
    }

    def labels(core: Core, of: Colours) -> dict[int, Hashable]:
        name = core.molecule.atom_names
        return {i: (c, name[i] if c in telling else "") for i, c in of.items()}

    return _colour(ours, theirs, labels(ours, our_colours), labels(theirs, colours))


def _colour_by_chirality(
    ours: Core, theirs: Core, colours: tuple[Colours, Colours], shapes: Shapes
) -> tuple[Colours, Colours] | None:
    """Refine colours by the chirality of centres whose neighbours they tell apart."""
    while True:
        labels = [
            _chiralities(core, of, positions)
            for core, of, positions in zip(
                (ours, theirs), colours, (shapes.wanted, shapes.found), strict=True
            )
        ]
        finer = _colour(ours, theirs, *labels)
        if finer is None or len(set(finer[0].values())) == len(set(colours[0].values())):
            return finer
        colours = finer


def _chiralities(
    core: Core, colours: Colours, positions: NDArray[np.floating]
) -> dict[int, Hashable]:
    labels: dict[int, Hashable] = {i: (c, 0) for i, c in colours.items()}
    for centre, atoms in core.centres.items():
        if len({colours[i] for i in atoms}) == len(atoms):
            ordered = sorted(atoms, key=colours.__getitem__)
            labels[centre] = (colours[centre], _chirality(positions, centre, ordered))
    return labels


def _chirality(
    positions: NDArray[np.floating], centre: int, atoms: list[int] | tuple[int, ...]
) -> int:
    """Return the sign of the triple product of the bonds to the first three atoms."""
    a, b, c = (positions[i] - positions[centre] for i in atoms[:3])
    return 1 if float(np.dot(a, np.cross(b, c))) > 0 else -1


@dataclass(frozen=True)
class _Geometry:
    """What positions ask of a mapping of the core, as soon as the atoms it is about are mapped.

    Attributes
    ----------
    core : Core
    shapes : Shapes
    fixed : list of (int, int, int, int)
        Torsions that must be cis or trans as they are.
    """

    core: Core
    shapes: Shapes
    fixed: list[tuple[int, int, int, int]]

    def allows(self, mapping: Mapping[int, int], atom: int) -> bool:
        """Tell whether a mapping, to which `atom` was added last, keeps what it must."""
        near = (atom, *self.core.graph[atom])
        for centre in near:
            atoms = self.core.centres.get(centre, ())
            known = centre in mapping and all(i in mapping for i in atoms)
            if atoms and known and not _same_chirality(self.core, mapping, self.shapes, centre):
                return False
        return all(
            self._same_side(mapping, t)
            for t in self.fixed
            if atom in t and all(i in mapping for i in t)
        )

    def _same_side(self, mapping: Mapping[int, int], atoms: tuple[int, int, int, int]) -> bool:
        o, c, n, last = (mapping[i] for i in atoms)
        ours = torsion(self.shapes.wanted, atoms)
        theirs = torsion(self.shapes.found, (o, c, n, last))
        return (abs(ours) > np.pi / 2) == (abs(theirs) > np.pi / 2)


def _same_chirality(core: Core, mapping: Mapping[int, int], shapes: Shapes, centre: int) -> bool:
    atoms = core.centres[centre]
    images = [mapping[i] for i in atoms]
    return _chirality(shapes.wanted, centre, atoms) == _chirality(
        shapes.found, mapping[centre], images
    )


class _Matcher(GraphMatcher):  # type: ignore[misc]
    """VF2 over atoms of equal colour, with a geometry that a mapping must keep."""

    def __init__(
        self,
        ours: nx.Graph,
        theirs: nx.Graph,
        colours: tuple[Colours, Colours],
        geometry: _Geometry | None,
    ) -> None:
        super().__init__(ours, theirs)
        self._colours, self._geometry = colours, geometry

    def semantic_feasibility(self, G1_node: int, G2_node: int) -> bool:
        if self._colours[0][G1_node] != self._colours[1][G2_node]:
            return False
        if self._geometry is None:
            return True
        return self._geometry.allows({**self.core_1, G1_node: G2_node}, G1_node)


def _search(
    ours: Core, theirs: Core, colours: tuple[Colours, Colours], geometry: _Geometry | None
) -> dict[int, int] | None:
    """Return the first mapping of the cores, or None."""
    target = nx.Graph()
    # VF2 takes atoms in this order: those around one centre come one after the other, so that a
    # wrong chirality is seen, and mended, on the spot.
    for part in nx.connected_components(theirs.graph):
        target.add_nodes_from(nx.bfs_tree(theirs.graph, min(part)))
    target.add_edges_from(theirs.graph.edges)
    matcher = _Matcher(_ordered(ours), target, colours, geometry)
    found: dict[int, int] | None = next(matcher.isomorphisms_iter(), None)
    matcher.reset_recursion_limit()
    return found


def _with_hydrogens(
    ours: Core, theirs: Core, mapping: dict[int, int], shapes: Shapes | None
) -> list[int]:
    """Return the whole mapping: hydrogens by name, then in order, of right chirality if known."""
    complete = dict(mapping)
    for atom, image in mapping.items():
        images = _by_name(ours, theirs, ours.hydrogens[atom], theirs.hydrogens[image])
        complete.update(zip(ours.hydrogens[atom], images, strict=True))
        if shapes is not None and len(images) > 1 and not _agree(ours, complete, atom, shapes):
            complete.update(zip(ours.hydrogens[atom][-2:], images[:-3:-1], strict=True))
    return [complete[i] for i in range(ours.molecule.num_atoms)]


def _by_name(ours: Core, theirs: Core, atoms: list[int], images: list[int]) -> list[int]:
    name, other = ours.molecule.atom_names, theirs.molecule.atom_names
    if sorted(name[i] for i in atoms) != sorted(other[j] for j in images):
        return images
    return sorted(images, key=lambda j: [name[i] for i in atoms].index(other[j]))


def _agree(core: Core, mapping: Mapping[int, int], atom: int, shapes: Shapes) -> bool:
    """Tell whether the hydrogens on an atom are placed alike in both molecules.

    By the chirality of an atom with four neighbours. By the side of the atom beyond of one with
    three, whose hydrogens lie in a plane with it: as those of an amide.
    """
    hydrogens = core.hydrogens[atom]
    around = [*core.graph[atom], *hydrogens]
    if len(around) == 4:
        images = [mapping[i] for i in around]
        # The last two of three or four: those that would be exchanged.
        return _chirality(shapes.wanted, atom, around[1:]) == _chirality(
            shapes.found, mapping[atom], images[1:]
        )
    if len(around) != 3 or len(hydrogens) != 2:
        return True
    beyond = [i for i in core.graph[around[0]] if i != atom]
    if not beyond:
        return True
    atoms = (beyond[0], around[0], atom, hydrogens[0])
    a, b, c, d = (mapping[i] for i in atoms)
    sides = np.cos(torsion(shapes.wanted, atoms)), np.cos(torsion(shapes.found, (a, b, c, d)))
    return bool(sides[0] * sides[1] > 0)
