"""Potential energies of frames, by OpenMM."""

from __future__ import annotations

import numpy as np
import openmm
from numpy.typing import NDArray

from ..units import KILOJOULE_PER_MOLE

#: Atoms above which the CPU platform is faster than Reference.
_REFERENCE_ATOMS = 60


def potential_energies(
    system: openmm.System, positions: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the potential energy [F] in kJ/mol of frames [F, N, 3] / nm."""
    name = "Reference" if system.getNumParticles() <= _REFERENCE_ATOMS else "CPU"
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(name)
    )
    energies = np.empty(len(positions))
    for i, frame in enumerate(np.asarray(positions, dtype=float)):
        context.setPositions(frame)
        energies[i] = (
            context.getState(energy=True).getPotentialEnergy().value_in_unit(KILOJOULE_PER_MOLE)
        )
    return energies
