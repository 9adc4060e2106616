"""What a training run leaves on disk: checkpoints, curves, and how to read them again."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..contract import molecule_from_dict
from ..files import replace_atomically, write_bytes_atomically
from ..molecule.graph import Molecule
from .config import TrainingConfig, parse_config

LAST_FILE = "last.ckpt"
BEST_FILE = "best.ckpt"
METRICS_FILE = "metrics.jsonl"
CONFIG_FILE = "config.yaml"
CURVES_FILE = "curves.png"
LOCK_FILE = ".lock"


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
        content = json.loads(text)
        content["molecule"] = molecule_from_dict(content["molecule"])
        content["force_field"] = tuple(content["force_field"])
        return Provenance(**content)


@dataclass(frozen=True)
class TrainedFlow:
    """The best weights of a run and where they come from."""

    config: TrainingConfig
    provenance: Provenance
    weights: dict[str, torch.Tensor]
    step: int
    seconds: float
    test_log_likelihood: float
    train_log_likelihood: float


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
    content = load_checkpoint(path)
    return TrainedFlow(
        config=parse_config(content["config"], str(path)),
        provenance=Provenance.from_json(content["provenance"]),
        weights=content["weights"],
        step=content["step"],
        seconds=content["seconds"],
        test_log_likelihood=content["test_log_likelihood"],
        train_log_likelihood=content["train_log_likelihood"],
    )


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values in one step."""
    # Through memory, since torch's own writer does not say that a disk is full.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; no code in the file is run.

    Raises
    ------
    ValueError
        If it is something else.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises by what is broken
        raise ValueError(f"{path} is not a checkpoint of a training run: {error}") from error
    return content


def append_metrics(folder: Path, entry: dict[str, Any]) -> None:
    """Add a line to the curves."""
    with open(folder / METRICS_FILE, "a") as handle:
        handle.write(json.dumps(entry) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the curves' lines; a last line that was cut off by a kill is left out."""
    path = folder / METRICS_FILE
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def truncate_metrics(folder: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed run will write again."""
    kept = [json.dumps(entry) for entry in read_metrics(folder) if entry["step"] <= step]
    write_bytes_atomically(folder / METRICS_FILE, "".join(f"{line}\n" for line in kept).encode())


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
