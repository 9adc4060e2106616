"""``timewarp-openmm refine``: train on with the flow's own samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from ..bounds import ACCEPTANCE_TARGET, ROUNDS, Minutes
from .options import ARGUMENT, Options, OutputPath

if TYPE_CHECKING:
    from ..training.loop import Progress


class RefineOptions(Options):
    """What ``timewarp-openmm refine`` is told."""

    run: Annotated[Path, ARGUMENT] = Field(
        description="Folder of a training run with .inf as a lag."
    )
    out: OutputPath | None = Field(
        None, description="Folder for the refined run; default: RUN/refine."
    )
    minutes: Minutes = Field(10.0, description="Wall time for all rounds together.")
    rounds: Annotated[int, ROUNDS] = Field(3, description="Rounds of drawing and training at most.")
    target_acceptance: Annotated[float, ACCEPTANCE_TARGET] = Field(
        0.95, description="Acceptance at which refining stops."
    )


def refine(options: RefineOptions) -> None:
    """Draw from a flow, weigh the draws, train on, until its acceptance no longer rises.

    The result is a training run: write its model with timewarp-openmm export.
    """
    from ..training.refine import RefineSettings
    from ..training.refine import refine as run_refine
    from .progress import counting

    folder = options.out or options.run / "refine"
    settings = RefineSettings(
        minutes=options.minutes, rounds=options.rounds, target=options.target_acceptance
    )
    with counting("refining", 100.0, "%") as show:

        def report(done: float, number: int, progress: Progress) -> None:
            show(
                round(100 * done, 1),
                f"round {number}, step {progress.step}, acceptance {progress.acceptance:.1%}",
            )

        result = run_refine(options.run, folder, settings, report)
    for number, measured in enumerate(result.measurements):
        name = "before" if number == 0 else f"round {number}"
        best = ", kept" if number == result.best_round else ""
        typer.echo(
            f"{name}: acceptance {measured.acceptance:.1%} +- {measured.error:.1%} (lowest chain "
            f"{measured.lowest:.1%}), effective draws {measured.kish:.1%}{best}"
        )
    typer.echo(f"{folder}: {result.seconds / 60:.1f} min")
