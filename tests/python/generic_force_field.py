"""An OpenMM System for any organic molecule, so that it can be simulated without parameters of its
own: MMFF94's bonded terms (Halgren 1996) as RDKit assigns them, and soft atoms that repel. Where
MMFF94 does not know an atom (SF5), ideal lengths and angles take the place of its bonded terms.

It is meant for the range of shapes that dynamics visits, not for energies: no stretch-bend terms,
no charges, Lennard-Jones by element (GAFF's sizes, 1-4 pairs by half).
"""

import math

import mmff
import numpy as np
import openmm
from openmm import app, unit
from rdkit import Chem
from rdkit.Chem import AllChem

#: r_min/2 / Angstrom and epsilon / (kcal/mol).
LENNARD_JONES = {"H": (1.2, 0.0157), "C": (1.908, 0.1), "N": (1.824, 0.17), "O": (1.66, 0.2)}
OTHER_ELEMENT = (1.9, 0.2)


def make_topology(mol: Chem.Mol, residue: str = "LIG") -> app.Topology:
    """Return the atoms and bonds of a molecule, as one residue; names are elements and indices."""
    topology = app.Topology()
    add_atoms(topology, topology.addResidue(residue, topology.addChain()), mol)
    return topology


def add_atoms(topology: app.Topology, parent: app.topology.Residue, mol: Chem.Mol) -> None:
    """Put the atoms and bonds of a molecule into a residue."""
    atoms = [
        topology.addAtom(
            f"{a.GetSymbol()}{a.GetIdx()}", app.Element.getBySymbol(a.GetSymbol()), parent
        )
        for a in mol.GetAtoms()
    ]
    for bond in mol.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])


def make_system(mol: Chem.Mol) -> openmm.System:
    """Return the System of a molecule with hydrogens."""
    properties = AllChem.MMFFGetMoleculeProperties(mol)
    system = openmm.System()
    for atom in mol.GetAtoms():
        system.addParticle(atom.GetMass())
    pairs, around = mmff.bond_pairs(mol), mmff.neighbours(mol)
    if properties is None:
        system.addForce(_ideal_bonds(mol, pairs))
        system.addForce(_ideal_angles(mol, around))
    else:
        for term in (mmff.bonds, mmff.angles, mmff.torsions):
            system.addForce(term(mol, properties))
    system.addForce(_repulsion(mol, pairs))
    return system


def _ideal_bonds(mol, pairs):
    table = Chem.GetPeriodicTable()
    radii = [table.GetRcovalent(atom.GetAtomicNum()) for atom in mol.GetAtoms()]
    force = openmm.HarmonicBondForce()
    for i, j in pairs:
        force.addBond(i, j, 0.1 * (radii[i] + radii[j]), 2.5e5)
    return force


def _ideal_angles(mol, around):
    """Flat at three neighbours (98 degrees at As, Sb, Se), a tetrahedron at four, an octahedron (90
    or 180 degrees) at six."""
    force = openmm.CustomAngleForce("0.5*k*(cos(theta)-a)^2*(cos(theta)-b)^2")
    for name in ("k", "a", "b"):
        force.addPerAngleParameter(name)
    cosines = {2: (-1 / 2, 10.0), 3: (-1 / 2, 10.0), 4: (-1 / 3, 10.0), 6: (0.0, -1.0)}
    for j, neighbours in enumerate(around):
        for place, i in enumerate(neighbours):
            for k in neighbours[place + 1 :]:
                a, b = cosines[len(neighbours)]
                if len(neighbours) == 3 and mol.GetAtomWithIdx(j).GetSymbol() in ("As", "Sb", "Se"):
                    a = math.cos(math.radians(98))
                force.addAngle(i, j, k, [1000.0 / max(1.0, b) ** 2, a, b])
    return force


def _repulsion(mol, pairs):
    force = openmm.NonbondedForce()
    for atom in mol.GetAtoms():
        radius, depth = LENNARD_JONES.get(atom.GetSymbol(), OTHER_ELEMENT)
        force.addParticle(0.0, 2 * radius / 2 ** (1 / 6) / 10, depth * mmff.KCAL)
    force.createExceptionsFromBonds(pairs, 1.0, 0.5)
    return force


def simulate(
    mol: Chem.Mol, frames: int, interval: float, temperature: float = 310.0, seed: int = 1
) -> np.ndarray:
    """Return frames [F, N, 3] / nm of Langevin dynamics from the molecule's conformation.

    Parameters
    ----------
    interval : float
        ps.
    """
    integrator = openmm.LangevinMiddleIntegrator(temperature, 1.0, 0.001)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(make_system(mol), integrator, platform)
    context.setPositions(mol.GetConformer().GetPositions() / 10)
    openmm.LocalEnergyMinimizer.minimize(context)
    context.setVelocitiesToTemperature(temperature, seed)
    integrator.step(2000)
    found = []
    for _ in range(frames):
        integrator.step(round(interval * 1000))
        positions = context.getState(positions=True).getPositions(asNumpy=True)
        found.append(positions.value_in_unit(unit.nanometer))
    return np.array(found)
