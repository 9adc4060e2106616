"""Samples of alanine dipeptide, what is measured of them, and the references for it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mdtraj
import numpy as np
import openmm
from numpy.typing import NDArray

from timewarp_openmm.simulation.systems import MolecularSystem

DATA = Path(__file__).parents[1] / "data"
#: Parts of a chain, whose differences give its errors.
BLOCKS = 24
PHI, PSI = (4, 6, 8, 14), (6, 8, 14, 16)


def umbrella_reference(name: str) -> dict[str, object]:
    """Return what benchmarks/umbrella_sampling.py has written to a file of tests/data."""
    return json.loads((DATA / f"{name}.json").read_text())  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Frames:
    """What a run recorded: positions [T, N, 3] / nm and potential energies [T] / kJ/mol."""

    positions: NDArray[np.float32]
    energies: NDArray[np.float64]

    def trajectory(self, molecule: MolecularSystem) -> mdtraj.Trajectory:
        return mdtraj.Trajectory(self.positions, mdtraj.Topology.from_openmm(molecule.topology))

    def torsions(self, molecule: MolecularSystem) -> NDArray[np.float64]:
        """Return phi and psi / rad, [T, 2]."""
        return mdtraj.compute_dihedrals(self.trajectory(molecule), [PHI, PSI], periodic=False)


def record(context: openmm.Context, frames: int, steps: int) -> Frames:
    """Record a frame after each of so many steps."""
    positions, energies = [], []
    for _ in range(frames):
        context.getIntegrator().step(steps)
        state = context.getState(positions=True, energy=True)
        positions.append(np.float32(state.getPositions(asNumpy=True)._value))
        energies.append(state.getPotentialEnergy()._value)
    return Frames(np.array(positions), np.array(energies))


def with_error(
    figure: Callable[[NDArray[np.float64]], NDArray[np.float64]], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a figure of all frames, and its standard error over blocks."""
    blocks = np.array([figure(block) for block in np.array_split(values, BLOCKS)])
    return figure(values), blocks.std(axis=0, ddof=1) / math.sqrt(BLOCKS)
