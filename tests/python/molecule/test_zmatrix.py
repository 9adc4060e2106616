"""Which atoms a Z-matrix places from which."""

import networkx as nx
import pytest
from molecules import SMILES, from_rdkit, make
from rdkit import Chem

from timewarp_openmm.molecule import Molecule
from timewarp_openmm.molecule.zmatrix import CoordinateKind, ZMatrix, build_zmatrix


def rotor_bonds(zmatrix: ZMatrix) -> list[frozenset[int]]:
    return [frozenset(p.references[:2]) for p in zmatrix.placed if p.kind is CoordinateKind.ROTOR]


@pytest.mark.parametrize("name", SMILES)
def test_every_atom_is_placed_from_bonded_atoms_above_it(name: str) -> None:
    molecule, _ = make(name)
    zmatrix = build_zmatrix(molecule)
    graph = molecule.graph()
    a, b, c = zmatrix.roots
    assert graph.has_edge(a, b)
    assert graph.has_edge(a, c)
    level = dict.fromkeys(zmatrix.roots, 0)
    for placed in zmatrix.placed:
        p, q, r = placed.references
        assert graph.has_edge(placed.atom, p)
        assert graph.has_edge(p, q)
        assert graph.has_edge(q, r) or graph.has_edge(p, r)
        assert len({placed.atom, p, q, r}) == 4
        assert all(level[i] < placed.level for i in (p, q, r))
        level[placed.atom] = placed.level
    assert sorted(level) == list(range(molecule.num_atoms))


@pytest.mark.parametrize("name", SMILES)
def test_a_bond_has_at_most_one_torsion_of_its_own(name: str) -> None:
    molecule, _ = make(name)
    zmatrix = build_zmatrix(molecule)
    bonds = rotor_bonds(zmatrix)
    assert len(bonds) == len(set(bonds))
    by_atom = {p.atom: p for p in zmatrix.placed}
    for placed in zmatrix.placed:
        if placed.sibling is not None:
            first = by_atom[placed.sibling]
            assert first.references == placed.references
            assert first.sibling is None


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
def test_rotors_are_the_bonds_that_turn(name: str, count: int) -> None:
    molecule, _ = make(name)
    assert len(rotor_bonds(build_zmatrix(molecule))) == count


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("pro", 2),  # about CA-CB and CG-CD, each at one arm of the ring
        ("CC1CCCCC1", 5),  # all but the one opposite of the first root
        ("C1CCC2CCCCC2C1", 8),  # decalin: all but the bond that both rings share
        ("trp", 0),  # flat
        ("adamantane", 0),  # held by its other rings
        ("C1CC1C", 0),
    ],
)
def test_rings_that_flip_have_torsions_of_their_own(name: str, count: int) -> None:
    molecule, _ = make(name)
    kinds = build_zmatrix(molecule).torsion_kinds
    assert kinds.count(CoordinateKind.PUCKER) == count


def test_rotors_agree_with_rotatable_bonds_of_rdkit() -> None:
    """Heavy-atom rotors of imatinib, less the amide bonds."""
    mol = Chem.AddHs(Chem.MolFromSmiles(SMILES["imatinib"]))
    pattern = Chem.MolFromSmarts("[!$([D1])&!$([CH3])]-&!@[!$([D1])&!$([CH3])]")
    amide = Chem.MolFromSmarts("C(=O)-&!@N")
    expected = {frozenset(match) for match in mol.GetSubstructMatches(pattern)}
    expected -= {frozenset((c, n)) for c, _, n in mol.GetSubstructMatches(amide)}
    found = {
        bond
        for bond in rotor_bonds(build_zmatrix(from_rdkit(mol)))
        if all(mol.GetAtomWithIdx(i).GetTotalNumHs(includeNeighbors=True) < 3 for i in bond)
    }
    assert found == expected


def test_alanine_dipeptide_is_placed_in_three_levels_around_the_alpha_carbon() -> None:
    molecule, _ = make("ala")
    zmatrix = build_zmatrix(molecule)
    graph = molecule.graph()
    assert zmatrix.num_levels == 3
    assert sorted(molecule.elements[i] for i in graph[zmatrix.roots[0]]) == ["C", "C", "H", "N"]
    assert len(zmatrix.symmetric_rotors) == 3


def test_macrocycle_keeps_its_rotors() -> None:
    molecule, _ = make("cystine_ring")
    sulfurs = frozenset(i for i, e in enumerate(molecule.elements) if e == "S")
    ring = nx.minimum_cycle_basis(molecule.graph())[0]
    rotors_in_ring = [b for b in rotor_bonds(build_zmatrix(molecule)) if b <= set(ring)]
    assert len(ring) > 7
    assert len(rotors_in_ring) >= 4
    assert sulfurs <= set(ring)


def test_ammonium_and_carboxylate_turn_as_symmetric_groups() -> None:
    molecule, _ = make("zwitterion")
    groups = build_zmatrix(molecule).symmetric_rotors
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
    groups = build_zmatrix(molecule).symmetric_rotors
    assert sorted("".join(molecule.elements[i] for i in group) for group in groups) == expected


def test_hands_are_fixed_where_a_centre_cannot_turn_inside_out() -> None:
    molecule, _ = make("CN(CC)S(=O)C")
    graph = molecule.graph()
    for placed in build_zmatrix(molecule).placed:
        if placed.offset:
            p = placed.references[0]
            stable = graph.degree(p) == 4 or molecule.elements[p] == "S"
            assert placed.handed == stable


def _molecule(elements: str, *bonds: tuple[int, int]) -> Molecule:
    n = len(elements)
    names = tuple(f"{e}{i}" for i, e in enumerate(elements))
    return Molecule(names, ("LIG",) * n, (0,) * n, tuple(elements), (1.0,) * n, bonds)


def test_water_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 4 atoms.*LIG1:O0 \(atom 0\)"):
        build_zmatrix(_molecule("OHH", (0, 1), (0, 2)))


def test_separate_molecules_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"2 separate parts.*LIG1:O4 .*LIG1:H6"):
        build_zmatrix(_molecule("NHHHOHH", (0, 1), (0, 2), (0, 3), (4, 5), (4, 6)))


@pytest.mark.parametrize("smiles", ["CC#N", "CC#CC", "C=C=C", "CN=[N+]=[N-]", "C[N+]#[C-]"])
def test_straight_angles_are_refused_by_name(smiles: str) -> None:
    molecule, _ = make(smiles)
    with pytest.raises(ValueError, match=r"LIG1:\w+ \(atom \d+\) - LIG1.*straight.*Restrict"):
        build_zmatrix(molecule)
