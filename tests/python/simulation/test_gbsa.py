"""OpenMM's own GBSA-OBC instead of a CustomGBForce: where it is the same, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm
import pytest
from libraries import PEPTIDE
from openmm import app, unit

from timewarp_openmm.molecule.structure_files import load_structure
from timewarp_openmm.simulation.capped_peptides import capped_peptide
from timewarp_openmm.simulation.gbsa import with_builtin_gbsa, with_similar_gbsa
from timewarp_openmm.simulation.systems import DynamicsOptions, build_system, load_molecule

AMBER14 = ("amber14/protein.ff14SB.xml", "implicit/obc2.xml")


def kinds(system: openmm.System) -> set[type[openmm.Force]]:
    return {type(force) for force in system.getForces()}


def energy(system: openmm.System, positions: np.ndarray) -> float:
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(positions)
    return context.getState(energy=True).getPotentialEnergy()._value


@pytest.mark.parametrize("cutoff", [None, 0.6])
def test_it_has_the_same_energy(cutoff):
    molecule = capped_peptide(["ARG", "TRP"], AMBER14)
    options = {}
    if cutoff is not None:
        options = {
            "nonbondedMethod": app.CutoffNonPeriodic,
            "nonbondedCutoff": cutoff * unit.nanometer,
        }
    custom = app.ForceField(*AMBER14).createSystem(molecule.topology, **options)
    builtin = with_builtin_gbsa(custom)
    assert openmm.CustomGBForce in kinds(custom)
    assert openmm.GBSAOBCForce in kinds(builtin)
    assert openmm.CustomGBForce not in kinds(builtin)
    rng = np.random.default_rng(1)
    for _ in range(3):
        x = molecule.positions + rng.normal(scale=0.01, size=molecule.positions.shape)
        assert energy(builtin, x) == pytest.approx(energy(custom, x), abs=1e-2)


@pytest.mark.parametrize(
    ("solvent", "options"),
    [
        ("implicit/gbn2.xml", {}),
        ("implicit/obc1.xml", {}),
        ("implicit/obc2.xml", {"implicitSolventKappa": 1.0 / unit.nanometer}),
        ("implicit/obc2.xml", {"solventDielectric": 40.0}),
    ],
)
def test_others_are_left_alone(solvent, options):
    topology = capped_peptide(["SER"], AMBER14).topology
    field = app.ForceField("amber14/protein.ff14SB.xml", solvent)
    system = field.createSystem(topology, **options)
    assert with_builtin_gbsa(system) is system


def test_systems_of_fits_have_it():
    topology = capped_peptide(["SER"], AMBER14).topology
    assert openmm.GBSAOBCForce in kinds(build_system(topology, AMBER14))


def test_systems_whose_blocks_move_have_it(tmp_path: Path) -> None:
    """Those that are given, too, such as a complex with a ligand; a fit's are as they are given."""
    topology, positions = load_structure(PEPTIDE)
    custom = app.ForceField(*AMBER14).createSystem(topology)
    path = tmp_path / "system.xml"
    path.write_text(openmm.XmlSerializer.serialize(custom))
    given = load_molecule(PEPTIDE, system_xml=path, dynamics=DynamicsOptions()).system
    assert kinds(given) == kinds(custom) - {openmm.CustomGBForce} | {openmm.GBSAOBCForce}
    assert energy(given, positions) == pytest.approx(energy(custom, positions), abs=1e-2)
    assert openmm.CustomGBForce in kinds(load_molecule(PEPTIDE, system_xml=path).system)


@pytest.mark.parametrize(
    ("solvent", "options"),
    [
        ("implicit/hct.xml", {}),
        ("implicit/obc1.xml", {}),
        ("implicit/gbn2.xml", {}),
        ("implicit/obc2.xml", {"implicitSolventKappa": 1.0 / unit.nanometer}),
    ],
)
def test_one_that_is_similar_stands_in_for_the_others(solvent: str, options: dict) -> None:
    molecule = capped_peptide(["ARG"], AMBER14)
    field = app.ForceField("amber14/protein.ff14SB.xml", solvent)
    system = field.createSystem(molecule.topology, **options)
    similar = with_similar_gbsa(system)
    assert kinds(similar) == kinds(system) - {openmm.CustomGBForce} | {openmm.GBSAOBCForce}
    vacuum = openmm.XmlSerializer.clone(system)
    vacuum.removeForce(
        next(i for i, f in enumerate(system.getForces()) if isinstance(f, openmm.CustomGBForce))
    )
    x = molecule.positions
    solvation = energy(system, x) - energy(vacuum, x)
    assert energy(similar, x) - energy(vacuum, x) == pytest.approx(solvation, rel=0.25)


def test_nothing_stands_in_for_what_is_none_of_them() -> None:
    system = openmm.System()
    assert with_similar_gbsa(system) is None
    other = openmm.CustomGBForce()
    other.addPerParticleParameter("q")
    system.addForce(other)
    assert with_similar_gbsa(system) is None
