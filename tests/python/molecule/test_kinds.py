"""Every kind of molecule of the table: its Z-matrix, and what its stereochemistry is."""

import numpy as np
import pytest
from chemistry import KINDS, REFUSED, conformations, make_kind
from molecules import from_rdkit
from rdkit import Chem

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
    for placed in zmatrix.placed:
        p, q, r = placed.references
        if placed.kind is not CoordinateKind.PUCKER or not any({p, q, r} <= ring for ring in rings):
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


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_says_what_is_on_the_circle_and_what_is_fixed(kind: str) -> None:
    molecule, _ = make_kind(kind)
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
def test_nothing_that_rdkit_calls_stereo_is_missing(kind: str) -> None:
    """RDKit perceives it from bond orders and charges, which a topology does not have."""
    mol = conformations(kind)
    molecule = from_rdkit(mol)
    centres = {centre.atom for centre in chirality_centres(molecule)}
    fixed = {frozenset(atoms[1:3]) for atoms in fixed_torsions(molecule)}
    for info in Chem.FindPotentialStereo(mol):
        if info.type == Chem.StereoType.Atom_Tetrahedral:
            assert info.centeredOn in centres
        elif info.type == Chem.StereoType.Bond_Double:
            bond = mol.GetBondWithIdx(info.centeredOn)
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
