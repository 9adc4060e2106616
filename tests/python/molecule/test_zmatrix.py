"""Which atoms a Z-matrix places from which."""

import networkx as nx
import pytest
from molecules import SMILES, from_rdkit, make
from rdkit import Chem

from timewarp_openmm.molecule import Molecule
from timewarp_openmm.molecule.zmatrix import CoordinateKind, ZMatrix, build_zmatrix


def rotatable_bonds(zmatrix: ZMatrix) -> list[frozenset[int]]:
    return [
        frozenset(p.references[:2]) for p in zmatrix.placed if p.kind is CoordinateKind.ROTATABLE
    ]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("ala", 5),  # phi, psi, three methyls
        ("gly", 4),
        ("pro", 3),  # psi, two methyls
        ("phe", 6),
        ("ethane", 1),
        ("butadiene", 1),
        ("adamantane", 0),
        ("ibuprofen", 8),  # three methyls; acid, hydroxyl, ring on both sides, isobutyl
    ],
)
def test_rotatable_torsions_are_about_bonds_that_turn(name: str, count: int) -> None:
    molecule, _ = make(name)
    assert len(rotatable_bonds(build_zmatrix(molecule))) == count


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("pro", 2),  # as many as a ring of five has ways to pucker
        ("CC1CCCCC1", 3),  # as many as a ring of six has ways to pucker
        ("C1CCC2CCCCC2C1", 5),  # decalin: three of each ring, one of them for both
        ("trp", 0),  # flat
        ("adamantane", 0),  # held by its other rings
        ("C1CC1C", 0),
    ],
)
def test_rings_that_flip_have_torsions_of_their_own(name: str, count: int) -> None:
    molecule, _ = make(name)
    kinds = build_zmatrix(molecule).torsion_kinds
    assert kinds.count(CoordinateKind.PUCKER) == count


def test_rotatable_torsions_agree_with_rotatable_bonds_of_rdkit() -> None:
    """Heavy-atom rotatable torsions of imatinib, less the amide bonds."""
    mol = Chem.AddHs(Chem.MolFromSmiles(SMILES["imatinib"]))
    pattern = Chem.MolFromSmarts("[!$([D1])&!$([CH3])]-&!@[!$([D1])&!$([CH3])]")
    amide = Chem.MolFromSmarts("C(=O)-&!@N")
    expected = {frozenset(match) for match in mol.GetSubstructMatches(pattern)}
    expected -= {frozenset((c, n)) for c, _, n in mol.GetSubstructMatches(amide)}
    found = {
        bond
        for bond in rotatable_bonds(build_zmatrix(from_rdkit(mol)))
        if all(mol.GetAtomWithIdx(i).GetTotalNumHs(includeNeighbors=True) < 3 for i in bond)
    }
    assert found == expected


def test_alanine_dipeptide_is_placed_in_three_levels_around_the_alpha_carbon() -> None:
    molecule, _ = make("ala")
    zmatrix = build_zmatrix(molecule)
    graph = molecule.graph()
    assert zmatrix.num_levels == 3
    assert sorted(molecule.elements[i] for i in graph[zmatrix.roots[0]]) == ["C", "C", "H", "N"]
    assert len(zmatrix.symmetric_torsions) == 3


def test_macrocycle_keeps_its_rotatable_torsions() -> None:
    molecule, _ = make("cystine_ring")
    sulfurs = frozenset(i for i, e in enumerate(molecule.elements) if e == "S")
    ring = nx.minimum_cycle_basis(molecule.graph())[0]
    rotatable_in_ring = [b for b in rotatable_bonds(build_zmatrix(molecule)) if b <= set(ring)]
    assert len(ring) > 7
    assert len(rotatable_in_ring) >= 4
    assert sulfurs <= set(ring)


def test_ammonium_and_carboxylate_turn_as_symmetric_groups() -> None:
    molecule, _ = make("zwitterion")
    groups = build_zmatrix(molecule).symmetric_torsions
    elements = sorted("".join(molecule.elements[i] for i in group) for group in groups)
    assert elements == ["HHH", "HHH", "OO", "OO"]


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("Nc1ccccc1", ["HH"]),
        ("CCCS(=O)(=O)[O-]", ["HHH", "OOO"]),
        # Their labels stay where they are: the bond to the nitrogen does not turn.
        ("CC(N)=O", ["HHH"]),
        ("CNC(N)=[NH2+]", ["HHH"]),
        # More than leaves would have to change places.
        ("OCc1ccccc1", []),
    ],
)
def test_groups_that_are_symmetric(smiles: str, expected: list[str]) -> None:
    molecule, _ = make(smiles)
    groups = build_zmatrix(molecule).symmetric_torsions
    assert sorted("".join(molecule.elements[i] for i in group) for group in groups) == expected


def _molecule(elements: str, *bonds: tuple[int, int]) -> Molecule:
    n = len(elements)
    names = tuple(f"{e}{i}" for i, e in enumerate(elements))
    return Molecule(names, ("LIG",) * n, (0,) * n, tuple(elements), (1.0,) * n, bonds)


def test_water_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 4 atoms.*LIG1:O0 \(atom 0\)"):
        build_zmatrix(_molecule("OHH", (0, 1), (0, 2)))
