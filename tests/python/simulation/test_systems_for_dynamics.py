"""Systems whose parts are moved between dynamics: boxes, cut-offs, constraints, masses."""

from __future__ import annotations

import openmm
import pytest
from openmm import Vec3, app, unit
from peptides import Structure

from timewarp_openmm.simulation.systems import DynamicsOptions, build_system, is_solvated

IMPLICIT = ("amber14-all.xml", "implicit/obc2.xml")
WATER = ("amber14-all.xml", "amber14/tip3p.xml")


def nonbonded(system: openmm.System) -> openmm.NonbondedForce:
    return next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))


def in_water() -> app.Topology:
    structure = Structure()
    modeller = app.Modeller(structure.topology, structure.positions * unit.nanometer)
    modeller.addSolvent(app.ForceField(*WATER), boxSize=Vec3(2.6, 2.6, 2.6))
    return modeller.topology


def test_without_water_there_is_no_box_whatever_the_file_says() -> None:
    topology = Structure().topology
    topology.setUnitCellDimensions(Vec3(2.0, 2.0, 2.0) * unit.nanometer)
    assert not is_solvated(topology)
    system = build_system(topology, IMPLICIT, DynamicsOptions())
    assert nonbonded(system).getNonbondedMethod() == openmm.NonbondedForce.NoCutoff
    assert not system.usesPeriodicBoundaryConditions()
    hydrogens = sum(atom.element.symbol == "H" for atom in topology.atoms())
    assert system.getNumConstraints() == hydrogens


@pytest.mark.parametrize("force_field", [IMPLICIT, ("amber99sbildn.xml", "amber99_obc.xml")])
def test_implicit_solvent_with_a_cut_off(force_field: tuple[str, ...]) -> None:
    system = build_system(Structure().topology, force_field, DynamicsOptions(cutoff=1.5))
    force = nonbonded(system)
    assert force.getNonbondedMethod() == openmm.NonbondedForce.CutoffNonPeriodic
    assert force.getCutoffDistance()._value == 1.5
    (solvent,) = (
        f for f in system.getForces() if isinstance(f, (openmm.CustomGBForce, openmm.GBSAOBCForce))
    )
    assert solvent.getCutoffDistance()._value == 1.5


def test_water_has_a_box_and_is_rigid() -> None:
    topology = in_water()
    assert is_solvated(topology)
    system = build_system(topology, WATER, DynamicsOptions(hydrogen_mass=3.0))
    force = nonbonded(system)
    assert force.getNonbondedMethod() == openmm.NonbondedForce.PME
    assert force.getCutoffDistance()._value == 1.0
    waters = [r for r in topology.residues() if r.name == "HOH"]
    hydrogens = sum(a.element.symbol == "H" for a in Structure().topology.atoms())
    assert system.getNumConstraints() == hydrogens + 3 * len(waters)
    masses = {
        system.getParticleMass(a.index)._value
        for a in topology.atoms()
        if a.element.symbol == "H" and a.residue.name != "HOH"
    }
    assert masses == {3.0}
    for method in (IMPLICIT, ("amber99sbildn.xml", "amber99_obc.xml", "tip3p.xml")):
        files = (*method, WATER[1]) if method == IMPLICIT else method
        with pytest.raises(ValueError, match=r"holds water, .* name a force field"):
            build_system(topology, files, DynamicsOptions())
