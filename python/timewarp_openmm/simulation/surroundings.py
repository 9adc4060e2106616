"""A fragment of a large System with what is around it, as a small System of its own.

Whole residues near the fragment are kept. Those nearest move, those farther out are held where the
structure has them, so that neither a protein unfolds nor water boils off, and the rest is left out.
What the far parts of the energy change costs acceptance: chains ask the whole System's energy.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from ..molecule.in_place import Fragment
from ..molecule.selection import residue_label
from ..units import NANOMETER
from .cut_system import CutSystem, cut_system
from .fragment_checks import check_fragment, check_kept
from .gbsa import with_similar_gbsa
from .systems import MolecularSystem

#: nm from an atom of the fragment, within which residues are kept, and within which they move.
REACH, NEAR = 0.8, 0.5
#: Atoms beyond which no more of those that are held are kept: every step of training asks for their
#: energies, and those nearest matter most.
MOST_KEPT = 400
#: kJ/mol/nm^2; Amber's X-H bonds, for Systems that constrain them and do not say how stiff they
#: are. Where they are constrained, models leave them out, so that these serve the other Systems.
_STIFFNESS = {"C": 2.8e5, "N": 3.6e5, "O": 4.6e5, "S": 2.3e5}
_OTHER_STIFFNESS = 2.8e5


@dataclass(frozen=True)
class FragmentInPlace:
    """A fragment and what is around it.

    Attributes
    ----------
    molecule : MolecularSystem
        What is kept, without constraints of the fragment. What is held has no mass.
    fragment : Fragment
        In its atoms.
    given : openmm.System
        The same with the constraints that the whole System has.
    atoms : tuple of int
        Of the whole structure, one for each that is kept.
    left_out : tuple of str
        Names of the whole System's Forces that are not in it.
    similar_gbsa : bool
        Whether OBC2 stands in for a slower function of the same kind (`with_similar_gbsa`).
    """

    molecule: MolecularSystem
    fragment: Fragment
    given: openmm.System
    atoms: tuple[int, ...]
    left_out: tuple[str, ...]
    similar_gbsa: bool = False


def cut_surroundings(whole: MolecularSystem, moved: Sequence[int]) -> FragmentInPlace:
    """Return a fragment with what is around it.

    Parameters
    ----------
    whole : MolecularSystem
        Of any size, also in a box.
    moved : sequence of int
        The fragment: atoms of one molecule, all of it or a part that hangs on the rest by single
        bonds.

    Raises
    ------
    ValueError
        If a model cannot move these atoms; the message names them and says what to do.
    """
    graph = nx.Graph()
    graph.add_nodes_from(range(whole.topology.getNumAtoms()))
    graph.add_edges_from((a.index, b.index) for a, b in whole.topology.bonds())
    names = [f"{residue_label(a.residue)}:{a.name}" for a in whole.topology.atoms()]
    check_fragment(whole, graph, moved, names)
    positions = _unwrapped(whole, graph, moved)
    distances = _distances(positions, moved)
    residues = list(whole.topology.residues())
    bonded = _bonded_residues(whole.topology, graph, moved)
    closest = {r.index: min(distances[a.index] for a in r.atoms()) for r in residues}
    near = bonded | {r for r, distance in closest.items() if distance < NEAR}
    kept = _kept_residues(residues, near, closest)
    atoms = [a.index for r in residues if r.index in kept for a in r.atoms()]
    check_kept(whole, moved, atoms, names)
    fast = with_similar_gbsa(whole.system)
    cut = cut_system(whole.system if fast is None else fast, atoms)
    moving = {a.index for r in residues if r.index in near for a in r.atoms()}
    for i, atom in enumerate(atoms):
        if atom not in moving:
            cut.system.setParticleMass(i, 0.0)
    place = _assemble(whole, graph, moved, names, positions, atoms, cut)
    return replace(place, similar_gbsa=fast is not None)


def _kept_residues(
    residues: Sequence[app.topology.Residue], near: set[int], closest: dict[int, float]
) -> set[int]:
    """Return those that move, and of those within reach the nearest, up to MOST_KEPT atoms."""
    sizes = [len(list(residue.atoms())) for residue in residues]
    kept, count = set(near), sum(sizes[r] for r in near)
    for r in sorted(closest, key=closest.__getitem__):
        if r in kept:
            continue
        count += sizes[r]
        if closest[r] >= REACH or count > MOST_KEPT:
            break
        kept.add(r)
    return kept


def _bonded_residues(topology: app.Topology, graph: nx.Graph, moved: Sequence[int]) -> set[int]:
    """Return the residues of the fragment, and those bonded to them."""
    residue = [atom.residue.index for atom in topology.atoms()]
    own = {residue[atom] for atom in moved}
    inside = [i for i, r in enumerate(residue) if r in own]
    return own | {residue[other] for atom in inside for other in graph[atom]}


def _distances(positions: NDArray[np.float64], moved: Sequence[int]) -> NDArray[np.float64]:
    """Return the distance [N] of each atom from the nearest one of the fragment."""
    found = np.full(len(positions), np.inf)
    for atom in moved:
        found = np.minimum(found, np.linalg.norm(positions - positions[atom], axis=1))
    return found


def _unwrapped(
    whole: MolecularSystem, graph: nx.Graph, moved: Sequence[int]
) -> NDArray[np.float64]:
    """Return positions [N, 3] / nm with the images of all molecules that are nearest to the
    fragment, each molecule in one piece."""
    positions = whole.positions.copy()
    if not whole.system.usesPeriodicBoundaryConditions():
        return positions
    box = _box(whole)
    for start in [moved[0], *(min(part) for part in nx.connected_components(graph))]:
        for parent, atom in nx.bfs_edges(graph, start):
            positions[atom] -= _image(positions[atom] - positions[parent], box)
    middle = positions[list(moved)].mean(0)
    for part in nx.connected_components(graph):
        if moved[0] in part:
            continue
        own = sorted(part)
        shifts = _image(positions[own] - middle, box)
        nearest = np.linalg.norm(positions[own] - shifts - middle, axis=1).argmin()
        positions[own] -= shifts[nearest]
    return positions


def _box(whole: MolecularSystem) -> NDArray[np.float64]:
    """Return the vectors [3, 3] / nm of the structure's box, or of the System's."""
    vectors = whole.topology.getPeriodicBoxVectors()
    if vectors is None:
        vectors = whole.system.getDefaultPeriodicBoxVectors()
    return np.array([[x.value_in_unit(NANOMETER) for x in vector] for vector in vectors])


def _image(difference: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the multiple of box vectors to take off differences [..., 3], which makes them short.

    OpenMM's boxes are reduced: what each vector leaves over, the ones before it take off.
    """
    left = difference.copy()
    for k in (2, 1, 0):
        left -= np.round(left[..., k : k + 1] / box[k, k]) * box[k]
    return difference - left


def _assemble(
    whole: MolecularSystem,
    graph: nx.Graph,
    moved: Sequence[int],
    names: Sequence[str],
    positions: NDArray[np.float64],
    atoms: Sequence[int],
    cut: CutSystem,
) -> FragmentInPlace:
    place = {atom: i for i, atom in enumerate(atoms)}
    piece = nx.node_connected_component(graph.subgraph(atoms), moved[0])
    if apart := sorted(set(moved) - piece):
        raise ValueError(
            f"--particles names atoms far from each other ({names[moved[0]]} and "
            f"{names[apart[0]]}); fit a model of each part by itself"
        )
    fragment = Fragment(
        tuple(sorted(place[atom] for atom in piece)), tuple(sorted(place[atom] for atom in moved))
    )
    given, free = openmm.XmlSerializer.clone(cut.system), cut.system
    _constrain(whole, names, atoms, set(fragment.moved), given, free)
    middle = positions[list(moved)].mean(0)
    molecule = MolecularSystem(
        whole.name,
        _cut_topology(whole.topology, place),
        free,
        positions[list(atoms)] - middle,
        whole.force_field,
    )
    return FragmentInPlace(molecule, fragment, given, tuple(atoms), cut.left_out)


def _cut_topology(topology: app.Topology, place: dict[int, int]) -> app.Topology:
    """Return whole residues with their names and numbers, without a box."""
    own, atoms = app.Topology(), {}
    for chain in topology.chains():
        residues = [r for r in chain.residues() if next(r.atoms()).index in place]
        if not residues:
            continue
        own_chain = own.addChain(chain.id)
        for residue in residues:
            own_residue = own.addResidue(residue.name, own_chain, residue.id, residue.insertionCode)
            for atom in residue.atoms():
                atoms[atom.index] = own.addAtom(
                    atom.name, atom.element, own_residue, atom.id, atom.formalCharge
                )
    for bond in topology.bonds():
        if bond[0].index in atoms and bond[1].index in atoms:
            first, second = atoms[bond[0].index], atoms[bond[1].index]
            own.addBond(first, second, bond.type, bond.order)
    return own


def _constrain(
    whole: MolecularSystem,
    names: Sequence[str],
    atoms: Sequence[int],
    moved: Collection[int],
    given: openmm.System,
    free: openmm.System,
) -> None:
    """Give two Systems the whole one's constraints: all, and those that leave the fragment free."""
    place = {atom: i for i, atom in enumerate(atoms)}
    elements = [atom.element.symbol if atom.element else "" for atom in whole.topology.atoms()]
    bonds = _harmonic_bonds(free)
    stiff, tied = openmm.HarmonicBondForce(), openmm.HarmonicBondForce()
    for number in range(whole.system.getNumConstraints()):
        a, b, length = whole.system.getConstraintParameters(number)
        if a not in place or b not in place:
            continue
        i, j = place[a], place[b]
        held = [free.getParticleMass(k)._value == 0 for k in (i, j)]
        if i in moved or j in moved:
            stiffness = _stiffness(names, elements, a, b)
            given.addConstraint(i, j, length)
            if frozenset((i, j)) not in bonds:
                stiff.addBond(i, j, length, stiffness)
        elif not any(held):
            given.addConstraint(i, j, length)
            free.addConstraint(i, j, length)
        elif not all(held) and frozenset((i, j)) not in bonds:
            # OpenMM constrains no particle to one that is held.
            tied.addBond(i, j, length, _OTHER_STIFFNESS)
    for system, force in ((free, stiff), (free, tied), (given, tied)):
        if force.getNumBonds() > 0:
            system.addForce(openmm.XmlSerializer.clone(force))


def _stiffness(names: Sequence[str], elements: Sequence[str], a: int, b: int) -> float:
    """Return a force constant / (kJ/mol/nm^2) for a bond to hydrogen that a System constrains.

    Chains keep the lengths of no others: these are refused.
    """
    pair = {elements[a], elements[b]}
    if "H" not in pair or pair == {"H"}:
        raise ValueError(
            f"the System constrains {names[a]} - {names[b]}, of which --particles moves one, and "
            "models keep the lengths of bonds to hydrogen only; make it with constraints=None or "
            "HBonds"
        )
    heavy = next(element for element in (elements[a], elements[b]) if element != "H")
    return _STIFFNESS.get(heavy, _OTHER_STIFFNESS)


def _harmonic_bonds(system: openmm.System) -> set[frozenset[int]]:
    """Return the pairs that a HarmonicBondForce says the length of."""
    found = set()
    for force in system.getForces():
        if isinstance(force, openmm.HarmonicBondForce):
            for number in range(force.getNumBonds()):
                i, j, _, k = force.getBondParameters(number)
                if k._value > 0:
                    found.add(frozenset((i, j)))
    return found
