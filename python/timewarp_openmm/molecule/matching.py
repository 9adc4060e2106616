"""Finds the atoms of a model's molecule in a topology, where others may be, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from os import PathLike
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ..contract import ModelMetadata, read_metadata
from ..units import NANOMETER, value_in
from .fragments import find_fragments
from .graph import Molecule, molecule_from_topology
from .isomorphism import Shapes, StereoisomerError, find_isomorphism

if TYPE_CHECKING:
    from openmm import app, unit

#: Atoms that are bonded in a molecule of water.
_WATER = 3
#: Stands for the element of what has none: virtual sites.
_NO_ELEMENT = "?"
#: Copies of a molecule that a message names.
_MOST_NAMED = 4
_ADD_BONDS = "add the topology's bonds (CONECT records)"


def match_atoms(
    model: str | PathLike[str],
    topology: app.Topology,
    particles: Sequence[int] | None = None,
    positions: NDArray[np.floating] | unit.Quantity | None = None,
) -> list[int]:
    """Return the topology's atom index for each atom of a model.

    Parameters
    ----------
    model : path
    topology : openmm.app.Topology
        Of the whole System; the model's molecule is found in it by its bond graph. That of a model
        of a part may be a fragment of a larger one (`fragments`).
    particles : sequence of int, optional
        The atoms of the molecule that is meant, in any order; needed where there are several. For
        a model of a part: atoms that hold all that it moves, of its residue for instance.
    positions : array or Quantity [N, 3], nm, optional
        Of all atoms of the topology. Equivalent atoms that names do not tell apart are then
        assigned so that the chirality of all centres agrees with the model's.

    Raises
    ------
    ValueError
        If the molecule is not there or there several times; the message says what is.
    """
    metadata = read_metadata(str(model))
    if metadata.context_atoms():
        return _match_part(metadata, topology, particles, positions)
    if particles is not None:
        particles = _checked(particles, topology)
    if metadata.molecule is None:
        return list(range(topology.getNumAtoms()) if particles is None else particles)
    atoms = particles or _find_molecule(metadata.molecule, topology)
    found = molecule_from_topology(topology, particles=atoms)
    return _in_order(metadata, found, atoms, _shape(topology, positions))


def _shape(
    topology: app.Topology, positions: NDArray[np.floating] | unit.Quantity | None
) -> NDArray[np.float64] | None:
    """Return positions [N, 3] / nm as an array."""
    if positions is None:
        return None
    shape = np.asarray(value_in(positions, NANOMETER), dtype=float)
    if shape.shape != (topology.getNumAtoms(), 3):
        raise ValueError(
            f"positions= is of shape {shape.shape}, but the topology has "
            f"{topology.getNumAtoms()} atoms"
        )
    return shape


def _in_order(
    metadata: ModelMetadata,
    found: Molecule,
    atoms: list[int],
    shape: NDArray[np.float64] | None,
) -> list[int]:
    """Return those atoms of a topology, which make up `found`, in the order of the model's."""
    assert metadata.molecule is not None
    shapes = None
    if shape is not None and metadata.reference_positions is not None:
        shapes = Shapes(np.array(metadata.reference_positions), shape[atoms])
    return [atoms[i] for i in match_molecules(metadata.molecule, found, shapes)]


class PartFinder:
    """Finds where models fit in a topology, which is prepared once for all of them.

    Parameters
    ----------
    topology : openmm.app.Topology
        Of the whole System.
    positions : array or Quantity [N, 3], nm, optional
        Of all atoms of the topology.

    Attributes
    ----------
    graph : networkx.Graph
        The topology's bonds; nodes carry `element` and `name`.
    positions : array [N, 3], nm, or None
    """

    def __init__(
        self,
        topology: app.Topology,
        positions: NDArray[np.floating] | unit.Quantity | None = None,
    ) -> None:
        self._topology = topology
        self.positions = _shape(topology, positions)
        self.graph = _bond_graph(topology)
        parts = nx.connected_components(self.graph)
        large = [atom for atoms in parts if len(atoms) > _WATER for atom in atoms]
        self._without_water = self.graph.subgraph(large).copy()
        # Virtual sites have no element, and are no atoms of a model.
        self._atoms = sorted(i for i, e in self.graph.nodes(data="element") if e != _NO_ELEMENT)
        self._index = {atom: i for i, atom in enumerate(self._atoms)}
        self._molecule = molecule_from_topology(topology, particles=self._atoms)

    def find(self, metadata: ModelMetadata, among: set[int] | None = None) -> list[list[int]]:
        """Return the atoms of each place of a model, ascending: of a part, or of a whole molecule.

        Parameters
        ----------
        among : set of int, optional
            Atoms that hold all that the model moves.
        """
        assert metadata.molecule is not None
        if not metadata.context_atoms():
            found = find_molecules(metadata.molecule, self._topology, self.graph)
            return [atoms for atoms in found if among is None or among.issuperset(atoms)]
        # Thousands of waters are not looked through where the model cannot fit into one.
        graph = self._without_water if metadata.molecule.num_atoms > _WATER else self.graph
        return find_fragments(metadata.molecule, metadata.moved_atoms(), graph, among)

    def why_nowhere(self, metadata: ModelMetadata) -> str:
        """Return why there is no place for a model, in words that go with the model's name."""
        assert metadata.molecule is not None
        if not metadata.context_atoms():
            return _why_not_held(metadata.molecule, self.graph)
        return (
            "the topology has no place for the model: nowhere are the "
            f"{len(metadata.moved_atoms())} atoms that it moves and those around them bonded as in "
            "it" + ("" if any(self._topology.bonds()) else f"; {_ADD_BONDS}")
        )

    def in_order(self, metadata: ModelMetadata, place: Sequence[int]) -> list[int]:
        """Return the atoms of a place in the order of the model's.

        Raises
        ------
        StereoisomerError
            If the place is of another stereoisomer, which only positions tell.
        ValueError
            If there are no positions and names do not tell which atom is which.
        """
        found = self._molecule.part([self._index[atom] for atom in place])
        return _in_order(metadata, found, list(place), self.positions)


def find_blocks(
    model: str | PathLike[str],
    topology: app.Topology,
    positions: NDArray[np.floating] | unit.Quantity | None = None,
) -> list[list[int]]:
    """Return every place in a topology where a model of a part fits, for `addBlock`.

    Parameters
    ----------
    model : path
        A model that moves some of its atoms and sees the others (``fit --moved``).
    topology : openmm.app.Topology
        Of the whole System.
    positions : array or Quantity [N, 3], nm, optional
        Of all atoms of the topology. Equivalent atoms that names do not tell apart, such as the
        hydrogens of a methyl group, are then assigned so that their chirality agrees with the
        model's, and places of another stereoisomer (D residues) are left out.

    Returns
    -------
    list of list of int
        Of each place the atom of the topology for each of the model's atoms, in the topology's
        order; none where the model fits nowhere.

    Raises
    ------
    ValueError
        If the model moves all its atoms: it is of a whole molecule, which `addBlock` finds; or
        if names do not tell which atom is which and there are no positions.

    Examples
    --------
    >>> for particles in find_blocks("valine-sidechain.pt", topology, positions):  # doctest: +SKIP
    ...     integrator.addBlock("valine-sidechain.pt", particles)
    """
    metadata = read_metadata(str(model))
    if not metadata.context_atoms():
        raise ValueError(
            f"{model} moves all its atoms, so that it is no model of a part; "
            "addBlock(model, topology=topology) finds its molecule"
        )
    finder = PartFinder(topology, positions)
    found = []
    for place in finder.find(metadata):
        with suppress(StereoisomerError):
            found.append(finder.in_order(metadata, place))
    return found


def _match_part(
    metadata: ModelMetadata,
    topology: app.Topology,
    particles: Sequence[int] | None,
    positions: NDArray[np.floating] | unit.Quantity | None,
) -> list[int]:
    # Other places are not looked at, where names may not tell atoms apart or chirality differs.
    among = None if particles is None else {int(i) for i in particles}
    finder = PartFinder(topology, positions)
    places = finder.find(metadata, among)
    if not places and among is not None and finder.find(metadata):
        raise ValueError(
            "none of the places where the model fits has all atoms that it moves among particles="
        )
    if not places:
        raise ValueError(finder.why_nowhere(metadata))
    if len(places) == 1:
        return finder.in_order(metadata, places[0])
    raise ValueError(
        f"the model fits in {len(places)} places, with its context at "
        f"{_name_copies(topology, places)}; say which one is meant by particles= that hold all "
        "atoms that it moves, or add a block for each of find_blocks(model, topology, positions)"
    )


def match_molecules(wanted: Molecule, found: Molecule, shapes: Shapes | None = None) -> list[int]:
    """Return the index in `found` for each atom of `wanted`, as `find_isomorphism` does.

    Molecules with the same elements and bonds in the same order are taken as they are, unless
    positions say that this would change the chirality of a centre.

    Raises
    ------
    ValueError
        If the molecules differ, or what is known does not tell which atom is which.

    Examples
    --------
    >>> water = Molecule(("O", "H1", "H2"), ("HOH",) * 3, (0,) * 3, ("O", "H", "H"),
    ...                  (15.999, 1.008, 1.008), ((0, 1), (0, 2)))
    >>> other = Molecule(("H1", "O", "H2"), ("HOH",) * 3, (0,) * 3, ("H", "O", "H"),
    ...                  (1.008, 15.999, 1.008), ((0, 1), (1, 2)))
    >>> match_molecules(water, other)
    [1, 0, 2]
    """
    if Counter(wanted.elements) != Counter(found.elements):
        raise ValueError(
            f"the model's molecule is {_formula(wanted.elements)}, that of the topology "
            f"{_formula(found.elements)}"
        )
    if shapes is None and wanted.elements == found.elements and wanted.bonds == found.bonds:
        return list(range(wanted.num_atoms))
    matched = find_isomorphism(wanted, found, shapes)
    if matched is None:
        raise ValueError(
            f"the topology has the atoms of the model's molecule ({_formula(wanted.elements)}) "
            f"but other bonds: {len(found.bonds)} where the model has {len(wanted.bonds)}"
            + ("; add its bonds (CONECT records)" if not found.bonds else "")
        )
    return matched


def _find_molecule(wanted: Molecule, topology: app.Topology) -> list[int]:
    """Return the atoms of the one molecule that has the bonds of `wanted`, in order."""
    if topology.getNumAtoms() == wanted.num_atoms:
        return list(range(wanted.num_atoms))
    if not nx.is_connected(wanted.graph()):
        raise ValueError(
            f"the model moves {wanted.num_atoms} atoms that are not one molecule, of "
            f"{topology.getNumAtoms()} in the topology; say which with particles="
        )
    graph = _bond_graph(topology)
    copies = find_molecules(wanted, topology, graph)
    if len(copies) == 1:
        return copies[0]
    if copies:
        raise ValueError(
            f"the topology holds {len(copies)} copies of the model's molecule "
            f"({_formula(wanted.elements)}): {_name_copies(topology, copies)}; say which one the "
            f"model moves, by its atoms in any order: particles={_particles(copies[0])}"
        )
    raise ValueError(_why_not_held(wanted, graph))


def find_molecules(
    wanted: Molecule, topology: app.Topology, graph: nx.Graph | None = None
) -> list[list[int]]:
    """Return the atoms of each molecule of a topology that has the bonds of `wanted`.

    Parameters
    ----------
    wanted : Molecule
        Connected: what is not is found nowhere.
    topology : openmm.app.Topology
        Of the whole System.
    graph : networkx.Graph, optional
        Its bonds, as `PartFinder.graph` has them.

    Returns
    -------
    list of list of int
        Ascending, in the topology's order. Stereoisomers are not told apart: that takes positions
        (`PartFinder.in_order`).

    Examples
    --------
    >>> from timewarp_openmm.molecule.graph import molecule_from_topology
    >>> from timewarp_openmm.simulation.systems import named_molecule
    >>> topology = named_molecule("alanine-dipeptide").topology
    >>> [len(atoms) for atoms in find_molecules(molecule_from_topology(topology), topology)]
    [22]
    """
    graph = _bond_graph(topology) if graph is None else graph
    formula = _formula(wanted.elements)
    alike = [atoms for atoms, other in _molecules(graph) if other == formula]
    # Thousands of copies of a solvent are written in one order, which is compared once.
    written = [_as_written(graph, atoms) for atoms in alike]
    examples = dict(zip(written, alike, strict=True))
    same = {w for w, atoms in examples.items() if _same_bonds(wanted, topology, atoms)}
    return sorted(atoms for atoms, w in zip(alike, written, strict=True) if w in same)


def _molecules(graph: nx.Graph) -> list[tuple[list[int], str]]:
    """Return the atoms of each molecule, ascending, with its formula."""
    molecules = (sorted(part) for part in nx.connected_components(graph))
    return [(atoms, _formula([graph.nodes[i]["element"] for i in atoms])) for atoms in molecules]


def _why_not_held(wanted: Molecule, graph: nx.Graph) -> str:
    formula, formulas = _formula(wanted.elements), [other for _, other in _molecules(graph)]
    there = ", ".join(f"{n} x {other}" for other, n in Counter(formulas).most_common(_MOST_NAMED))
    reason = "none has its bonds" if formula in formulas else f"it holds {there}"
    if not graph.edges:
        reason += f"; {_ADD_BONDS}"
    return f"the topology does not hold the model's molecule ({formula}): {reason}"


def _bond_graph(topology: app.Topology) -> nx.Graph:
    graph = nx.Graph()
    for atom in topology.atoms():
        element = _NO_ELEMENT if atom.element is None else atom.element.symbol
        graph.add_node(atom.index, element=element, name=atom.name)
    graph.add_edges_from((bond[0].index, bond[1].index) for bond in topology.bonds())
    return graph


def _as_written(graph: nx.Graph, atoms: list[int]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return each atom's element and its neighbours, counted from the molecule's first atom."""
    return tuple(
        (graph.nodes[i]["element"], tuple(sorted(j - atoms[0] for j in graph[i]))) for i in atoms
    )


def _same_bonds(wanted: Molecule, topology: app.Topology, atoms: list[int]) -> bool:
    try:
        found = molecule_from_topology(topology, particles=atoms)
        return find_isomorphism(wanted, found) is not None
    except ValueError:  # the bonds agree; names alone do not tell which atom is which
        return True


def _name_copies(topology: app.Topology, copies: list[list[int]]) -> str:
    named = []
    for atoms in copies[:_MOST_NAMED]:
        molecule = molecule_from_topology(topology, particles=atoms)
        ends = dict.fromkeys((molecule.residue_label(0), molecule.residue_label(len(atoms) - 1)))
        named.append(f"{' to '.join(ends)} ({_particles(atoms)})")
    more = [f"and {len(copies) - _MOST_NAMED} more"] if len(copies) > _MOST_NAMED else []
    return ", ".join([*named, *more])


def _particles(atoms: list[int]) -> str:
    if atoms == list(range(atoms[0], atoms[-1] + 1)):
        return f"range({atoms[0]}, {atoms[-1] + 1})"
    return f"[{', '.join(map(str, atoms))}]"


def _checked(particles: Sequence[int], topology: app.Topology) -> list[int]:
    atoms = sorted({int(i) for i in particles})
    count = topology.getNumAtoms()
    if len(atoms) != len(particles) or not atoms or atoms[0] < 0 or atoms[-1] >= count:
        raise ValueError(
            f"particles= must be indices of different atoms among the topology's {count}"
        )
    inside = set(atoms)
    for bond in topology.bonds():
        first, second = bond[0], bond[1]
        if (first.index in inside) != (second.index in inside):
            raise ValueError(
                f"particles= cuts the bond between atoms {first.index} ({first.name}) and "
                f"{second.index} ({second.name}); name all atoms of the molecule"
            )
    return atoms


def _formula(elements: Sequence[str]) -> str:
    """Return a chemical formula.

    Examples
    --------
    >>> _formula(["O", "H", "H"])
    'H2O'
    """
    return "".join(f"{e}{n if n > 1 else ''}" for e, n in sorted(Counter(elements).items()))
