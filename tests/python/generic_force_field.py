"""An OpenMM System for any organic molecule, so that it can be simulated without parameters of its
own: MMFF94's bonded terms (Halgren 1996) as RDKit assigns them, and soft atoms that repel. Where
MMFF94 does not know an atom (SF5), ideal lengths and angles take the place of its bonded terms.

It is meant for the range of shapes that dynamics visits, not for energies: no stretch-bend terms,
no charges, Lennard-Jones by element (GAFF's sizes, 1-4 pairs by half).
"""

import math

import numpy as np
import openmm
from openmm import unit
from rdkit import Chem
from rdkit.Chem import AllChem

KCAL = 4.184
#: MMFF's units of angle bending: kcal/mol per degree squared, times radian to degree.
BEND = 0.043844 * KCAL * math.degrees(1) ** 2
#: r_min/2 / Angstrom and epsilon / (kcal/mol).
LENNARD_JONES = {"H": (1.2, 0.0157), "C": (1.908, 0.1), "N": (1.824, 0.17), "O": (1.66, 0.2)}
OTHER_ELEMENT = (1.9, 0.2)


def make_system(mol: Chem.Mol) -> openmm.System:
    """Return the System of a molecule with hydrogens."""
    properties = AllChem.MMFFGetMoleculeProperties(mol)
    system = openmm.System()
    for atom in mol.GetAtoms():
        system.addParticle(atom.GetMass())
    pairs = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()]
    around = [[n.GetIdx() for n in atom.GetNeighbors()] for atom in mol.GetAtoms()]
    if properties is None:
        system.addForce(_ideal_bonds(mol, pairs))
        system.addForce(_ideal_angles(mol, around))
    else:
        system.addForce(_bonds(mol, properties, pairs))
        system.addForce(_angles(mol, properties, around))
        system.addForce(_torsions(mol, properties, pairs, around))
        system.addForce(_out_of_plane(mol, properties, around))
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


def _bonds(mol, properties, pairs):
    force = openmm.HarmonicBondForce()
    for i, j in pairs:
        _, stiffness, length = properties.GetMMFFBondStretchParams(mol, i, j)
        force.addBond(i, j, 0.1 * length, 143.9325 * stiffness * KCAL * 100)
    return force


def _angles(mol, properties, around):
    force = openmm.HarmonicAngleForce()
    for j, neighbours in enumerate(around):
        for place, i in enumerate(neighbours):
            for k in neighbours[place + 1 :]:
                _, stiffness, angle = properties.GetMMFFAngleBendParams(mol, i, j, k)
                force.addAngle(i, j, k, math.radians(angle), BEND * stiffness)
    return force


def _torsions(mol, properties, pairs, around):
    force = openmm.PeriodicTorsionForce()
    for j, k in pairs:
        for i in around[j]:
            for m in around[k]:
                if i in (k, m) or m == j:
                    continue
                found = properties.GetMMFFTorsionParams(mol, i, j, k, m)
                # MMFF: E = 1/2 [V1 (1 + cos t) + V2 (1 - cos 2t) + V3 (1 + cos 3t)].
                for n, barrier in enumerate((found or [0])[1:], 1):
                    phase = math.pi if n == 2 else 0.0
                    force.addTorsion(i, j, k, m, n, phase, 0.5 * barrier * KCAL)
    return force


def _out_of_plane(mol, properties, around):
    """One improper torsion t for MMFF's three bends of chi each: chi is about t/sqrt(3) for small
    ones, and k (1 - cos 2t) = 2 k t^2."""
    force = openmm.PeriodicTorsionForce()
    for j, neighbours in enumerate(around):
        if len(neighbours) == 3:
            i, k, m = neighbours
            bend = properties.GetMMFFOopBendParams(mol, i, j, k, m)
            if bend and bend > 0:
                force.addTorsion(i, j, k, m, 2, math.pi, BEND * bend / 4)
    return force


def _repulsion(mol, pairs):
    force = openmm.NonbondedForce()
    for atom in mol.GetAtoms():
        radius, depth = LENNARD_JONES.get(atom.GetSymbol(), OTHER_ELEMENT)
        force.addParticle(0.0, 2 * radius / 2 ** (1 / 6) / 10, depth * KCAL)
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
