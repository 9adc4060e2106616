"""From a folder of trajectories to batches, and what the weights will have been made from."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import numpy as np
import openmm
import torch

from .. import __version__
from ..energies.correction import CORRECTION_FILE
from ..files import sha256_of
from ..flows.registry import flow_class
from ..simulation.record import SYSTEM_FILE
from ..trajectories.pairs import (
    PairSampler,
    Trajectory,
    TrajectorySet,
    WeightedTrajectory,
    load_independent,
    load_trajectories,
    load_weights,
    mix_frames,
    split_by_trajectory,
)
from .batches import BatchSource
from .checkpoints import Provenance
from .config import TrainingConfig


@dataclass(frozen=True)
class TrainingData:
    """Batches for training and testing, and what they were made from."""

    train: BatchSource
    test: BatchSource
    provenance: Provenance


def prepare_data(config: TrainingConfig) -> TrainingData:
    """Load, check and split the trajectories.

    Raises
    ------
    FileNotFoundError, ValueError
        If they are missing or unsuitable, or their temperature is not known.
    """
    found = load_trajectories(config.data.folder)
    train, test = split_by_trajectory(
        found.trajectories,
        config.data.test_fraction,
        config.seed,
        config.data.test_trajectories,
    )
    drawn_train, drawn_test = None, None
    if config.data.independent is not None:
        drawn_train, drawn_test = load_independent(
            config.data.independent, found.molecule.num_atoms
        )
    return TrainingData(
        _batch_source(config, found, train, drawn_train),
        _batch_source(config, found, test, drawn_test),
        _provenance(config, found, train, test),
    )


def _batch_source(
    config: TrainingConfig,
    found: TrajectorySet,
    part: tuple[Trajectory, ...],
    drawn: WeightedTrajectory | None,
) -> BatchSource:
    file = config.data.frame_weights
    weights = None if file is None else load_weights(file, part)
    if drawn is not None:
        simulated = weights or [np.ones(len(t.positions), dtype=np.float32) for t in part]
        part, weights = mix_frames(part, simulated, drawn)
    moved = config.flow.part
    pairs = PairSampler(
        part, config.lag_times, config.lag_weights, weights, own_context=moved is not None
    )
    rigid_motion = flow_class(config.flow).feels_rigid_motion
    return BatchSource(pairs, found.molecule, config.augmentation, rigid_motion, moved)


def _provenance(
    config: TrainingConfig,
    found: TrajectorySet,
    train: tuple[Trajectory, ...],
    test: tuple[Trajectory, ...],
) -> Provenance:
    protocol = found.run.get("protocol", {})
    temperature = config.data.temperature or protocol.get("temperature")
    force_field = config.data.force_field or protocol.get("force_field")
    if temperature is None or force_field is None:
        raise ValueError(
            f"{found.folder} has no run.json that says at which temperature and with which force "
            "field its trajectories were made; set data.temperature and data.force_field"
        )
    reference = train[0].positions[0]
    reference = reference - reference.mean(0)
    data = {
        "sha256": found.sha256(),
        "inputs": _input_digests(config),
        "protocol": protocol,
        "train": [trajectory.name for trajectory in train],
        "test": [trajectory.name for trajectory in test],
        "dropped_starts": found.run.get("dropped_starts", 0),
        "frames": sum(len(trajectory.positions) for trajectory in train),
    }
    versions = {
        "timewarp_openmm": __version__,
        "torch": torch.__version__,
        "openmm": openmm.__version__,
        "python": platform.python_version(),
    }
    return Provenance(
        found.molecule,
        float(temperature),
        tuple(force_field),
        [[float(v) for v in row] for row in reference],
        data,
        versions,
    )


def _input_digests(config: TrainingConfig) -> dict[str, str]:
    """Return the SHA-256 of what is used beside the trajectories, as far as it is there."""
    data = config.data
    files = {
        "system": data.folder / SYSTEM_FILE,
        "frame_weights": data.frame_weights,
        "independent": data.independent,
        "learned_energy": data.learned_energy and data.learned_energy / CORRECTION_FILE,
    }
    return {name: sha256_of(p) for name, p in files.items() if p is not None and p.exists()}
