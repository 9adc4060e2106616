"""OpenMM's own GBSA-OBC in the place of the same function written as a CustomGBForce.

The force field files of Amber 14 make implicit solvent as a CustomGBForce, whose dynamics take
many times as long.
"""

from __future__ import annotations

import numpy as np
import openmm

#: nm; what the radii of the model of Onufriev, Bashford and Case (2004) are reduced by.
_OFFSET = 0.009
#: What openmm.app calls charges, and reduced and scaled radii / nm.
_PARAMETERS = ["charge", "or", "sr"]
#: Of OpenMM's implicit/obc2.xml.
_SOLVENT_DIELECTRIC = 78.5
#: kJ/mol; energies of some charges that differ by more are of two functions.
_TOLERANCE = 1e-3


def with_builtin_gbsa(system: openmm.System) -> openmm.System:
    """Return a System with a GBSAOBCForce where this has a CustomGBForce of the same energy.

    If the two differ (another model of implicit solvent, salt), or there is no CustomGBForce, the
    System itself is returned.
    """
    place = _custom_gbsa(system)
    if place is None or not _is_obc2(system.getForce(place)):
        return system
    return _replaced(system, place)


def with_similar_gbsa(system: openmm.System) -> openmm.System | None:
    """Return a System with a GBSAOBCForce in the place of a CustomGBForce of openmm.app's models of
    generalised Born (HCT, OBC, GBn), of the same charges and radii; None where there is none.

    The energies are similar, not the same: for what proposes, not for what decides.
    """
    place = _custom_gbsa(system)
    if place is None or _names(system.getForce(place))[:3] != _PARAMETERS:
        return None
    return _replaced(system, place)


def _custom_gbsa(system: openmm.System) -> int | None:
    """Return the index of the one CustomGBForce, if there is one."""
    places = [
        i for i, force in enumerate(system.getForces()) if isinstance(force, openmm.CustomGBForce)
    ]
    return places[0] if len(places) == 1 else None


def _replaced(system: openmm.System, place: int) -> openmm.System:
    custom = system.getForce(place)
    particles = [custom.getParticleParameters(i)[:3] for i in range(custom.getNumParticles())]
    replaced = openmm.XmlSerializer.clone(system)
    replaced.removeForce(place)
    builtin = _builtin(custom, particles)
    builtin.setForceGroup(custom.getForceGroup())
    replaced.addForce(builtin)
    return replaced


def _names(custom: openmm.CustomGBForce) -> list[str]:
    return [
        custom.getPerParticleParameterName(i) for i in range(custom.getNumPerParticleParameters())
    ]


def _is_obc2(custom: openmm.CustomGBForce) -> bool:
    """Tell whether the force is OBC2 with OpenMM's constants, by its energy of a few charges."""
    names = _names(custom)
    known = names == _PARAMETERS and custom.getNumGlobalParameters() == 0
    if not known or custom.getNumTabulatedFunctions() > 0 or custom.getNumExclusions() > 0:
        return False
    particles = [(-0.8, 0.16, 0.13), (0.5, 0.11, 0.09), (0.4, 0.14, 0.12), (-0.1, 0.09, 0.08)]
    same = openmm.CustomGBForce()
    for name in names:
        same.addPerParticleParameter(name)
    for i in range(custom.getNumComputedValues()):
        same.addComputedValue(*custom.getComputedValueParameters(i))
    for i in range(custom.getNumEnergyTerms()):
        same.addEnergyTerm(*custom.getEnergyTermParameters(i))
    for parameters in particles:
        same.addParticle(parameters)
    _share_cutoff(custom, same)
    builtin = _builtin(custom, particles)
    return all(
        abs(_energy(same, positions) - _energy(builtin, positions)) < _TOLERANCE
        for positions in np.random.default_rng(1).uniform(0.0, 0.5, size=(4, len(particles), 3))
    )


def _share_cutoff(custom: openmm.CustomGBForce, other: openmm.Force) -> None:
    other.setNonbondedMethod(custom.getNonbondedMethod())
    other.setCutoffDistance(custom.getCutoffDistance())


def _builtin(
    custom: openmm.CustomGBForce, particles: list[tuple[float, float, float]]
) -> openmm.GBSAOBCForce:
    """Return OpenMM's force of particles with charges, reduced and scaled radii / nm."""
    builtin = openmm.GBSAOBCForce()
    builtin.setSolventDielectric(_SOLVENT_DIELECTRIC)
    _share_cutoff(custom, builtin)
    for charge, reduced, scaled in particles:
        builtin.addParticle(charge, reduced + _OFFSET, scaled / reduced)
    return builtin


def _energy(force: openmm.Force, positions: np.ndarray) -> float:
    system = openmm.System()
    for _ in positions:
        system.addParticle(1.0)
    system.addForce(openmm.XmlSerializer.clone(force))
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions)
    energy: float = context.getState(energy=True).getPotentialEnergy()._value
    return energy
