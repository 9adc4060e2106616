"""Rings that flip close whatever their flaps are."""

import math

import pytest
import torch
from chemistry import make_kind
from molecules import make
from torch import Tensor

from timewarp_openmm.flows.internal.coordinates import InternalCoordinates
from timewarp_openmm.molecule import Molecule
from timewarp_openmm.molecule.rings import ring_bonds, smallest_rings
from timewarp_openmm.molecule.zmatrix import CoordinateKind, build_zmatrix

ALONE = [
    "cyclopentanol",
    "proline dipeptide",
    "methylcyclohexane",
    "N-methylpiperidine",
    "cycloheptane",
    "oxepane",
    "spiro[4.5]decane",
    "imatinib",
]


def flapped(molecule: Molecule, positions: Tensor, count: int) -> Tensor:
    """Return the conformation [1, N, 3] with `count` random sets of flaps, all else as it is."""
    zmatrix = build_zmatrix(molecule)
    internal = InternalCoordinates(zmatrix)
    bonds, angles, torsions = internal.to_internal(positions)
    flaps = [i for i, kind in enumerate(zmatrix.torsion_kinds) if kind is CoordinateKind.PUCKER]
    generator = torch.Generator().manual_seed(1)
    turned = torsions.repeat(count, 1)
    anywhere = torch.rand(count, len(flaps), generator=generator, dtype=torch.float64)
    turned[:, flaps] = (2 * anywhere - 1) * math.pi
    return internal.to_positions(
        bonds.expand(count, -1), angles.expand(count, -1), turned, positions
    )


def bond_lengths(molecule: Molecule, positions: Tensor) -> Tensor:
    first, second = torch.tensor(molecule.bonds).T
    return torch.linalg.vector_norm(positions[:, first] - positions[:, second], dim=-1)


def ring_and_hydrogens(molecule: Molecule) -> tuple[set[int], set[int]]:
    """Return the atoms of the only ring, and these with the hydrogens on them."""
    graph = molecule.graph()
    ring = set(smallest_rings(molecule)[0])
    return ring, ring | {n for i in ring for n in graph[i] if molecule.elements[n] == "H"}


@pytest.mark.parametrize("kind", ALONE)
def test_every_bond_keeps_its_length(kind: str) -> None:
    molecule, positions = make_kind(kind)
    x = torch.tensor(positions)
    y = flapped(molecule, x, 50)
    assert (y - x).abs().amax((1, 2)).min() > 0.01
    assert (bond_lengths(molecule, y) - bond_lengths(molecule, x)).abs().max() < 1e-10


@pytest.mark.parametrize(
    "smiles",
    [
        "C1CCC2CCCCC2C1",
        "C1CCC2CCCC2CC1",
        "C1CCN2CCCCC2C1",
        "C1CC2CCCC3CCCC(C1)C23",
        "C1CCC2C(C1)CCC1C2CCC2CCCC12",
        "C1CCC2CC2C1",
    ],
)
def test_rings_that_share_bonds_are_placed_one_after_the_other(smiles: str) -> None:
    """The first ring closes whatever its flaps are, and nothing is placed from what it places."""
    molecule, positions = make(smiles)
    x = torch.tensor(positions)
    y = flapped(molecule, x, 20)
    assert torch.isfinite(y).all()
    kept = (bond_lengths(molecule, y) - bond_lengths(molecule, x)).abs().amax(0) < 1e-10
    whole = {frozenset(b) for b, k in zip(molecule.bonds, kept.tolist(), strict=True) if k}
    flexible = [ring for ring in smallest_rings(molecule) if len(ring) >= 5]
    assert any(ring_bonds(molecule, ring) <= whole for ring in flexible)


def test_a_ring_with_a_bond_that_does_not_turn_is_a_chain() -> None:
    """The torsion about the double bond is then a coordinate, and stiff."""
    molecule, _ = make_kind("cyclohexene")
    zmatrix = build_zmatrix(molecule)
    graph = molecule.graph()
    for placed in zmatrix.placed:
        assert graph.has_edge(placed.atom, placed.references[0])
        assert graph.has_edge(*placed.references[:2])


@pytest.mark.parametrize(("smiles", "flaps"), [("CC(C)C1CCCCC1", 3), ("CC(C)N1CCC1", 0)])
def test_a_ring_that_is_moved_as_a_part_is_cut_alike(smiles: str, flaps: int) -> None:
    """It is entered from the context, and nothing of that is placed."""
    molecule, _ = make(smiles)
    ring, moved = ring_and_hydrogens(molecule)
    zmatrix = build_zmatrix(molecule, sorted(moved))
    assert {placed.atom for placed in zmatrix.placed} == moved
    cut = [p for p in zmatrix.placed if p.kind is CoordinateKind.PUCKER]
    assert len(cut) == flaps
    assert all({p.atom, *p.references} <= ring for p in cut)


def test_a_ring_that_two_branches_enter_is_a_chain() -> None:
    """What is placed from either side keeps the bond to that side."""
    molecule, _ = make("CC1CCC(C)CC1")
    zmatrix = build_zmatrix(molecule, sorted(ring_and_hydrogens(molecule)[1]))
    graph = molecule.graph()
    assert all(graph.has_edge(p.atom, p.references[0]) for p in zmatrix.placed)
