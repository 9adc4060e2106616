"""Systems that differ from a given one in a single respect."""

from __future__ import annotations

import copy
import math

import openmm


def charges_scaled(system: openmm.System, factor: float) -> openmm.System:
    """Return the System with all charges of its NonbondedForce scaled."""
    changed = copy.deepcopy(system)
    nonbonded = _force(changed, openmm.NonbondedForce)
    for i in range(nonbonded.getNumParticles()):
        charge, sigma, epsilon = nonbonded.getParticleParameters(i)
        nonbonded.setParticleParameters(i, factor * charge, sigma, epsilon)
    return changed


def with_charge(system: openmm.System, atom: int, charge: float = math.nan) -> openmm.System:
    """Return the System with another charge on one atom, by default one that is not a number."""
    changed = copy.deepcopy(system)
    nonbonded = _force(changed, openmm.NonbondedForce)
    _, sigma, epsilon = nonbonded.getParticleParameters(atom)
    nonbonded.setParticleParameters(atom, charge, sigma, epsilon)
    return changed


def _force(system: openmm.System, kind: type[openmm.Force]) -> openmm.Force:
    return next(force for force in system.getForces() if isinstance(force, kind))
