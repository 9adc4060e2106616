"""A data folder for tests of training that is the same on every machine: no dynamics made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import openmm

from timewarp_openmm.simulation.systems import named_molecule
from timewarp_openmm.training.config import TrainingConfig

#: ps between frames.
INTERVAL = 0.1
#: Small flows, which train in seconds.
TINY_CARTESIAN = {
    "coordinates": "cartesian",
    "d_model": 8,
    "num_coupling_layers": 2,
    "num_transformer_layers": 1,
    "length_scales": [0.2],
    "mlp_hidden": [8],
    "feedforward": 8,
    "embedding_size": 4,
}
TINY_INTERNAL = {
    "coordinates": "internal",
    "rotatable_layers": 2,
    "rotatable_hidden": 8,
    "stiff_layers": 2,
    "stiff_hidden": 16,
}
#: nm; of each atom, about what bonds allow.
WIDTH = 0.003


def write_data_folder(folder: Path, trajectories: int = 3, frames: int = 300) -> Path:
    """Write alanine dipeptide's start with seeded noise on every atom as trajectories."""
    folder.mkdir(parents=True)
    molecule = named_molecule("alanine-dipeptide")
    topology = mdtraj.Topology.from_openmm(molecule.topology)
    rng = np.random.default_rng(12)
    for number in range(trajectories):
        shape = (frames, *molecule.positions.shape)
        positions = molecule.positions + WIDTH * rng.standard_normal(shape)
        time = INTERVAL * np.arange(frames)
        trajectory = mdtraj.Trajectory(positions.astype(np.float32), topology, time)
        trajectory.save_hdf5(str(folder / f"trajectory-{number:03d}.h5"))
    (folder / "system.xml").write_text(openmm.XmlSerializer.serialize(molecule.system))
    return folder


def short_run(folder: Path, **settings: Any) -> TrainingConfig:
    """Return the configuration of a short run on such a folder; it needs a flow and lag times."""
    data = {"folder": str(folder), "temperature": 310.0, "force_field": ["amber99sbildn.xml"]}
    content = {"data": data, "batch_size": 8, "evaluation_pairs": 8, "accelerator": "cpu"}
    return TrainingConfig.model_validate({**content, **settings})
