"""The minima of energy that frames lie above."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock, local

import numpy as np
import openmm
from numpy.typing import NDArray

from ..simulation.langevin import get_positions
from ..simulation.systems import make_platform
from ..units import KILOJOULE_PER_MOLE

#: kJ/mol/nm, root mean square of the forces on all atoms.
TOLERANCE = 1.0


@dataclass(frozen=True)
class Minima:
    """Minima, one for each frame.

    Attributes
    ----------
    positions : array [F, N, 3], nm
    energies : array [F], kJ/mol
    """

    positions: NDArray[np.float64]
    energies: NDArray[np.float64]


def find_minima(
    system: openmm.System,
    frames: NDArray[np.floating],
    platform: str,
    workers: int,
    report: Callable[[int], None] = lambda _: None,
) -> Minima:
    """Minimise each frame [F, N, 3] / nm (L-BFGS, as OpenMM has it).

    Parameters
    ----------
    workers : int
        Threads.
    report : callable
        Given the number of frames so far.
    """
    own, lock, done = local(), Lock(), 0

    def minimum(frame: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
        nonlocal done
        if not hasattr(own, "context"):
            own.context = openmm.Context(
                system, openmm.VerletIntegrator(0.001), *make_platform(platform)
            )
        own.context.setPositions(np.asarray(frame, dtype=float))
        openmm.LocalEnergyMinimizer.minimize(own.context, TOLERANCE)
        energy = own.context.getState(energy=True).getPotentialEnergy()
        with lock:
            done += 1
            report(done)
        return get_positions(own.context), float(energy.value_in_unit(KILOJOULE_PER_MOLE))

    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(minimum, frames))
    positions, energies = zip(*found, strict=True)
    return Minima(np.array(positions), np.array(energies))
