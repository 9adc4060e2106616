"""Some particles of a System: each kind of Force keeps the terms among them, and no others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import openmm
import pytest

from timewarp_openmm.simulation.cut_system import cut_system

ATOMS = 12
#: Kept, in another order than they have.
KEPT = (3, 1, 2, 8, 5, 4, 9, 10)
POSITIONS = np.random.default_rng(1).uniform(0, 0.9, (ATOMS, 3))
Terms = list[tuple[tuple[int, ...], float]]
#: 0: none, 1: a cut-off, 2: a periodic one.
NO_CUTOFF, CUTOFF, PERIODIC = 0, 1, 2


def terms(size: int, particles: Sequence[int]) -> Terms:
    """Return all terms of so many of some particles, counted among these, and a number for each
    that depends on which they are."""
    place = {particle: i for i, particle in enumerate(particles)}
    every = [tuple((i * step + 1) % ATOMS for i in range(size)) for step in (1, 5, 7)]
    shifted = [tuple((i + shift) % ATOMS for i in term) for term in every for shift in range(ATOMS)]
    return [
        (tuple(place[i] for i in term), 1.0 + sum(n * i for n, i in enumerate(term)))
        for term in shifted
        if set(term) <= set(place)
    ]


def own(particle: int) -> float:
    return 0.1 + 0.07 * particle


def bonds(particles: Sequence[int]) -> openmm.Force:
    force = openmm.HarmonicBondForce()
    for term, number in terms(2, particles):
        force.addBond(*term, 0.01 * number, 100 + number)
    force.setUsesPeriodicBoundaryConditions(len(particles) == ATOMS)
    return force


def angles(particles: Sequence[int]) -> openmm.Force:
    force = openmm.HarmonicAngleForce()
    for term, number in terms(3, particles):
        force.addAngle(*term, 0.01 * number, 10 + number)
    return force


def torsions(particles: Sequence[int]) -> openmm.Force:
    force = openmm.PeriodicTorsionForce()
    for term, number in terms(4, particles):
        force.addTorsion(*term, 2, 0.1 * number, number)
    return force


def rb_torsions(particles: Sequence[int]) -> openmm.Force:
    force = openmm.RBTorsionForce()
    for term, number in terms(4, particles):
        force.addTorsion(*term, 1, number, 2, 0.1 * number, 0, 1)
    return force


def cmap(particles: Sequence[int]) -> openmm.Force:
    force = openmm.CMAPTorsionForce()
    for shift in (0, 1):
        force.addMap(4, list(np.arange(16) % 5 + shift))
    for term, number in terms(8, particles):
        force.addTorsion(int(number) % 2, *term)
    return force


def custom_bonds(particles: Sequence[int]) -> openmm.Force:
    force = openmm.CustomBondForce("scale*k*r^3")
    force.addPerBondParameter("k")
    force.addGlobalParameter("scale", 2.0)
    for term, number in terms(2, particles):
        force.addBond(*term, [number])
    return force


def custom_angles(particles: Sequence[int]) -> openmm.Force:
    force = openmm.CustomAngleForce("k*theta")
    force.addPerAngleParameter("k")
    for term, number in terms(3, particles):
        force.addAngle(*term, [number])
    return force


def custom_torsions(particles: Sequence[int]) -> openmm.Force:
    force = openmm.CustomTorsionForce("k*cos(theta)")
    force.addPerTorsionParameter("k")
    for term, number in terms(4, particles):
        force.addTorsion(*term, [number])
    return force


def compound(particles: Sequence[int]) -> openmm.Force:
    force = openmm.CustomCompoundBondForce(3, "p0*distance(p1,p2)*angle(p1,p2,p3)")
    force.addPerBondParameter("p0")
    for term, number in terms(3, particles):
        force.addBond(term, [number])
    return force


def nonbonded(particles: Sequence[int], method: int = NO_CUTOFF) -> openmm.Force:
    force = openmm.NonbondedForce()
    for particle in particles:
        force.addParticle((-1) ** particle * own(particle), 0.1, own(particle))
    force.addGlobalParameter("scale", 0.5)
    for term, value in terms(2, particles):
        number = force.addException(*term, 0.1 * value, 0.1, 0.1, replace=True)
        if value % 2:
            force.addExceptionParameterOffset("scale", number, value, 0, 0.1)
    for i, particle in enumerate(particles):
        if particle % 3 == 0:
            force.addParticleParameterOffset("scale", i, 0.3, 0.01 * particle, 0.1)
    force.setNonbondedMethod(method)
    force.setCutoffDistance(0.4)
    return force


def custom_nonbonded(particles: Sequence[int], method: int = NO_CUTOFF) -> openmm.Force:
    force = openmm.CustomNonbondedForce("a1*a2*exp(-r)")
    force.addPerParticleParameter("a")
    for particle in particles:
        force.addParticle([own(particle)])
    for term, value in terms(2, particles):
        if value % 2:
            force.addExclusion(*term)
    force.setNonbondedMethod(method)
    force.setCutoffDistance(0.4)
    return force


def interaction_groups(particles: Sequence[int]) -> openmm.Force:
    force = custom_nonbonded(particles)
    assert isinstance(force, openmm.CustomNonbondedForce)
    place = {particle: i for i, particle in enumerate(particles)}
    # Of the last one nothing is left, and without any group all would interact.
    for first, second in (((0, 1, 2), (3, 4, 8)), ((0, 6), (7, 11)), ((0,), (1,))):
        groups = [[place[i] for i in members if i in place] for members in (first, second)]
        force.addInteractionGroup(*groups)
    return force


def gbsa(particles: Sequence[int], method: int = NO_CUTOFF) -> openmm.Force:
    force = openmm.GBSAOBCForce()
    for particle in particles:
        force.addParticle((-1) ** particle * own(particle), 0.12 + 0.005 * particle, 0.8)
    force.setNonbondedMethod(method)
    force.setCutoffDistance(0.4)
    return force


def custom_gb(particles: Sequence[int]) -> openmm.Force:
    force = openmm.CustomGBForce()
    force.addPerParticleParameter("q")
    force.addComputedValue("I", "q2/(1+r)", openmm.CustomGBForce.ParticlePair)
    force.addEnergyTerm("I^2", openmm.CustomGBForce.SingleParticle)
    for particle in particles:
        force.addParticle([own(particle)])
    for term, value in terms(2, particles):
        if value % 2:
            force.addExclusion(*term)
    return force


KINDS = [
    *(bonds, angles, torsions, rb_torsions, cmap, custom_bonds, custom_angles, custom_torsions),
    *(compound, nonbonded, custom_nonbonded, interaction_groups, gbsa, custom_gb),
]
each_kind = pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)


def system_of(*forces: openmm.Force, particles: int = ATOMS) -> openmm.System:
    system = openmm.System()
    for _ in range(particles):
        system.addParticle(1.0)
    for force in forces:
        system.addForce(force)
    return system


def energy(system: openmm.System, positions: np.ndarray) -> float:
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions)
    return float(context.getState(energy=True).getPotentialEnergy()._value)


@each_kind
def test_everything_kept_is_the_same_energy(make: Callable[..., openmm.Force]) -> None:
    """In another order of the particles."""
    order = [*KEPT, *(i for i in range(ATOMS) if i not in KEPT)]
    # Bonds that cross the box would be others.
    inside = 0.5 * POSITIONS
    whole = system_of(make(range(ATOMS)))
    cut = cut_system(whole, order)
    assert cut.left_out == ()
    expected = energy(whole, inside)
    assert abs(expected) > 1e-3
    assert energy(cut.system, inside[order]) == pytest.approx(expected, rel=1e-10)


@each_kind
def test_the_terms_among_what_is_kept_are_left(make: Callable[..., openmm.Force]) -> None:
    """The same energy as of a Force that is made of these particles alone."""
    whole = system_of(make(range(ATOMS)))
    cut = cut_system(whole, KEPT)
    expected = energy(system_of(make(KEPT), particles=len(KEPT)), POSITIONS[list(KEPT)])
    assert energy(cut.system, POSITIONS[list(KEPT)]) == pytest.approx(expected, rel=1e-10)
    assert expected != pytest.approx(energy(whole, POSITIONS), rel=1e-3)


@pytest.mark.parametrize(
    ("make", "method", "becomes"),
    [
        (nonbonded, openmm.NonbondedForce.PME, NO_CUTOFF),
        (nonbonded, openmm.NonbondedForce.LJPME, NO_CUTOFF),
        (nonbonded, PERIODIC, CUTOFF),
        (nonbonded, CUTOFF, CUTOFF),
        (custom_nonbonded, PERIODIC, CUTOFF),
        (gbsa, PERIODIC, CUTOFF),
    ],
)
def test_nothing_is_periodic_afterwards(
    make: Callable[..., openmm.Force], method: int, becomes: int
) -> None:
    cut = cut_system(system_of(make(range(ATOMS), method)), KEPT)
    assert not cut.system.usesPeriodicBoundaryConditions()
    (force,) = cut.system.getForces()
    assert force.getNonbondedMethod() == becomes
    expected = energy(system_of(make(KEPT, becomes), particles=len(KEPT)), POSITIONS[list(KEPT)])
    assert energy(cut.system, POSITIONS[list(KEPT)]) == pytest.approx(expected, rel=1e-10)


def test_forces_without_a_rule_are_named() -> None:
    """What has no energy, and what is none of the energy's business, goes without a word."""
    held = openmm.CustomExternalForce("x^2")
    held.addParticle(3)
    held.setName("Restraint")
    centres = openmm.CustomCentroidBondForce(1, "x1")
    others = (openmm.CMMotionRemover(), openmm.MonteCarloBarostat(1.0, 300.0))
    cut = cut_system(system_of(bonds(range(ATOMS)), held, centres, *others), KEPT)
    assert cut.left_out == ("Restraint", "CustomCentroidBondForce")
    assert [type(force).__name__ for force in cut.system.getForces()] == ["HarmonicBondForce"]


def test_masses_are_kept() -> None:
    system = system_of()
    for i in range(ATOMS):
        system.setParticleMass(i, i)
    cut = cut_system(system, KEPT).system
    assert [cut.getParticleMass(i)._value for i in range(len(KEPT))] == list(KEPT)
