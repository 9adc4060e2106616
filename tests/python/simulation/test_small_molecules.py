"""Systems of small molecules, by openmmforcefields, NAGL and AmberTools."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from rdkit import Chem

from timewarp_openmm.molecule.ligand_input import read_ligand
from timewarp_openmm.molecule.mol_files import positions_of
from timewarp_openmm.simulation import small_molecules
from timewarp_openmm.simulation.small_molecules import parametrise

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def energy(system: openmm.System, positions: NDArray[np.float64]) -> float:
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions)
    return float(context.getState(energy=True).getPotentialEnergy()._value)


def total_charge(system: openmm.System) -> float:
    force = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    charges = [force.getParticleParameters(i)[0]._value for i in range(force.getNumParticles())]
    return float(sum(charges))


def kinds(system: openmm.System) -> set[str]:
    return {type(force).__name__ for force in system.getForces()}


def test_the_order_of_atoms_is_kept() -> None:
    """The energy of the same structure is the same in another order of its atoms."""
    mol = read_ligand(ASPIRIN)
    order = np.random.default_rng(1).permutation(mol.GetNumAtoms()).tolist()
    other = Chem.RenumberAtoms(mol, order)
    first, second = (parametrise(one) for one in (mol, other))
    assert first.getNumParticles() == mol.GetNumAtoms()
    masses = [first.getParticleMass(i)._value for i in range(first.getNumParticles())]
    assert masses == pytest.approx([atom.GetMass() for atom in mol.GetAtoms()], abs=0.02)
    value = energy(first, positions_of(mol))
    assert energy(second, positions_of(other)) == pytest.approx(value, abs=0.01)
    assert total_charge(first) == pytest.approx(0.0, abs=1e-3)
    assert first.getNumConstraints() == 0
    assert "CMMotionRemover" not in kinds(first)


def test_charges_and_solvents() -> None:
    mol = read_ligand("C[C@H]([NH3+])C(=O)[O-]")
    solvated, alone = parametrise(mol), parametrise(mol, solvent="none")
    assert "GBSAOBCForce" in kinds(solvated), "in the form that is fast"
    assert "GBSAOBCForce" not in kinds(alone)
    positions = positions_of(mol)
    # A zwitterion is held by some 200 kJ/mol in water.
    assert energy(alone, positions) - energy(solvated, positions) > 100
    anion = parametrise(read_ligand("CC(=O)[O-]"))
    assert total_charge(anion) == pytest.approx(-1.0, abs=1e-3)


@pytest.mark.long
def test_charges_of_ambertools_are_those_of_the_network() -> None:
    mol = read_ligand("CC(=O)Nc1ccc(O)cc1")
    found = []
    for charges in ("nagl", "am1bcc"):
        system = parametrise(mol, charges=charges)  # type: ignore[arg-type]
        force = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
        found.append([force.getParticleParameters(i)[0]._value for i in range(mol.GetNumAtoms())])
    assert np.abs(np.subtract(*found)).max() < 0.05


def test_the_environment_is_left_as_it_was() -> None:
    before = os.environ["PATH"]
    parametrise(read_ligand("CCO"), solvent="none")
    assert os.environ["PATH"] == before


@pytest.mark.parametrize(
    ("smiles", "options", "message"),
    [
        ("CCO", {"force_field": "amber14"}, "amber14 is no force field of small molecules"),
        ("CCO", {"force_field": "gaff-9.9"}, "gaff-9.9 cannot be used here"),
        ("C[Si](C)(C)C", {}, "element 14; try am1bcc charges"),
    ],
)
def test_what_has_no_parameters(smiles: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parametrise(read_ligand(smiles), **options)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_molecules, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"openff\.toolkit and openmmforcefields; install .*ligands"
    ):
        parametrise(read_ligand("CCO"))
