"""Which atoms of a structure a model of a fragment in place knows and moves."""

from __future__ import annotations

import numpy as np
import pytest
from complexes import ligands
from molecules import make

from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.molecule.in_place import Fragment
from timewarp_openmm.molecule.rotatable_torsions import rotatable_torsions
from timewarp_openmm.molecule.stereochemistry import Stereochemistry

#: Carbon 1 is a centre, and so is carbon 4 (F, Cl on one and O, C on the other).
SMILES = "F[C@H](Cl)O[C@H](C)Br"


def test_torsions_of_a_fragment_are_its_own() -> None:
    whole = ligands(2)
    structure = molecule_from_topology(whole.topology, whole.system)
    names = structure.residue_names
    second = tuple(i for i in range(structure.num_atoms) if structure.residue_id(i) == "3")
    fragment = Fragment(second, second)
    (torsion,) = rotatable_torsions(structure, fragment)
    assert set(torsion) < set(second)
    assert names[torsion[0]] == "LIG"
    # A hydroxyl of the other molecule, given all the rest of it, which bonds do not join to it.
    others = tuple(i for i in range(structure.num_atoms) if structure.residue_id(i) == "2")
    graph = structure.graph()
    hydrogen = next(
        i
        for i in others
        for n in graph[i]
        if structure.elements[n] == "O" and i > n + 1 and structure.elements[i] == "H"
    )
    (torsion,) = rotatable_torsions(structure, Fragment(others, (hydrogen,)))
    assert torsion[0] == hydrogen


def test_only_what_the_fragment_could_flip_is_looked_after() -> None:
    molecule, positions = make(SMILES)
    reference = positions[0]
    graph = molecule.graph()
    (bromine,) = (i for i, element in enumerate(molecule.elements) if element == "Br")
    (fluorine,) = (i for i, element in enumerate(molecule.elements) if element == "F")
    everything = tuple(range(molecule.num_atoms))
    check = Stereochemistry(molecule, reference, Fragment(everything, (bromine,)))
    assert check.atoms == [next(iter(graph[bromine]))]
    for atom, flips in ((fluorine, False), (bromine, True)):
        other = reference.copy()
        centre = next(iter(graph[atom]))
        # Through the plane of the centre's other neighbours.
        a, b, c = (reference[i] for i in sorted(graph[centre]) if i != atom)
        normal = np.cross(b - a, c - a)
        normal /= np.linalg.norm(normal)
        other[atom] -= 2 * np.dot(other[atom] - a, normal) * normal
        assert len(Stereochemistry(molecule, reference).find_flips(other)) == 1
        assert bool(check.find_flips(other)) is flips


def test_bond_orders_are_kept_where_no_bond_is_cut() -> None:
    from molecules import from_rdkit
    from rdkit import Chem

    mol = Chem.AddHs(Chem.MolFromSmiles("C=CC.[NH4+]"))
    structure = from_rdkit(mol, orders=True)
    graph = structure.graph()
    ammonium = sorted(i for i in graph if structure.elements[i] == "N" or 3 in graph[i])
    rest = [i for i in graph if i not in ammonium]
    part = structure.part(rest)
    assert sorted(part.bond_orders) == [1] * (len(part.bonds) - 1) + [2]
    double = part.bonds[part.bond_orders.index(2)]
    assert {part.atom_names[i] for i in double} == {"C0", "C1"}
    assert structure.part(ammonium).formal_charges.count(1) == 1
    assert structure.part(rest[1:]).bond_orders == ()


@pytest.mark.parametrize(
    ("known", "moved", "message"),
    [
        ((0, 1, 2), (3,), r"moves the atoms \[3\] of the known ones"),
        ((0, 1), (), "must move some"),
        ((0, 1, 99), (1,), "in a structure of 9"),
        ((0, 4), (0,), "bonds do not join all atoms"),
        ((0, 1, 2), (1,), r"LIG1:C1 \(atom 1\) is to be moved, and LIG1:\w+ .* is not known"),
    ],
)
def test_fragments_that_are_none_are_named(
    known: tuple[int, ...], moved: tuple[int, ...], message: str
) -> None:
    molecule, _ = make("F[C@H](Cl)OC")
    with pytest.raises(ValueError, match=message):
        Fragment(known, moved).molecule(molecule)
