"""Starting conformations: minimised, driven into a basin, and checked."""

from __future__ import annotations

import copy

import numpy as np
import openmm
from numpy.typing import NDArray

from ..molecule.graph import Molecule
from ..molecule.stereochemistry import Stereochemistry, backbone_torsions, torsion
from ..units import NANOMETER, PICOSECOND
from .protocol import BASINS, Protocol
from .systems import make_platform

#: Harmonic restraint on a driven torsion, kJ/mol/rad^2: stiff against the barriers of a backbone
#: (tens of kJ/mol), soft against bond angles.
DRIVE_STIFFNESS = 200.0
DRIVE_PIECES = 50
DRIVE_TIME = 10.0
#: 1/ps; takes away the work of driving.
DRIVE_FRICTION = 5.0
MAX_ATTEMPTS = 10


def make_integrator(protocol: Protocol, seed: int) -> openmm.LangevinMiddleIntegrator:
    """Return the protocol's integrator, seeded."""
    integrator = openmm.LangevinMiddleIntegrator(
        protocol.temperature, protocol.friction, protocol.timestep * PICOSECOND
    )
    integrator.setRandomNumberSeed(seed)
    return integrator


def get_positions(context: openmm.Context) -> NDArray[np.float64]:
    """Return a Context's positions [N, 3] in nm, as they are (not wrapped into a box)."""
    state = context.getState(positions=True)
    return np.asarray(state.getPositions(asNumpy=True).value_in_unit(NANOMETER))


def equilibrated_start(
    context: openmm.Context,
    molecule: Molecule,
    reference: NDArray[np.float64],
    protocol: Protocol,
    index: int,
    seed: int,
    start: NDArray[np.float64],
) -> int:
    """Bring `context` to the start of trajectory `index`: an equilibrated state in its basin.

    Parameters
    ----------
    context : openmm.Context
        With the protocol's System and integrator.
    reference : array [N, 3], nm
        Sets the handedness and the amides that a start must have.
    start : array [N, 3], nm
        Where the trajectory starts unless it is driven into a basin.

    Returns
    -------
    dropped : int
        How many starts were dropped because a centre or an amide had flipped.

    Raises
    ------
    ValueError
        If none of ten attempts kept them.
    """
    check = Stereochemistry(molecule, reference)
    flips: list[str] = []
    for attempt in range(MAX_ATTEMPTS):
        attempt_seed = (seed + 7919 * attempt) % 2**31 or 1
        positions = start
        if protocol.starts == "basins":
            basin = BASINS[index % len(BASINS)]
            positions = drive(
                context.getSystem(), molecule, reference, protocol, basin, attempt_seed
            )
        context.setPositions(positions)
        if protocol.starts != "basins":
            openmm.LocalEnergyMinimizer.minimize(context)
        context.setVelocitiesToTemperature(protocol.temperature, attempt_seed)
        context.getIntegrator().step(round(protocol.equilibration / protocol.timestep))
        context.setTime(0.0)
        context.setStepCount(0)
        flips = check.find_flips(get_positions(context))
        if not flips:
            return attempt
    raise ValueError(
        f"no start of trajectory {index} kept its stereochemistry in {MAX_ATTEMPTS} attempts "
        f"({'; '.join(flips)}); give a structure with starts 'given'"
    )


def drive(
    system: openmm.System,
    molecule: Molecule,
    reference: NDArray[np.float64],
    protocol: Protocol,
    basin: tuple[float, float],
    seed: int,
) -> NDArray[np.float64]:
    """Turn all phi and psi of a molecule to `basin` by restrained dynamics.

    Parameters
    ----------
    basin : (phi, psi) in degrees

    Returns
    -------
    positions : array [N, 3], nm
    """
    torsions = backbone_torsions(molecule)
    if not torsions:
        raise ValueError("the molecule has no phi or psi torsion to drive; use --starts given")
    goals = {name: np.radians(basin[name.startswith("psi")]) for name in torsions}
    force = openmm.CustomTorsionForce(
        f"0.5*{DRIVE_STIFFNESS}*min(d, {2 * np.pi}-d)^2; d=abs(theta-goal)"
    )
    force.addPerTorsionParameter("goal")
    for atoms in torsions.values():
        force.addTorsion(*atoms, [torsion(reference, atoms)])
    restrained = copy.deepcopy(system)
    restrained.addForce(force)
    integrator = make_integrator(protocol, seed)
    integrator.setFriction(DRIVE_FRICTION)
    context = openmm.Context(restrained, integrator, *make_platform(protocol.platform))
    context.setPositions(reference)
    openmm.LocalEnergyMinimizer.minimize(context)
    context.setVelocitiesToTemperature(protocol.temperature, seed)
    steps = round(DRIVE_TIME / protocol.timestep / DRIVE_PIECES)
    for piece in range(1, DRIVE_PIECES + 1):
        for number, (name, atoms) in enumerate(torsions.items()):
            start = torsion(reference, atoms)
            # The short way round, so that no restraint pulls across the kink at the far side.
            turn = (goals[name] - start + np.pi) % (2 * np.pi) - np.pi
            goal = start + turn * piece / DRIVE_PIECES
            goal = (goal + np.pi) % (2 * np.pi) - np.pi
            force.setTorsionParameters(number, *atoms, [goal])
        force.updateParametersInContext(context)
        integrator.step(steps)
    return get_positions(context)
