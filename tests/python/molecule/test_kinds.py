"""Every kind of molecule of the table: its Z-matrix, and what its stereochemistry is."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from chemistry import KINDS, REFUSED, conformations, make_kind
from generic_force_field import simulate
from molecules import from_rdkit
from rdkit import Chem
from rdkit.Chem import AllChem

from timewarp_openmm.molecule import Molecule
from timewarp_openmm.molecule.bonding import perceive
from timewarp_openmm.molecule.rings import smallest_rings
from timewarp_openmm.molecule.stereochemistry import (
    Stereochemistry,
    chirality_centres,
    fixed_torsions,
)
from timewarp_openmm.molecule.zmatrix import CoordinateKind, build_zmatrix


@pytest.mark.parametrize("kind", KINDS)
def test_every_atom_is_placed_from_bonded_atoms_or_its_ring_above_it(kind: str) -> None:
    molecule, _ = make_kind(kind)
    zmatrix = build_zmatrix(molecule)
    graph = molecule.graph()
    a, b, c = zmatrix.roots
    assert graph.has_edge(a, b)
    assert graph.has_edge(a, c)
    level = dict.fromkeys(zmatrix.roots, 0)
    by_atom = {p.atom: p for p in zmatrix.placed}
    rings = [set(ring) for ring in smallest_rings(molecule)]
    straight = perceive(molecule).linear
    for placed in zmatrix.placed:
        p, q, r = placed.references
        # No two references of a torsion lie on a line with the third.
        assert not any(
            graph.has_edge(i, middle) and graph.has_edge(middle, k)
            for middle in straight & {p, q}
            for i, k in ((placed.atom, q), (p, r))
        )
        if straight & {p, q}:
            assert graph.has_edge(placed.atom, p)
            assert graph.has_edge(p, q) or (p in straight and graph.has_edge(p, r))
        elif placed.kind is not CoordinateKind.PUCKER or not any(
            {p, q, r} <= ring for ring in rings
        ):
            assert graph.has_edge(placed.atom, p)
            assert graph.has_edge(p, q)
            assert graph.has_edge(q, r) or graph.has_edge(p, r)
        assert len({placed.atom, p, q, r}) == 4
        assert all(level[i] < placed.level for i in (p, q, r))
        level[placed.atom] = placed.level
        if placed.sibling is not None:
            first = by_atom[placed.sibling]
            assert (first.references, first.level, first.sibling) == (
                placed.references,
                placed.level,
                None,
            )
    assert sorted(level) == list(range(molecule.num_atoms))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bond_has_at_most_one_torsion_of_its_own(kind: str) -> None:
    placed = build_zmatrix(make_kind(kind)[0]).placed
    turning = (CoordinateKind.ROTATABLE, CoordinateKind.PUCKER)
    bonds = [frozenset(p.references[:2]) for p in placed if p.kind in turning]
    assert len(bonds) == len(set(bonds))


def both_ways(smiles: str) -> tuple[Molecule, Molecule]:
    """Return a molecule without and with bond orders."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    return from_rdkit(mol), from_rdkit(mol, orders=True)


@pytest.mark.parametrize("orders", [False, True], ids=["bond graph", "bond orders"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_table_says_what_is_on_the_circle_and_what_is_fixed(kind: str, orders: bool) -> None:
    molecule = from_rdkit(conformations(kind), orders)
    expected, kinds = KINDS[kind], build_zmatrix(molecule).torsion_kinds
    graph = molecule.graph()
    assert kinds.count(CoordinateKind.PUCKER) == expected.puckers
    assert kinds.count(CoordinateKind.INVERSION) == expected.inversions
    assert len(fixed_torsions(molecule)) == expected.flips
    centres = [centre.atom for centre in chirality_centres(molecule)]
    assert {i for i in graph if graph.degree(i) == 4} <= set(centres)
    pyramids = tuple(molecule.elements[i] for i in centres if graph.degree(i) == 3)
    assert pyramids == expected.pyramids


@pytest.mark.parametrize("kind", KINDS)
def test_charts_with_and_without_bond_orders_are_one(kind: str) -> None:
    by_graph, by_orders = both_ways(KINDS[kind].smiles)
    assert build_zmatrix(by_graph) == build_zmatrix(by_orders)
    assert chirality_centres(by_graph) == chirality_centres(by_orders)
    assert fixed_torsions(by_graph) == fixed_torsions(by_orders)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_chart_has_one_stereochemistry(name: str) -> None:
    """Exploring and the analysis serve flows of Cartesian coordinates, too."""
    by_graph, by_orders = both_ways(REFUSED[name][0])
    assert chirality_centres(by_graph) == chirality_centres(by_orders)
    assert fixed_torsions(by_graph) == fixed_torsions(by_orders)
    # A torsion about a straight line is undefined, so that nothing tells cis from trans.
    straight = perceive(by_graph).linear
    assert straight == perceive(by_orders).linear
    assert not any(straight & set(atoms[1:3]) for atoms in fixed_torsions(by_graph))


@pytest.mark.parametrize(
    ("smiles", "flips"),
    [
        ("CC(=O)C=C(C)[O-]", 0),
        ("O=C(c1ccccc1)C=C([O-])c1ccccc1", 0),
        ("CN(C)C=CC=[N+](C)C", 0),
        ("CN(C)C=CC=CC=[N+](C)C", 0),
        ("CC([O-])=NS(C)(=O)=O", 0),
        ("CC(=O)[N-]S(C)(=O)=O", 0),
        # Of amides and guanidines all possible places are kept.
        ("CNC(=[NH2+])NC", 3),
        ("CN=C([NH3+])C", 1),
        # No charge is delocalised: bonds are as they are drawn, as far as they can only be so.
        ("CC(=O)C=C(C)O", 1),
    ],
)
def test_where_a_delocalised_charge_is_drawn_does_not_matter(smiles: str, flips: int) -> None:
    by_graph, by_orders = both_ways(smiles)
    assert fixed_torsions(by_graph) == fixed_torsions(by_orders)
    assert len(fixed_torsions(by_graph)) == flips


def test_bond_orders_that_cannot_be_are_refused() -> None:
    """The molecule without them is the same one, and is not asked instead."""
    _, ethane = both_ways("CC")
    wrong = replace(ethane, bond_orders=(3, *ethane.bond_orders[1:]))
    assert perceive(ethane).centres == {0, 1}
    with pytest.raises(ValueError, match=r"LIG1:C0 \(atom 0\) cannot have the bond orders"):
        build_zmatrix(wrong)
    with pytest.raises(ValueError, match="bond orders and formal charges are known of all"):
        replace(ethane, bond_orders=(1,))


@pytest.mark.parametrize("orders", [False, True], ids=["bond graph", "bond orders"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_rdkit_calls_stereo_is_missing(kind: str, orders: bool) -> None:
    """As RDKit knows the molecule itself, some atoms of which it cannot tell apart."""
    mol = conformations(kind)
    molecule = from_rdkit(mol, orders)
    centres = {centre.atom for centre in chirality_centres(molecule)}
    fixed = {frozenset(atoms[1:3]) for atoms in fixed_torsions(molecule)}
    for info in Chem.FindPotentialStereo(mol):
        if info.type == Chem.StereoType.Atom_Tetrahedral:
            assert info.centeredOn in centres
        elif info.type == Chem.StereoType.Bond_Double:
            bond = mol.GetBondWithIdx(info.centeredOn)
            if {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()} & centres:
                # The bond from a pyramidal sulfur to a ylide's carbon or nitrogen turns.
                assert KINDS[kind].pyramids == ("S",)
                continue
            if {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()} & perceive(molecule).linear:
                # Nothing is aside of a straight angle, so that the ends cannot be cis or trans.
                continue
            assert frozenset((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())) in fixed
    for match in mol.GetSubstructMatches(Chem.MolFromSmarts("[#6;X3](=[O,S,N])!@[#7;X3]")):
        if mol.GetAtomWithIdx(match[2]).GetTotalDegree() == 3:
            assert frozenset((match[0], match[2])) in fixed


@pytest.mark.parametrize("kind", KINDS)
def test_mirror_images_have_flipped_every_centre_and_no_bond(kind: str) -> None:
    molecule, positions = make_kind(kind)
    reference = Stereochemistry(molecule, positions[0])
    assert reference.find_flips(positions[0]) == []
    chirality, turned = reference.flipped(positions * np.array([1.0, 1.0, -1.0]))
    assert chirality.all()
    assert not turned.any()


@pytest.mark.parametrize("kind", ["pentafluorosulfanyl", "sulfur hexafluoride"])
def test_an_octahedron_keeps_which_neighbours_are_opposite(kind: str) -> None:
    """As its chart does; vibrations do not change it."""
    smiles = KINDS[kind].smiles if kind in KINDS else REFUSED[kind][0]
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    molecule = from_rdkit(mol)
    positions = simulate(mol, 40, 0.05, temperature=500.0)
    reference = Stereochemistry(molecule, positions[0])
    arrangement, _ = reference.flipped(positions)
    assert reference.atoms == [1]
    assert not arrangement.any()
    fluorines = [i for i in molecule.graph()[1] if molecule.elements[i] == "F"]
    for a, b in combinations(fluorines, 2):
        exchanged = positions.copy()
        exchanged[:, [a, b]] = positions[:, [b, a]]
        assert reference.flipped(exchanged)[0].all()
    assert reference.find_flips(exchanged[0]) == ["chirality of LIG1:S1 (atom 1)"]


def test_five_neighbours_have_no_arrangement_to_keep() -> None:
    mol = Chem.MolFromSmiles("FP(F)(F)(F)F")
    positions = np.random.default_rng(1).normal(size=(6, 3))
    assert Stereochemistry(from_rdkit(mol), positions).atoms == []


def test_an_acylated_aziridine_inverts() -> None:
    """Its nitrogen is pyramidal or flat, by the force field, and is not held in either case."""
    for molecule in both_ways("CC(=O)N1CC1"):
        assert perceive(molecule).inverting == {3}
        assert 3 not in perceive(molecule).centres


def test_flips_are_named() -> None:
    molecule, positions = make_kind("sulfoxide")
    flips = Stereochemistry(molecule, positions[0]).find_flips(-positions[0])
    assert "chirality of LIG1:S2 (atom 2)" in flips


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_chart_is_refused_by_name(name: str) -> None:
    smiles, reason = REFUSED[name]
    molecule = from_rdkit(Chem.AddHs(Chem.MolFromSmiles(smiles)))
    with pytest.raises(ValueError, match=r"LIG1:\w+ \(atom \d+\).*Restrict") as error:
        build_zmatrix(molecule)
    assert reason in str(error.value)
