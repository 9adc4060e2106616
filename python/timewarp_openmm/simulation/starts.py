"""Starting conformations: minimised, driven into a basin, and checked."""

from __future__ import annotations

import copy

import numpy as np
import openmm
from numpy.typing import NDArray

from ..molecule.graph import Molecule
from ..molecule.stereochemistry import Stereochemistry
from ..molecule.torsions import backbone_torsions, torsion
from ..seeds import shifted_seed
from .langevin import Langevin, get_positions
from .protocol import BASINS, Protocol

#: Harmonic restraint on a driven torsion, kJ/mol/rad^2: stiff against the barriers of a backbone
#: (tens of kJ/mol), soft against bond angles.
DRIVE_STIFFNESS = 200.0
DRIVE_PIECES = 50
DRIVE_TIME = 10.0
#: 1/ps; takes away the work of driving.
DRIVE_FRICTION = 5.0
MAX_ATTEMPTS = 10


def equilibrated_start(
    context: openmm.Context,
    molecule: Molecule,
    reference: NDArray[np.float64],
    protocol: Protocol,
    index: int,
    seed: int,
    start: NDArray[np.float64],
    check: Stereochemistry,
) -> int:
    """Bring `context` to the start of trajectory `index`: an equilibrated state in its basin.

    Parameters
    ----------
    context : openmm.Context
        With the protocol's System and integrator.
    reference : array [N, 3], nm
        Where driving into a basin begins.
    start : array [N, 3], nm
        Where the trajectory starts unless it is driven into a basin.
    check : Stereochemistry
        The chirality and the cis/trans bonds that a start must have.

    Returns
    -------
    dropped : int
        How many starts were dropped because a centre or a double or amide bond had flipped.

    Raises
    ------
    ValueError
        If none of ten attempts kept them.
    """
    flips: list[str] = []
    for attempt in range(MAX_ATTEMPTS):
        attempt_seed = shifted_seed(seed, 7919 * attempt)
        positions = start
        if protocol.starts == "basins":
            basin = BASINS[index % len(BASINS)]
            positions = drive(
                context.getSystem(), molecule, reference, protocol, basin, attempt_seed
            )
        dynamics = protocol.dynamics
        dynamics.start(context, positions, attempt_seed, minimise=protocol.starts != "basins")
        context.getIntegrator().step(dynamics.steps(protocol.equilibration))
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
    dynamics = Langevin(protocol.temperature, DRIVE_FRICTION, protocol.timestep)
    context = dynamics.context(restrained, protocol.platform, seed)
    dynamics.start(context, reference, seed, minimise=True)
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
        context.getIntegrator().step(steps)
    return get_positions(context)
