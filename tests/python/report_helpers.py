"""Short trajectories of alanine dipeptide for tests of the report."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import mdtraj
import numpy as np
import openmm
from numpy.typing import NDArray

from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.simulation.systems import named_molecule, structure_file
from timewarp_openmm.trajectories.frames import reader_topology

PDB = Path(str(structure_file("alanine-dipeptide")))
TOPOLOGY = reader_topology(molecule_from_topology(named_molecule("alanine-dipeptide").topology))


@cache
def md_frames(frames: int = 400, steps: int = 25, seed: int = 1) -> NDArray[np.float32]:
    """Return frames [F, 22, 3] / nm of hot MD, which turns torsions quickly."""
    molecule = named_molecule("alanine-dipeptide")
    integrator = openmm.LangevinMiddleIntegrator(500.0, 5.0, 0.002)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(molecule.system, integrator, platform)
    context.setPositions(molecule.positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    context.setVelocitiesToTemperature(500.0, seed)
    kept = []
    for _ in range(frames):
        integrator.step(steps)
        kept.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    return np.array(kept, dtype=np.float32)


def write(positions: NDArray[np.floating], path: Path) -> Path:
    """Write frames; the suffix decides the format."""
    mdtraj.Trajectory(np.asarray(positions, dtype=np.float32), TOPOLOGY).save(str(path))
    return path
