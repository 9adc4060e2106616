"""From a training run to a model file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..contract import ModelMetadata
from ..flows.base import Flow
from ..flows.export import export_model
from ..flows.fragment import cut_out
from ..flows.registry import build_flow
from ..flows.weights import restore_weights, round_weights
from .checkpoints import CHECKPOINT_REMEDY, TrainedFlow, load_trained
from .config import TrainingConfig


def export_run(
    run: str | Path, path: str | Path, licence: str = "MIT", overwrite: bool = False
) -> None:
    """Write the best weights of a run, with where they come from, as a model file.

    Raises
    ------
    FileNotFoundError, FileExistsError
        If there is no run, or the model file exists and `overwrite` is false.
    ContractError
        If the flow fails the contract's checks.
    """
    export_trained(load_trained(run), path, licence=licence, overwrite=overwrite)


def export_trained(
    trained: TrainedFlow,
    path: str | Path,
    provenance: Mapping[str, Any] | None = None,
    licence: str = "MIT",
    overwrite: bool = False,
    weight_bits: int | None = None,
) -> None:
    """Write a trained flow as a model file; that of a part is one of the atoms that it looks at.

    Parameters
    ----------
    provenance : mapping, optional
        Added to what the training knows of itself.
    weight_bits : int, optional
        Significant bits that weights are rounded to, so that the file, which is compressed, is
        smaller; by default they stay as trained.

    Raises
    ------
    FileExistsError, ContractError
        As `export_run`.
    """
    flow = build_flow(trained.config.flow, trained.provenance.molecule)
    restore_weights(flow, trained.weights, trained.path, CHECKPOINT_REMEDY)
    if weight_bits is not None:
        round_weights(flow, weight_bits)
    metadata = make_metadata(trained, flow, licence)
    metadata.provenance.update(provenance or {})
    export_model(*cut_out(flow.as_model()[0], metadata), path, overwrite=overwrite)


def make_metadata(trained: TrainedFlow, flow: Flow, licence: str) -> ModelMetadata:
    """Return what a trained model says about itself: that of a fragment in place, of the atoms that
    it knows."""
    provenance = trained.provenance
    flow, atoms = flow.as_model()
    molecule = provenance.molecule
    if len(atoms) < molecule.num_atoms:
        molecule = molecule.part(atoms)
    return ModelMetadata(
        molecule=molecule,
        noise_size=flow.noise_size,
        moved=flow.moved,
        stretches=None if flow.stretches is None else [list(pair) for pair in flow.stretches],
        torsion_noise=flow.torsion_noise,
        auxiliary_velocities=flow.auxiliary_velocities,
        precision=flow.precision,
        temperature=provenance.temperature,
        coordinates=str(flow.config_class.model_fields["coordinates"].default),
        lag_times=list(trained.config.lag_times),
        lag_weights=trained.config.lag_probabilities(),
        reference_positions=[provenance.reference_positions[atom] for atom in atoms],
        force_field=list(provenance.force_field),
        provenance={
            "data": provenance.data,
            "versions": provenance.versions,
            "seed": trained.config.seed,
            "config": _without_folders(trained.config).to_yaml(),
            "step": trained.step,
            "training_seconds": round(trained.seconds, 1),
            "train_log_likelihood": trained.train_log_likelihood,
            "test_log_likelihood": trained.test_log_likelihood,
        },
        licence=licence,
        package_version=__version__,
    )


def _without_folders(config: TrainingConfig) -> TrainingConfig:
    # Where things lie on the disk of whoever trained a model does not travel with it.
    files = ("folder", "frame_weights", "independent", "learned_energy")
    values = {name: getattr(config.data, name) for name in files}
    names = {name: Path(value.name) for name, value in values.items() if value is not None}
    return config.model_copy(update={"data": config.data.model_copy(update=names)})
