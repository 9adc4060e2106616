"""Minima become conformers, and frames populations of them."""

from __future__ import annotations

import math

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import AllChem

from timewarp_openmm.ensemble.conformers import find_conformers, populations, with_positions
from timewarp_openmm.ensemble.minima import Minima, find_minima


def conformer_of(mol: Chem.Mol, *torsions: tuple[tuple[int, int, int, int], float]) -> NDArray:
    """Return positions / nm with torsions set to degrees."""
    placed = Chem.Mol(mol)
    for atoms, degrees in torsions:
        AllChem.SetDihedralDeg(placed.GetConformer(), *atoms, degrees)
    return np.array(placed.GetConformer().GetPositions()) / 10


def embedded(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    return mol


def turned(positions: NDArray, seed: int) -> NDArray:
    """Return positions somewhere else."""
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return positions @ (rotation * np.sign(np.linalg.det(rotation))) + seed


def test_butane_has_three_conformers() -> None:
    """Gauche ones are mirror images of each other, which superposition must not take for one."""
    mol = embedded("CCCC")
    kinds = [180.0, 65.0, -65.0, 180.0, 60.0]
    frames = np.array(
        [turned(conformer_of(mol, ((0, 1, 2, 3), d)), i) for i, d in enumerate(kinds)]
    )
    energies = np.array([0.0, 3.0, 3.1, 0.2, 3.2])
    found = find_conformers(mol, Minima(frames, energies), 0.03)
    assert found.labels[0] == found.labels[3]
    assert found.labels[1] == found.labels[4]
    assert len({int(label) for label in found.labels[:3]}) == 3
    # The most populated first, and of equal ones that of least energy.
    assert found.leaders.tolist() == [0, 1, 2]


def test_equivalent_atoms_are_exchanged() -> None:
    """A ring flip of phenyl and a turn of tert-butyl give the same conformer; fluorine tells."""
    for smiles, same in (("c1ccccc1CC(C)(C)C", True), ("c1c(F)cccc1CC(C)(C)C", False)):
        mol = embedded(smiles)
        ring = mol.GetSubstructMatch(Chem.MolFromSmarts("c[c;R][CH2][CX4]"))
        at = AllChem.GetDihedralDeg(mol.GetConformer(), *ring)
        frames = np.array([conformer_of(mol, (ring, at)), conformer_of(mol, (ring, at + 180))])
        found = find_conformers(mol, Minima(turned_all(frames), np.array([0.0, 1.0])), 0.03)
        assert (len(found.leaders) == 1) == same, smiles


def turned_all(frames: NDArray) -> NDArray:
    return np.array([turned(frame, i) for i, frame in enumerate(frames)])


def test_the_threshold_decides() -> None:
    mol = embedded("CCCC")
    frames = np.array([conformer_of(mol, ((0, 1, 2, 3), d)) for d in (180.0, 150.0)])
    minima = Minima(frames, np.array([0.0, 1.0]))
    assert len(find_conformers(mol, minima, 0.001).leaders) == 2
    assert len(find_conformers(mol, minima, 0.5).leaders) == 1


def test_few_heavy_atoms_are_told_apart_by_hydrogens() -> None:
    mol = embedded("OO")
    frames = np.array([conformer_of(mol, ((2, 0, 1, 3), d)) for d in (110.0, -110.0)])
    minima = Minima(frames, np.zeros(2))
    assert len(find_conformers(mol, minima, 0.02).leaders) == 2


def test_positions_are_in_angstroms() -> None:
    mol = embedded("CC")
    placed = with_positions(mol, np.full((8, 3), 0.1))
    assert placed.GetConformer().GetPositions() == pytest.approx(np.ones((8, 3)))
    assert mol.GetConformer().GetPositions() != pytest.approx(np.ones((8, 3)))


def test_populations_and_free_energies() -> None:
    """Errors are those of independent draws, and larger where chains are correlated.

    The mean of 40 estimates is within 4 standard errors of the truth but once in 16,000 times.
    """
    truth, kT = np.array([0.6, 0.3, 0.1]), 2.5
    for repeat, tau in ((1, 1.0), (10, 10.0)):
        rng = np.random.default_rng(5)
        found = []
        for _ in range(40):
            chains = [np.repeat(rng.choice(3, 500 // repeat, p=truth), repeat) for _ in range(4)]
            found.append(populations(chains, 3, tau, kT))
        shares = np.array([one.population for one in found])
        spread = np.sqrt(truth * (1 - truth) * repeat / 2000)
        assert np.abs(shares.mean(axis=0) - truth) == pytest.approx(
            np.zeros(3), abs=4 * spread.max() / math.sqrt(40)
        )
        errors = np.mean([one.error for one in found], axis=0)
        assert errors == pytest.approx(spread, rel=0.2)
        free = np.array([one.free_energy for one in found])
        assert free[:, 0] == pytest.approx(0.0)
        own = np.mean([one.free_energy_error for one in found], axis=0)
        assert own[1:] == pytest.approx(free.std(axis=0, ddof=1)[1:], rel=0.4)
        assert free.mean(axis=0) == pytest.approx(kT * np.log(truth[0] / truth), abs=0.2)


def test_a_conformer_seen_once_has_no_error_of_its_free_energy() -> None:
    chains = [np.array([0] * 999 + [1])]
    found = populations(chains, 2, 1.0, 2.5)
    assert found.population[1] == pytest.approx(0.001)
    assert math.isnan(found.free_energy_error[1])


@pytest.mark.parametrize("workers", [1, 3])
def test_minima_are_found_for_each_frame(workers: int) -> None:
    """A double well along x, harmonic across: frames go to the well on their own side."""
    system = openmm.System()
    system.addParticle(1.0)
    force = openmm.CustomExternalForce("200*(x^2-1)^2 + 50*x + 500*(y^2+z^2)")
    force.addParticle(0)
    system.addForce(force)
    starts = np.array([[[x, 0.3, -0.2]] for x in (-1.4, 1.3, 0.7, -0.6, 1.1)])
    seen: list[int] = []
    minima = find_minima(system, starts, "Reference", workers, seen.append)
    assert sorted(seen) == [1, 2, 3, 4, 5]
    assert np.sign(minima.positions[:, 0, 0]).tolist() == [-1, 1, 1, -1, 1]
    assert np.abs(minima.positions[:, 0, 1:]).max() < 0.005
    assert minima.energies[[0, 3]] == pytest.approx(minima.energies[0], abs=0.05)
    assert minima.energies[0] < minima.energies[1] - 50
