"""A model's molecule is found among water, ions, ligands and a protein by its bond graph."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import openmm
import pytest
from block_systems import trimer_positions, trimer_system, trimer_topology, write_trimer
from openmm import app, unit

from timewarp_openmm import TimewarpMCMCIntegrator, find_blocks, pretrained
from timewarp_openmm.simulation.systems import named_molecule

MODEL = pretrained("alanine-dipeptide")
MOLECULES = Path(__file__).parents[3] / "examples/molecules"
CARBONS = ("C", "C", "C")


def solution(ligands: int) -> tuple[app.Topology, list[int]]:
    """Return a peptide, ions, water and ligands between them, and the ligands' first atoms.

    The ligand is capped alanine, and so is a part of what other molecules are made of.
    """
    pdb = app.PDBFile(str(MOLECULES / "leucine-dipeptide.pdb"))
    protein = app.Modeller(pdb.topology, pdb.positions)
    forcefield = app.ForceField("amber99sbildn.xml", "tip3p.xml")
    protein.addSolvent(
        forcefield,
        boxSize=openmm.Vec3(1.8, 1.8, 1.8) * unit.nanometer,
        ionicStrength=0.5 * unit.molar,
    )
    ligand, firsts = named_molecule("alanine-dipeptide"), []
    for i in range(ligands):
        firsts.append(protein.topology.getNumAtoms())
        shifted = ligand.positions + np.array([3.0 + i, 0, 0])
        protein.add(ligand.topology, shifted * unit.nanometer)
    names = {residue.name for residue in protein.topology.residues()}
    assert {"LEU", "HOH", "NA", "CL"} < names
    return protein.topology, firsts


def test_the_one_that_is_there_is_found() -> None:
    topology, (first,) = solution(1)
    expected = list(range(first, first + 22))
    assert TimewarpMCMCIntegrator(MODEL, topology=topology).getParticles() == expected
    integrator = TimewarpMCMCIntegrator(temperature=300)
    integrator.addBlock(MODEL, topology=topology)
    assert integrator.getBlockParticles(0) == expected


def test_of_two_the_message_asks_which() -> None:
    topology, firsts = solution(2)
    integrator = TimewarpMCMCIntegrator(temperature=300)
    for call in (
        lambda: TimewarpMCMCIntegrator(MODEL, topology=topology),
        lambda: integrator.addBlock(MODEL, topology=topology),
    ):
        with pytest.raises(ValueError, match="holds 2 copies of the model's molecule") as raised:
            call()
        for first in firsts:
            assert re.search(
                rf"ACE1 to \S*NME3 \(range\({first}, {first + 22}\)\)", str(raised.value)
            )
        assert f"particles=range({firsts[0]}, {firsts[0] + 22})" in str(raised.value)
    for first in firsts:
        integrator.addBlock(MODEL, topology=topology, particles=range(first + 21, first - 1, -1))
    found = [integrator.getBlockParticles(i) for i in (0, 1)]
    assert found == [list(range(first, first + 22)) for first in firsts]


def test_none_there_is_said() -> None:
    topology, _ = solution(0)
    integrator = TimewarpMCMCIntegrator(temperature=300)
    with pytest.raises(ValueError, match=r"does not hold the model's molecule \(C6H12N2O2\)"):
        integrator.addBlock(MODEL, topology=topology)


def test_models_of_a_part_are_found_with_what_is_around_it(tmp_path: Path) -> None:
    """Context atoms belong to the molecule; they stay, and the others move."""
    model = write_trimer(tmp_path / "part.pt", CARBONS, context=True)
    topology, system = trimer_topology(CARBONS, 2), trimer_system(CARBONS, 2)
    integrator = TimewarpMCMCIntegrator(temperature=300)
    with pytest.raises(ValueError, match=r"A:MOL1 .*range\(0, 3\).*A:MOL2 .*range\(3, 6\)"):
        integrator.addBlock(model, topology=topology)
    with pytest.raises(ValueError, match="has all atoms that it moves among particles="):
        integrator.addBlock(model, topology=topology, particles=[3, 4])
    integrator.addBlock(model, topology=topology, particles=[5, 4, 3], positions=None)
    assert integrator.getBlockParticles(0) == [3, 4, 5]
    integrator.setFrozenOthers(True)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    positions = trimer_positions(2)
    context.setPositions(positions)
    integrator.step(50)
    after = context.getState(positions=True).getPositions(asNumpy=True)._value
    moved = (after != positions).any(1)
    assert moved.tolist() == [False] * 4 + [True] * 2
    assert integrator.getBlockStatistics(0).accepted > 0


def test_in_a_larger_molecule_only_context_atoms_have_other_bonds(tmp_path: Path) -> None:
    model = write_trimer(tmp_path / "part.pt", CARBONS, context=True)
    topology = trimer_topology(CARBONS, 2)
    atoms = list(topology.atoms())
    # Of one trimer it is an atom that the model would move, of the other the one that stays.
    topology.addBond(atoms[2], atoms[3])
    assert find_blocks(model, topology) == [[3, 4, 5]]
    integrator = TimewarpMCMCIntegrator(temperature=300)
    integrator.addBlock(model, topology=topology)
    assert integrator.getBlockParticles(0) == [3, 4, 5]
