"""Exploration: basins are found, flips are dropped, populations and frame weights add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from altered_systems import charges_scaled
from generic_force_field import make_system
from openmm import app
from rdkit import Chem
from rdkit.Chem import AllChem

from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.molecule.rotatable_torsions import rotatable_torsions
from timewarp_openmm.molecule.stereochemistry import Stereochemistry
from timewarp_openmm.molecule.torsions import measure_torsions, torsion
from timewarp_openmm.simulation import explore
from timewarp_openmm.simulation.embedding import embedded_conformers
from timewarp_openmm.simulation.explore import (
    Basins,
    ExploreSettings,
    _walk_task,
    basin_populations,
    basins_standing,
    describe_found,
    find_basins,
    load_or_find_basins,
)
from timewarp_openmm.simulation.standing import Standing
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule
from timewarp_openmm.simulation.walks import Walk, walk_on
from timewarp_openmm.stages import Conflict, Done, Missing
from timewarp_openmm.trajectories.pairs import Trajectory
from timewarp_openmm.trajectories.weights import LEAST_SHARE, BasinMap, frame_weights
from timewarp_openmm.units import thermal_energy


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return named_molecule("alanine-dipeptide")


@pytest.fixture(scope="module")
def basins(alanine: MolecularSystem) -> Basins:
    settings = ExploreSettings(walkers=2, temperatures=(800.0,), length=25.0, interval=0.5)
    return find_basins(alanine, settings, seed=3)


def test_only_phi_and_psi_turn_in_alanine_dipeptide(alanine: MolecularSystem) -> None:
    atoms = molecule_from_topology(alanine.topology, alanine.system)
    torsions = rotatable_torsions(atoms)
    bonds = {frozenset(atoms.atom_names[i] for i in t[1:3]) for t in torsions}
    assert bonds == {frozenset(("N", "CA")), frozenset(("CA", "C"))}
    measured = measure_torsions(alanine.positions[None], torsions)[0]
    assert measured == pytest.approx([torsion(alanine.positions, t) for t in torsions])


def test_basins_are_apart_ordered_and_keep_the_stereochemistry(
    alanine: MolecularSystem, basins: Basins
) -> None:
    assert len(basins) >= 2
    assert basins.energies[0] == 0
    assert (np.diff(basins.energies) >= 0).all()
    turns = np.abs(np.angle(np.exp(1j * (basins.torsions[:, None] - basins.torsions[None]))))
    nearest = turns.max(-1) + 10 * np.eye(len(basins))
    assert nearest.min() > ExploreSettings().separation
    atoms = molecule_from_topology(alanine.topology, alanine.system)
    check = Stereochemistry(atoms, alanine.positions)
    assert all(not check.find_flips(p) for p in basins.positions)
    assert basins.visits.sum() + basins.dropped <= 2 * 51


def test_walkers_that_take_turns_go_the_same_ways(alanine: MolecularSystem) -> None:
    """As they do where there are fewer processes than walkers, or one is killed."""
    settings = ExploreSettings(length=3.0, interval=1.0)
    tasks = [_walk_task(alanine, settings, walker, 1) for walker in range(2)]

    def walk(order: list[int]) -> list[list[float]]:
        energies: list[list[float]] = [[], []]
        standings = [Standing(), Standing()]
        for number in order:
            found = walk_on(replace(tasks[number], key=f"{order}-{number}"), standings[number], 0.0)
            energies[number] += found.energies
            standings[number] = found.standing
        return energies

    alone = walk([0] * 4 + [1] * 4)
    assert walk([0, 1] * 4) == alone
    assert alone[0] != alone[1]


def test_flipped_conformations_are_dropped_and_counted(
    alanine: MolecularSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = alanine.positions * np.array([-1.0, 1.0, 1.0])
    walk = Walk([1.0, -50.0], [alanine.positions, mirror], Standing(2))
    monkeypatch.setattr(explore, "run_walks", lambda *_: [walk])
    found = find_basins(alanine, ExploreSettings(walkers=1), seed=1)
    assert (len(found), found.dropped) == (1, 1)
    flipped = Walk([-50.0], [mirror], Standing(1))
    monkeypatch.setattr(explore, "run_walks", lambda *_: [flipped])
    with pytest.raises(ValueError, match="all 1 conformations"):
        find_basins(alanine, ExploreSettings(walkers=1), seed=1)


def test_basins_are_read_back_and_those_of_another_exploration_kept(
    alanine: MolecularSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ExploreSettings(walkers=1, length=1.0)
    assert basins_standing(tmp_path, alanine, settings, seed=1) == Missing()
    first = load_or_find_basins(tmp_path, alanine, settings, seed=1)
    again = load_or_find_basins(tmp_path, alanine, settings, seed=1)
    assert np.array_equal(first.positions, again.positions)
    assert (first.dropped, first.found) == (again.dropped, again.found)
    monkeypatch.setattr(explore, "find_basins", lambda *_: pytest.fail("searched"))
    # Neither the molecule's name nor the time that was allowed makes another exploration.
    renamed = replace(alanine, name="other", force_field=("other.xml",))
    load_or_find_basins(tmp_path, renamed, replace(settings, max_minutes=3.0), seed=1)
    before = (tmp_path / "basins.npz").read_bytes()
    with pytest.raises(FileExistsError, match="seed: 1 there, 2 now"):
        load_or_find_basins(tmp_path, alanine, settings, seed=2)
    other = replace(alanine, system=charges_scaled(alanine.system, 0.9))
    assert isinstance(basins_standing(tmp_path, other, settings, seed=1), Conflict)
    with pytest.raises(FileExistsError, match="system: "):
        load_or_find_basins(tmp_path, other, settings, seed=1)
    assert (tmp_path / "basins.npz").read_bytes() == before
    with pytest.raises(pytest.fail.Exception, match="searched"):
        load_or_find_basins(tmp_path, alanine, settings, seed=2, force=True)


def generic_molecule(smiles: str, orders: bool = False) -> MolecularSystem:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain("A"))
    atoms = [
        topology.addAtom(f"A{a.GetIdx()}", app.Element.getBySymbol(a.GetSymbol()), residue)
        for a in mol.GetAtoms()
    ]
    for bond in mol.GetBonds():
        order = int(bond.GetBondTypeAsDouble()) if orders else None
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()], order=order)
    positions = mol.GetConformer().GetPositions() / 10
    return MolecularSystem(smiles, topology, make_system(mol), positions, ())


def test_basins_that_are_mirror_images_are_told(
    alanine: MolecularSystem, basins: Basins, tmp_path: Path
) -> None:
    """An amine that inverts has each basin twice; a molecule with a stereocentre has none twice."""
    assert (basins.found, basins.images) == (len(basins), 0)
    settings = ExploreSettings(walkers=2, temperatures=(600.0, 800.0), length=20.0, interval=0.2)
    amine = generic_molecule("CNCC")
    found = load_or_find_basins(tmp_path, amine, settings, seed=1)
    assert found.found == 2 * found.images == 6
    assert load_or_find_basins(tmp_path, amine, settings, seed=1).images == 3
    assert describe_found(found.found, found.images) == "6 (3 of them are mirror images of others)"


@pytest.mark.parametrize(
    "smiles",
    ["C/C=C/[C@H](O)CCC", "CC(C)(C)CC(C)C", "C1CCC(C)(C)CC1", "CC(=O)N[C@@H](C)C(=O)NC"],
    ids=["centre and double bond", "groups of one kind", "in a ring", "amides"],
)
def test_distance_geometry_keeps_the_stereochemistry(smiles: str) -> None:
    molecule = generic_molecule(smiles, orders=True)
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    found = embedded_conformers(atoms, molecule.positions, 10, seed=2)
    assert found.shape == (10, atoms.num_atoms, 3)
    check = Stereochemistry(atoms, molecule.positions)
    flips = [flip for positions in found for flip in check.find_flips(positions)]
    # Amides may come out cis, which exploring drops.
    assert [flip for flip in flips if "cis/trans" not in flip or "=" in smiles[:4]] == []
    # Bonds of some 0.1 nm: the unit is nm.
    lengths = [np.linalg.norm(found[:, a] - found[:, b], axis=-1) for a, b in atoms.bonds]
    assert 0.08 < np.min(lengths) < np.max(lengths) < 0.18
    np.testing.assert_array_equal(found, embedded_conformers(atoms, molecule.positions, 10, seed=2))
    other = embedded_conformers(atoms, molecule.positions, 10, seed=3)
    assert not np.array_equal(found, other)
    without = replace(atoms, bond_orders=(), formal_charges=())
    assert len(embedded_conformers(without, molecule.positions, 10, seed=2)) == 0


def test_conformers_join_the_basins_that_walkers_find(tmp_path: Path) -> None:
    """Of walkers that hardly move, all but the first basin are those of distance geometry."""
    molecule = generic_molecule("CCCCCC", orders=True)
    still = ExploreSettings(walkers=1, temperatures=(1.0,), length=0.1, interval=0.01)
    alone = load_or_find_basins(tmp_path, molecule, still, seed=1)
    assert len(alone) == 1
    more = replace(still, conformers=30)
    found = find_basins(molecule, more, seed=1)
    assert len(found) > 3
    # Where distance geometry led says nothing of how often a walker would come there.
    assert sorted(found.visits)[-2:] == [1, 11]
    assert isinstance(basins_standing(tmp_path, molecule, more, seed=1), Conflict)
    assert basins_standing(tmp_path, molecule, still, seed=1) == Done()


def test_populations_follow_the_superposition_formula() -> None:
    basins = Basins(
        np.zeros((2, 4, 3)), np.array([0.0, 5.0]), np.zeros((2, 1)), np.array([60, 40]), 0, 2, 0
    )
    same = basin_populations(basins, 500.0, (500.0,))
    assert same == pytest.approx([0.6, 0.4])
    cold = basin_populations(basins, 300.0, (600.0,))
    factor = np.exp(-5.0 * (1 / thermal_energy(300.0) - 1 / thermal_energy(600.0)))
    assert cold[1] / cold[0] == pytest.approx(40 / 60 * factor)


def test_frame_weights_give_each_basin_its_share(alanine: MolecularSystem, basins: Basins) -> None:
    atoms = molecule_from_topology(alanine.topology, alanine.system)
    a, b = (basins.positions[k].astype(np.float32) for k in (0, 1))
    trajectories = (
        Trajectory("one", np.stack([a, a, a]), 1.0),
        Trajectory("two", np.stack([b, a]), 1.0),
    )
    populations = np.zeros(len(basins))
    populations[0] = 1.0
    weights = frame_weights(trajectories, BasinMap(atoms, basins.torsions), populations)
    total = sum(float(array.sum()) for array in weights.values())
    # Basins without frames get nothing, rare ones the least share.
    assert total == pytest.approx(1.0)
    assert weights["two"][0] == pytest.approx(LEAST_SHARE / (1 + LEAST_SHARE), rel=1e-3)
    assert np.ptp([*weights["one"], weights["two"][1]]) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"walkers": 0}, "walkers must be from 1"),
        ({"temperatures": ()}, "at least one temperature"),
        ({"length": -1.0}, "length must be above 0"),
        ({"length": 1.0, "interval": 1.5}, "must not exceed"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExploreSettings(**settings)
