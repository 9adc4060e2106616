"""What a training run leaves on disk: checkpoints, curves, and how to read them again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import AfterValidator, ConfigDict, with_config
from typing_extensions import TypedDict

from ..curves import read_metrics
from ..files import replace_atomically
from ..flows.weights import load_tensors
from ..molecule.graph import Molecule
from ..stored import RECORD, Count, conform
from .config import TrainingConfig, parse_config

LAST_FILE = "last.ckpt"
BEST_FILE = "best.ckpt"
CONFIG_FILE = "config.yaml"
CURVES_FILE = "curves.png"
LOCK_FILE = ".lock"
CHECKPOINT_REMEDY = "restore it from a copy, or remove the folder of the run and train again"
_CHECKPOINT = ConfigDict(**RECORD, arbitrary_types_allowed=True)


@dataclass(frozen=True)
class Provenance:
    """What a run's weights were made from.

    Attributes
    ----------
    molecule : Molecule
    temperature : float
        K.
    force_field : tuple of str
    reference_positions : list of N lists of 3 floats, nm
        A frame of the training data.
    data : dict
        Hash, protocol and split of the data.
    versions : dict of str
    """

    molecule: Molecule
    temperature: float
    force_field: tuple[str, ...]
    reference_positions: list[list[float]]
    data: dict[str, Any]
    versions: dict[str, str]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Provenance:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            If it is something else.
        """
        return conform(json.loads(text), Provenance)


def _fits_provenance(text: str) -> str:
    Provenance.from_json(text)
    return text


@dataclass(frozen=True)
class TrainedFlow:
    """The best weights of a run, where they come from, and the file that holds them."""

    config: TrainingConfig
    provenance: Provenance
    weights: dict[str, torch.Tensor]
    step: int
    seconds: float
    test_log_likelihood: float
    train_log_likelihood: float
    path: Path


def load_trained(folder: str | Path) -> TrainedFlow:
    """Read the best weights of a training run, finished or not.

    Raises
    ------
    FileNotFoundError
        If the folder holds none.
    """
    path = Path(folder) / BEST_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {BEST_FILE}; it is not the folder of a training run, or the run "
            "has not reached its first test yet"
        )
    content = load_checkpoint(path, BestCheckpoint)
    return TrainedFlow(
        config=parse_config(content["config"], str(path)),
        provenance=Provenance.from_json(content["provenance"]),
        weights=content["weights"],
        step=content["step"],
        seconds=content["seconds"],
        test_log_likelihood=content["test_log_likelihood"],
        train_log_likelihood=content["train_log_likelihood"],
        path=path,
    )


@with_config(_CHECKPOINT)
class Checkpoint(TypedDict):
    """What all checkpoints hold: the configuration and the provenance as text, and the weights."""

    config: str
    provenance: Annotated[str, AfterValidator(_fits_provenance)]
    weights: dict[str, torch.Tensor]


@with_config(_CHECKPOINT)
class BestCheckpoint(Checkpoint):
    """The best weights, and when they were reached."""

    step: Count
    seconds: float
    test_log_likelihood: float
    train_log_likelihood: float


@with_config(_CHECKPOINT)
class LastCheckpoint(Checkpoint):
    """All that a run goes on from; ``progress`` is that of the training loop."""

    flow: dict[str, Any]
    optimizer: dict[str, Any]
    generator: torch.Tensor
    progress: dict[str, Any]


C = TypeVar("C", bound=Checkpoint)


def load_checkpoint(path: Path, schema: type[C]) -> C:
    """Read a checkpoint; no code in the file is run.

    Raises
    ------
    DamagedFileError
        If it is something else.
    """
    return load_tensors(path, schema, "a checkpoint of a training run", CHECKPOINT_REMEDY)


def plot_curves(folder: Path) -> None:
    """Draw the train and test log-likelihood and the loss over the steps."""
    # Without pyplot, which would choose a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    entries = read_metrics(folder)
    if not entries:
        return
    steps = [entry["step"] for entry in entries]
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name in ("train_log_likelihood", "test_log_likelihood"):
        left.plot(steps, [entry[name] for entry in entries], label=name.split("_")[0])
    left.set(xlabel="step", ylabel="log-likelihood / nats per pair")
    left.legend()
    for name in ("train_loss", "test_loss"):
        right.plot(steps, [entry[name] for entry in entries], label=name.split("_")[0])
    right.set(xlabel="step", ylabel="loss")
    right.legend()
    replace_atomically(folder / CURVES_FILE, lambda temporary: figure.savefig(temporary, dpi=120))
