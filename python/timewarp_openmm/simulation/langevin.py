"""Langevin dynamics at constant temperature: the one place that sets it up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openmm
from numpy.typing import NDArray

from ..units import NANOMETER, PICOSECOND
from .systems import make_platform

#: Atoms up to which one thread of the Reference platform beats the CPU platform (22 atoms:
#: 26,000 steps/s against 1,300).
REFERENCE_LIMIT = 100


def default_platform(num_atoms: int) -> str:
    """Return the platform that is fastest on one thread for so many atoms."""
    return "Reference" if num_atoms <= REFERENCE_LIMIT else "CPU"


def get_positions(context: openmm.Context) -> NDArray[np.float64]:
    """Return a Context's positions [N, 3] in nm, as they are (not wrapped into a box)."""
    state = context.getState(positions=True)
    return np.asarray(state.getPositions(asNumpy=True).value_in_unit(NANOMETER))


@dataclass(frozen=True)
class Langevin:
    """OpenMM's LangevinMiddleIntegrator.

    Attributes
    ----------
    temperature : float
        K.
    friction : float
        1/ps.
    timestep : float
        ps.
    """

    temperature: float
    friction: float = 1.0
    timestep: float = 0.001

    def integrator(self, seed: int) -> openmm.LangevinMiddleIntegrator:
        """Return an integrator, seeded."""
        integrator = openmm.LangevinMiddleIntegrator(
            self.temperature, self.friction, self.timestep * PICOSECOND
        )
        integrator.setRandomNumberSeed(seed)
        return integrator

    def steps(self, picoseconds: float) -> int:
        """Return how many time steps a time / ps has."""
        return round(picoseconds / self.timestep)

    def context(self, system: openmm.System, platform: str, seed: int) -> openmm.Context:
        """Return a Context of one thread, without positions yet."""
        return openmm.Context(system, self.integrator(seed), *make_platform(platform))

    def start(
        self, context: openmm.Context, positions: NDArray[np.float64], seed: int, minimise: bool
    ) -> None:
        """Put a Context at `positions` [N, 3] / nm (minimised) with new velocities."""
        context.setPositions(positions)
        if minimise:
            openmm.LocalEnergyMinimizer.minimize(context)
        context.setVelocitiesToTemperature(self.temperature, seed)

    def relaxed(
        self,
        system: openmm.System,
        positions: NDArray[np.float64],
        picoseconds: float,
        platform: str,
        seed: int,
        minimise: bool = False,
    ) -> NDArray[np.float64]:
        """Return positions [N, 3] / nm after some dynamics from `positions`."""
        context = self.context(system, platform, seed)
        self.start(context, positions, seed, minimise)
        context.getIntegrator().step(self.steps(picoseconds))
        return get_positions(context)
