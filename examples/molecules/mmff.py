"""MMFF94's bonded terms (Halgren 1996) as OpenMM forces, with the parameters that RDKit assigns.

Bonds and angles are in their harmonic form; there are no stretch-bend terms.
"""

import math

import openmm

KCAL = 4.184


def stretch(stiffness):
    """kJ/mol/nm^2, of E = 143.9325/2 k dr^2 in kcal/mol and Angstrom."""
    return 143.9325 * stiffness * KCAL * 100


def bend(stiffness):
    """kJ/mol/rad^2, of E = 0.043844/2 k dt^2 in kcal/mol and degrees."""
    return 0.043844 * stiffness * KCAL * math.degrees(1) ** 2


def bond_pairs(molecule):
    """Return the two atoms of each bond of an RDKit molecule."""
    return [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()]


def neighbours(molecule):
    """Return the neighbours of each atom."""
    return [[n.GetIdx() for n in atom.GetNeighbors()] for atom in molecule.GetAtoms()]


def bonds(molecule, properties):
    force = openmm.HarmonicBondForce()
    for i, j in bond_pairs(molecule):
        _, stiffness, length = properties.GetMMFFBondStretchParams(molecule, i, j)
        force.addBond(i, j, 0.1 * length, stretch(stiffness))
    return force


def angles(molecule, properties):
    force = openmm.HarmonicAngleForce()
    for j, around in enumerate(neighbours(molecule)):
        for place, i in enumerate(around):
            for k in around[place + 1 :]:
                _, stiffness, angle = properties.GetMMFFAngleBendParams(molecule, i, j, k)
                force.addAngle(i, j, k, math.radians(angle), bend(stiffness))
    return force


def torsions(molecule, properties, softest=0.0):
    """Proper and improper torsions.

    Parameters
    ----------
    softest : float
        kJ/mol/rad^2; what MMFF lets bend out of its plane more easily gets so much, or with 0, if
        MMFF has it repel, nothing.
    """
    force = openmm.PeriodicTorsionForce()
    _add_proper(force, molecule, properties)
    _add_out_of_plane(force, molecule, properties, softest)
    return force


def _add_proper(force, molecule, properties):
    """E = 1/2 [V1 (1 + cos t) + V2 (1 - cos 2t) + V3 (1 + cos 3t)]."""
    around = neighbours(molecule)
    for j, k in bond_pairs(molecule):
        for i in around[j]:
            for m in around[k]:
                if i == k or m in (i, j):
                    continue
                found = properties.GetMMFFTorsionParams(molecule, i, j, k, m)
                for n, barrier in enumerate((found or [0])[1:], 1):
                    if barrier:
                        phase = math.pi if n == 2 else 0.0
                        force.addTorsion(i, j, k, m, n, phase, 0.5 * barrier * KCAL)


def _add_out_of_plane(force, molecule, properties, softest):
    """One improper torsion t for MMFF's three bends of chi each: chi is about t/sqrt(3) for small
    ones, and k (1 - cos 2t) = 2 k t^2."""
    for j, around in enumerate(neighbours(molecule)):
        if len(around) == 3:
            i, k, m = around
            stiffness = properties.GetMMFFOopBendParams(molecule, i, j, k, m)
            curvature = max(bend(stiffness), softest) if stiffness else 0.0
            if curvature > 0:
                force.addTorsion(i, j, k, m, 2, math.pi, curvature / 4)
