"""A fragment with what is around it, cut out of a larger System."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import openmm
import pytest
from complexes import box_sides, ligands, peptide_in_water
from openmm import app

from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.molecule.rotatable_torsions import rotatable_torsions
from timewarp_openmm.molecule.selection import select_atoms
from timewarp_openmm.molecule.torsions import measure_torsions
from timewarp_openmm.simulation import fragment_checks, surroundings
from timewarp_openmm.simulation.capped_peptides import capped_peptide
from timewarp_openmm.simulation.hot_systems import hot_alone, hot_system
from timewarp_openmm.simulation.surroundings import (
    NEAR,
    REACH,
    FragmentInPlace,
    cut_surroundings,
)
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule


def cut(whole: MolecularSystem, text: str) -> FragmentInPlace:
    return cut_surroundings(whole, select_atoms(whole.topology, text))


def energy(system: openmm.System, positions: np.ndarray) -> float:
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions)
    return float(context.getState(energy=True).getPotentialEnergy()._value)


def held(place: FragmentInPlace) -> np.ndarray:
    system = place.molecule.system
    masses = [system.getParticleMass(i)._value for i in range(system.getNumParticles())]
    return np.array(masses) == 0


def names(place: FragmentInPlace, atoms: tuple[int, ...]) -> set[str]:
    every = list(place.molecule.topology.atoms())
    return {f"{every[i].residue.name}{every[i].residue.id}" for i in atoms}


def test_moving_the_fragment_costs_what_it_does_in_the_whole_system() -> None:
    """All is within reach here, so that nothing is missing."""
    whole = ligands()
    place = cut(whole, "resname LIG")
    assert place.atoms == tuple(range(len(whole.positions)))
    rng = np.random.default_rng(1)
    differences = []
    for _ in range(5):
        shift = np.zeros_like(whole.positions)
        shift[list(place.fragment.moved)] = 0.01 * rng.normal(size=(len(place.fragment.moved), 3))
        local = energy(place.molecule.system, place.molecule.positions + shift)
        differences.append(local - energy(whole.system, whole.positions + shift))
    np.testing.assert_allclose(differences, differences[0], atol=1e-8)


@pytest.mark.parametrize(("number", "kept"), [(1, 1), (5, 2)])
def test_whole_residues_within_reach_are_kept(number: int, kept: int) -> None:
    """Of five molecules in a row, alike and 0.42 nm apart, those beside the one that is meant."""
    whole = ligands(3)
    place = cut(whole, f"resSeq {number}")
    assert names(place, place.fragment.moved) == {f"LIG{number}"}
    assert place.fragment.known == place.fragment.moved
    distances = _distances(place.molecule.positions, place)
    in_residue = {r: [a.index for a in r.atoms()] for r in place.molecule.topology.residues()}
    for atoms in in_residue.values():
        assert distances[atoms].min() < REACH
        assert held(place)[atoms].all() == (distances[atoms].min() >= NEAR)
    assert names(place, tuple(range(len(place.atoms)))) >= {f"OTH{number + 1}"}
    assert 0 < held(place).sum() < len(place.atoms) < len(whole.positions)


@pytest.mark.parametrize(("most", "kept"), [(20, 2), (31, 3)])
def test_of_what_is_held_the_nearest_is_kept(
    monkeypatch: pytest.MonkeyPatch, most: int, kept: int
) -> None:
    """What moves is kept whatever it takes: here a ligand, and its neighbour of 10 atoms."""
    whole = ligands(3)
    monkeypatch.setattr(surroundings, "MOST_KEPT", most)
    place = cut(whole, "resSeq 1")
    assert len(names(place, range(len(place.atoms)))) == kept
    assert names(place, place.fragment.moved) == {"LIG1"}


def test_slow_implicit_solvent_makes_way_for_one_that_is_similar() -> None:
    whole = capped_peptide(["SER"], ("amber14/protein.ff14SB.xml",))
    field = app.ForceField("amber14/protein.ff14SB.xml", "implicit/obc1.xml")
    slow = replace(whole, system=field.createSystem(whole.topology))
    place = cut(slow, "sidechain")
    assert place.similar_gbsa
    kinds = {type(force) for force in place.molecule.system.getForces()}
    assert openmm.GBSAOBCForce in kinds
    assert openmm.CustomGBForce not in kinds
    assert not cut(whole, "sidechain").similar_gbsa


def _distances(positions: np.ndarray, place: FragmentInPlace) -> np.ndarray:
    own = positions[list(place.fragment.moved)]
    found: np.ndarray = np.linalg.norm(positions[:, None] - own[None], axis=2).min(1)
    return found


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_fragment_in_a_box_has_its_surroundings_in_one_piece(in_pieces: bool) -> None:
    """Also where a structure's molecules lie on both sides of the box."""
    whole = peptide_in_water()
    sides = box_sides(whole.topology)
    if in_pieces:
        whole = replace(whole, positions=np.mod(whole.positions, sides))
    place = cut(whole, "sidechain")
    bonds = [(a.index, b.index) for a, b in place.molecule.topology.bonds()]
    bonds_before = [(a.index, b.index) for a, b in whole.topology.bonds()]
    assert bool(max(_lengths(whole.positions, bonds_before)) > 1.0) is in_pieces
    assert len(place.atoms) > 100
    assert max(_lengths(place.molecule.positions, bonds)) < 0.17
    assert not place.molecule.system.usesPeriodicBoundaryConditions()
    # Each kept molecule is the image that is nearest to the middle of the fragment.
    middle = place.molecule.positions[list(place.fragment.moved)].mean(0)
    for residue in place.molecule.topology.residues():
        own = [atom.index for atom in residue.atoms()]
        away = place.molecule.positions[own] - middle
        nearest = away - sides * np.round(away / sides)
        distance = np.linalg.norm(nearest, axis=1).min()
        assert np.linalg.norm(away, axis=1).min() == pytest.approx(distance, abs=1e-9)


def _lengths(positions: np.ndarray, bonds: list[tuple[int, int]]) -> np.ndarray:
    first, second = np.array(bonds).T
    found: np.ndarray = np.linalg.norm(positions[first] - positions[second], axis=1)
    return found


def test_the_fragment_is_free_and_its_surroundings_are_constrained() -> None:
    """X-H bonds that the System constrains, of which it says no stiffness, get one."""
    whole = peptide_in_water()
    place = cut(whole, "sidechain")
    moved, atoms = set(place.fragment.moved), list(place.molecule.topology.atoms())
    own = {i for i in moved if atoms[i].element.symbol == "H"}
    constrained = [_pairs(system) for system in (place.molecule.system, place.given)]
    assert not any(pair & moved for pair in constrained[0])
    assert {min(pair & own) for pair in constrained[1] if pair & moved} == own
    assert constrained[1] - constrained[0] == {pair for pair in constrained[1] if pair & moved}
    stiff = place.molecule.system.getForce(place.molecule.system.getNumForces() - 1)
    lengths = {
        frozenset(stiff.getBondParameters(i)[:2]): stiff.getBondParameters(i)[2]._value
        for i in range(stiff.getNumBonds())
    }
    assert set(lengths) == constrained[1] - constrained[0]
    assert all(0.10 < length < 0.12 for length in lengths.values())
    # Dynamics go well, and what is held stays.
    still = held(place)
    assert 0 < still.sum() < len(still)
    integrator = openmm.LangevinMiddleIntegrator(310, 1, 0.001)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(place.molecule.system, integrator, platform)
    context.setPositions(place.molecule.positions)
    context.setVelocitiesToTemperature(310, 1)
    integrator.step(50)
    after = context.getState(positions=True).getPositions(asNumpy=True)._value
    moves = np.linalg.norm(after - place.molecule.positions, axis=1)
    assert (moves[still] == 0).all()
    assert (moves[~still] > 0).all()
    assert moves.max() < 0.3


def _pairs(system: openmm.System) -> set[frozenset[int]]:
    return {
        frozenset(system.getConstraintParameters(i)[:2]) for i in range(system.getNumConstraints())
    }


def test_a_system_that_says_how_stiff_constrained_bonds_are_keeps_its_terms() -> None:
    whole = ligands()
    place = cut(whole, "resname LIG")
    force = whole.system.getForce(0)
    assert isinstance(force, openmm.HarmonicBondForce)
    constrained = openmm.XmlSerializer.clone(whole.system)
    for i in range(force.getNumBonds()):
        a, b, length, _ = force.getBondParameters(i)
        if "H" in (_element(whole, a), _element(whole, b)):
            constrained.addConstraint(a, b, length)
    again = cut(replace(whole, system=constrained), "resname LIG")
    own = set(again.fragment.moved)
    assert any(pair & own for pair in _pairs(again.given))
    assert not any(pair & own for pair in _pairs(again.molecule.system))
    expected = energy(place.molecule.system, place.molecule.positions)
    assert energy(again.molecule.system, again.molecule.positions) == pytest.approx(expected)


def _element(whole: MolecularSystem, atom: int) -> str:
    return str(list(whole.topology.atoms())[atom].element.symbol)


@pytest.mark.parametrize(
    ("make", "text"), [(ligands, "resname LIG"), (peptide_in_water, "sidechain")]
)
def test_nothing_but_the_fragment_is_hot(make: Callable[[], MolecularSystem], text: str) -> None:
    """A molecule, whatever its temperature, does not fly off; a part could not."""
    place = cut(make(), text)
    start, moved = place.molecule.positions, list(place.fragment.moved)
    hot = hot_system(place.molecule.system, start, place.fragment)
    assert energy(hot, start) == pytest.approx(energy(place.molecule.system, start), rel=1e-9)
    integrator = openmm.LangevinMiddleIntegrator(3000, 5, 0.0005)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(hot, integrator, platform)
    context.setPositions(start)
    context.setVelocitiesToTemperature(3000, 1)
    integrator.step(2000)
    after = context.getState(positions=True).getPositions(asNumpy=True)._value
    moves = np.linalg.norm(after - start, axis=1)
    others = [i for i in range(len(start)) if i not in moved]
    assert (moves[others] == 0).all()
    assert (moves[moved] > 0).all()
    # 0.1 nm for nothing; beyond, 0.3 nm cost 90 kJ/mol, 3.6 kT.
    assert np.linalg.norm(after[moved].mean(0) - start[moved].mean(0)) < 0.4


@pytest.mark.parametrize(
    ("make", "text"), [(ligands, "resname LIG"), (peptide_in_water, "sidechain")]
)
def test_a_hot_molecule_by_itself_keeps_its_bonds(
    make: Callable[[], MolecularSystem], text: str
) -> None:
    """Those of its surroundings that have constraints instead of a term, too."""
    place = cut(make(), text)
    known = list(place.fragment.known)
    start = place.molecule.positions[known]
    hot = hot_alone(place.molecule.system, place.molecule.positions, place.fragment)
    integrator = openmm.LangevinMiddleIntegrator(800, 2, 0.001)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(hot, integrator, platform)
    context.setPositions(start)
    context.setVelocitiesToTemperature(800, 1)
    molecule = molecule_from_topology(place.molecule.topology, place.molecule.system)
    bonds = [(known.index(a), known.index(b)) for a, b in molecule.bonds if a in known]
    others = sorted(set(range(len(known))) - set(place.fragment.own_moved or known))
    turned = set()
    for _ in range(20):
        integrator.step(500)
        after = context.getState(positions=True).getPositions(asNumpy=True)._value
        assert abs(_lengths(after, bonds) / _lengths(start, bonds) - 1).max() < 0.3
        if others:
            assert np.linalg.norm(after[others] - start[others], axis=1).max() < 0.5
        everything = place.molecule.positions.copy()
        everything[known] = after
        torsions = rotatable_torsions(molecule, place.fragment)
        turned.add(int(measure_torsions(everything[None], torsions)[0, 0] // (2 * np.pi / 3)))
    assert len(turned) > 1


def changed(whole: MolecularSystem, change: Callable[[openmm.System], object]) -> MolecularSystem:
    system = openmm.XmlSerializer.clone(whole.system)
    change(system)
    return replace(whole, system=system)


@pytest.mark.parametrize(
    ("make", "text", "message"),
    [
        (
            lambda: ligands(2),
            "resname LIG",
            r"several molecules \(A:LIG1:F0 and A:LIG3:F0,",
        ),
        (ligands, "1", r"A:LIG1:C1 is bonded to A:LIG1:F0, .*tear the molecule apart; name what"),
        (peptide_in_water, "index 30", r"A?:?HOH\d+:\w+, which is water; dynamics move it"),
        (
            lambda: changed(ligands(), lambda s: s.setParticleMass(2, 0.0)),
            "resname LIG",
            r"A:LIG1:C2, which is a virtual site or has no mass.* leave it out",
        ),
        (
            lambda: changed(ligands(), lambda s: s.addConstraint(1, 2, 0.15)),
            "resname LIG",
            r"constrains A:LIG1:C1 - A:LIG1:C2, .*constraints=None or HBonds",
        ),
        (
            lambda: changed(ligands(), lambda s: s.addConstraint(4, 5, 0.15)),
            "resname LIG",
            r"constrains A:LIG1:H4 - A:LIG1:H5, ",
        ),
    ],
)
def test_what_cannot_be_moved_is_named(
    make: Callable[[], MolecularSystem], text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cut(make(), text)


def test_more_atoms_than_a_model_can_move_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragment_checks, "MOST_ATOMS", 5)
    with pytest.raises(ValueError, match="names 8 atoms, and a model of more than 5 at once"):
        cut(ligands(), "resname LIG")


def test_a_molecule_by_itself_is_pointed_elsewhere() -> None:
    alone = named_molecule("alanine-dipeptide")
    with pytest.raises(ValueError, match=r"nothing around .*; fit the molecule by itself"):
        cut(alone, "all")


def test_virtual_sites_around_are_named() -> None:
    def make_virtual(system: openmm.System) -> None:
        system.setParticleMass(9, 0.0)
        system.setVirtualSite(9, openmm.TwoParticleAverageSite(10, 11, 0.5, 0.5))

    with pytest.raises(ValueError, match=r"A:OTH2:C1, near the fragment, is a virtual .*TIP3P"):
        cut(changed(ligands(), make_virtual), "resname LIG")
