"""``timewarp-openmm train``: fit a flow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from ..bounds import Minutes
from .options import ARGUMENT, Options, OutputPath

if TYPE_CHECKING:
    from ..training.loop import Progress


class TrainOptions(Options):
    """What ``timewarp-openmm train`` is told."""

    config: Annotated[Path, ARGUMENT] = Field(description="YAML file, such as examples/ala2.yaml.")
    out: OutputPath = Field(description="Folder for checkpoints and curves.")
    minutes: Minutes | None = Field(
        None, description="Train so long at most; overrides max_minutes."
    )
    force: bool = Field(False, description="Replace the run that is there.")


def train(options: TrainOptions) -> None:
    """Fit a flow; the same command goes on with an interrupted run."""
    from ..training.config import load_config
    from ..training.loop import train as run_training
    from .progress import counting

    settings = load_config(options.config)
    with counting("training", 100.0, "%") as show:

        def report(done: float, progress: Progress) -> None:
            show(round(100 * done, 1), describe(progress))

        progress = run_training(settings, options.out, options.force, options.minutes, report)
    typer.echo(
        f"{options.out}: {progress.step} steps in {progress.seconds / 60:.1f} min, best held-out "
        f"log-likelihood {progress.best_log_likelihood:.3f} at step {progress.best_step}"
    )


def describe(progress: Progress) -> str:
    """Return the losses in a few words."""
    return progress.describe(
        f"log-likelihood train {progress.train_log_likelihood:.2f}, "
        f"test {progress.test_log_likelihood:.2f}"
    )
