"""Short dynamics as single pieces of work."""

from __future__ import annotations

import time

import numpy as np
import openmm
from numpy.typing import NDArray

from ..potentials.serialization import deserialize_system
from .langevin import Langevin, default_platform


def relaxed_start(
    system: str,
    positions: NDArray[np.float64],
    dynamics: Langevin,
    picoseconds: float,
    platform: str,
    seed: int,
) -> NDArray[np.float64]:
    """Return positions [N, 3] / nm after some dynamics of a System, as XML, from `positions`."""
    own = deserialize_system(system, trusted=True)
    return dynamics.relaxed(own, positions, picoseconds, platform, seed)


def measure_speed(
    system: str, positions: NDArray[np.float64], timestep: float, seconds: float
) -> float:
    """Return the ps/s of dynamics of a System, as XML, from `positions` [N, 3] / nm."""
    dynamics = Langevin(300.0, timestep=timestep)
    platform = default_platform(len(positions))
    context = dynamics.context(deserialize_system(system, trusted=True), platform, seed=1)
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=100)
    integrator = context.getIntegrator()
    began, steps = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        integrator.step(20)
        steps += 20
    return steps * timestep / (time.monotonic() - began)
