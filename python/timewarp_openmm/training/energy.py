"""The energy that a training goes by."""

from __future__ import annotations

from ..energies.base import BatchEnergy
from ..energies.correction import TorchEnergy, load_corrected
from ..energies.openmm_energy import OpenMMEnergy
from ..simulation.langevin import default_platform
from ..simulation.record import SYSTEM_FILE
from ..simulation.systems import load_system_xml
from ..workers.base import Workers
from .checkpoints import Provenance
from .config import TrainingConfig


def make_energy(
    config: TrainingConfig, provenance: Provenance, workers: int | Workers
) -> BatchEnergy:
    """Return the learned energy that the configuration names, or that of its data's System.

    Parameters
    ----------
    workers : int or Workers
        Who computes OpenMM's energies, or so many processes of this machine.
    """
    if config.data.learned_energy is not None:
        return TorchEnergy(load_corrected(config.data.learned_energy), provenance.temperature)
    return OpenMMEnergy(
        load_system_xml(config.data.folder / SYSTEM_FILE),
        provenance.temperature,
        default_platform(provenance.molecule.num_atoms),
        workers=workers,
    )
