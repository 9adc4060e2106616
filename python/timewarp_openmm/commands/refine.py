"""``timewarp-openmm refine``: train on with the flow's own samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..training.loop import Progress


def refine(
    run: Annotated[Path, typer.Argument(help="Folder of a training run with .inf as a lag.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the refined run; default: RUN/refine.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Wall time for all rounds together.")] = 10.0,
    rounds: Annotated[int, typer.Option(help="Rounds of drawing and training at most.")] = 3,
    target: Annotated[float, typer.Option(help="Acceptance at which refining stops.")] = 0.95,
) -> None:
    """Draw from a flow, weigh the draws, train on, until its acceptance no longer rises.

    The result is a training run: write its model with timewarp-openmm export.
    """
    from ..training.refine import RefineSettings
    from ..training.refine import refine as run_refine
    from .progress import counting

    folder = out or run / "refine"
    settings = RefineSettings(minutes=minutes, rounds=rounds, target=target)
    with counting("refining", 100.0, "%") as show:

        def report(done: float, number: int, progress: Progress) -> None:
            show(
                round(100 * done, 1),
                f"round {number}, step {progress.step}, acceptance {progress.acceptance:.1%}",
            )

        result = run_refine(run, folder, settings, report)
    for number, measured in enumerate(result.measurements):
        name = "before" if number == 0 else f"round {number}"
        best = ", kept" if number == result.best_round else ""
        typer.echo(
            f"{name}: acceptance {measured.acceptance:.1%} +- {measured.error:.1%} (lowest chain "
            f"{measured.lowest:.1%}), effective draws {measured.kish:.1%}{best}"
        )
    typer.echo(f"{folder}: {result.seconds / 60:.1f} min")
