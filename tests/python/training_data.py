"""A data folder for tests of training that is the same on every machine: no dynamics made it."""

from __future__ import annotations

from pathlib import Path

import mdtraj
import numpy as np
import openmm

from timewarp_openmm.simulation.systems import named_molecule

#: ps between frames.
INTERVAL = 0.1
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


def data_section(folder: Path) -> dict[str, object]:
    """Return the configuration's section `data` for such a folder."""
    return {"folder": str(folder), "temperature": 310.0, "force_field": ["amber99sbildn.xml"]}
