"""Some particles of a System as a System of their own, with the terms of the energy among them.

OpenMM writes every Force as lists of terms that name particles, and lists with an entry for each
particle. So one rule serves all Forces of these two kinds: entries of particles that are left out
are dropped, and so are terms with such a particle. Nothing is periodic afterwards: the particles
are expected to lie where their distances are those of nearest images.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import openmm

#: By kind of Force, the lists of terms that name particles.
_TERMS = {
    "HarmonicBondForce": ("Bonds",),
    "HarmonicAngleForce": ("Angles",),
    "PeriodicTorsionForce": ("Torsions",),
    "RBTorsionForce": ("Torsions",),
    "CMAPTorsionForce": ("Torsions",),
    "CustomBondForce": ("Bonds",),
    "CustomAngleForce": ("Angles",),
    "CustomTorsionForce": ("Torsions",),
    "CustomCompoundBondForce": ("Bonds",),
    "NonbondedForce": ("Exceptions",),
    "CustomNonbondedForce": ("Exclusions",),
    "GBSAOBCForce": (),
    "CustomGBForce": ("Exclusions",),
}
#: Those with an entry for each particle.
_OF_PARTICLES = ("NonbondedForce", "CustomNonbondedForce", "GBSAOBCForce", "CustomGBForce")
#: Their methods without a box; Ewald sums of a NonbondedForce have no cut-off then.
_WITHOUT_BOX = {"0": "0", "1": "1", "2": "1", "3": "0", "4": "0", "5": "0"}
#: No part of the energy.
_NO_ENERGY = (
    openmm.CMMotionRemover,
    openmm.AndersenThermostat,
    openmm.MonteCarloBarostat,
    openmm.MonteCarloAnisotropicBarostat,
    openmm.MonteCarloFlexibleBarostat,
    openmm.MonteCarloMembraneBarostat,
)
_PARTICLE = re.compile(r"[pab]\d+")


@dataclass(frozen=True)
class CutSystem:
    """Some particles of a System.

    Attributes
    ----------
    system : openmm.System
        With the masses that they have, without constraints.
    left_out : tuple of str
        The names of Forces that no rule is known for.
    """

    system: openmm.System
    left_out: tuple[str, ...]


def cut_system(system: openmm.System, particles: Sequence[int]) -> CutSystem:
    """Return some particles of a System, in this order, with all terms of the energy among them.

    Barostats and the like, which have no energy, are left out without a word.
    """
    place = {particle: i for i, particle in enumerate(particles)}
    own, left_out = openmm.System(), []
    for particle in particles:
        own.addParticle(system.getParticleMass(particle))
    for force in system.getForces():
        if isinstance(force, _NO_ENERGY):
            continue
        if type(force).__name__ not in _TERMS:
            left_out.append(force.getName())
            continue
        element = ElementTree.fromstring(openmm.XmlSerializer.serialize(force))
        _cut(element, place)
        own.addForce(openmm.XmlSerializer.deserialize(ElementTree.tostring(element, "unicode")))
    return CutSystem(own, tuple(left_out))


def _cut(force: Element, place: dict[int, int]) -> None:
    """Cut a Force, as XML, down to the particles that have a place."""
    kind = force.attrib["type"]
    if "usesPeriodic" in force.attrib:
        force.set("usesPeriodic", "0")
    if kind in _OF_PARTICLES:
        force.set("method", _WITHOUT_BOX[force.attrib["method"]])
        _keep_particles(force, place)
    kept = {name: _keep_terms(force, name, place) for name in _TERMS[kind]}
    if kind == "NonbondedForce":
        _keep_offsets(force, "ParticleOffsets", "particle", place)
        _keep_offsets(force, "ExceptionOffsets", "exception", kept["Exceptions"])
    if kind == "CustomNonbondedForce":
        _keep_groups(force, place)


def _keep_particles(force: Element, place: dict[int, int]) -> None:
    particles = _list(force, "Particles")
    entries = list(particles)
    particles[:] = [entries[particle] for particle in place]


def _keep_terms(force: Element, name: str, place: dict[int, int]) -> dict[int, int]:
    """Drop terms with a particle that has no place, and return the new number of each other."""
    terms, numbers = _list(force, name), dict[int, int]()
    kept: list[Element] = []
    for number, term in enumerate(terms):
        named = {key: int(value) for key, value in term.attrib.items() if _PARTICLE.fullmatch(key)}
        if not all(particle in place for particle in named.values()):
            continue
        for key, particle in named.items():
            term.set(key, str(place[particle]))
        numbers[number] = len(kept)
        kept.append(term)
    terms[:] = kept
    return numbers


def _keep_offsets(force: Element, name: str, key: str, place: dict[int, int]) -> None:
    offsets = _list(force, name)
    offsets[:] = [offset for offset in offsets if int(offset.attrib[key]) in place]
    for offset in offsets:
        offset.set(key, str(place[int(offset.attrib[key])]))


def _keep_groups(force: Element, place: dict[int, int]) -> None:
    """Keep interaction groups with what is left of their sets, also nothing: without any groups all
    particles would interact."""
    for group in _list(force, "InteractionGroups"):
        for members in group:
            _keep_offsets(group, members.tag, "index", place)


def _list(force: Element, name: str) -> Element:
    found = force.find(name)
    return Element(name) if found is None else found
