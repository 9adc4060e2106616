"""``timewarp-openmm fit``: from a structure to a validated model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def fit(
    structure: Annotated[Path, typer.Argument(help="PDB file of one molecule with hydrogens.")],
    out: Annotated[Path, typer.Option(help="The model file to write (.pt).")],
    force_field: Annotated[
        list[str] | None, typer.Option(help="OpenMM force field file; once per file.")
    ] = None,
    system: Annotated[Path | None, typer.Option(help="A System XML instead.")] = None,
    minutes: Annotated[float, typer.Option(help="Wall time for everything, in all calls together.")] = 30.0,
    temperature: Annotated[float, typer.Option(help="K.")] = 310.0,
    target: Annotated[float, typer.Option(help="Acceptance at which refining stops.")] = 0.9,
    seed: Annotated[int, typer.Option(help="Seed of the whole fit.")] = 1,
    workers: Annotated[int | None, typer.Option(help="CPUs to use; default: all that this process may.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder of the stages' files; default: <out>.work.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace the model that is there.")] = False,
) -> None:
    """Make a model for a molecule: explore, simulate, train, refine, export, measure.

    The same command goes on with an interrupted fit; with more minutes, with a finished one.
    """
    from ..machine import usable_cpus
    from ..simulation.systems import load_molecule
    from ..workflows.fit import fit as run_fit
    from ..workflows.settings import FitSettings

    molecule = load_molecule(structure, force_field, system)
    settings = FitSettings(minutes, temperature, target, seed, workers or usable_cpus())
    with FitDisplay(minutes) as display:
        result = run_fit(molecule, out, settings, work, display, force)
    typer.echo(
        f"{out}: acceptance {result.acceptance:.1%} +- {result.error:.1%} in {result.chains} "
        f"chains from different basins (lowest {result.lowest:.1%})"
    )


class FitDisplay:
    """Shows the stage, what it reports, and the time left of the budget."""

    def __init__(self, minutes: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._minutes = minutes
        self._began = time.monotonic()
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:18}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._name, self._next_line = "", 0.0

    def __enter__(self) -> FitDisplay:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def stage(self, name: str) -> None:
        """Begin a stage."""
        self._finish()
        self._name, self._next_line = name, 0.0
        self._bar = self._bars.add_task(name, total=1.0, note="")

    def update(self, done: float, note: str) -> None:
        """Show the part of the stage that is done, in [0, 1], and a note."""
        left = max(0.0, self._minutes - (time.monotonic() - self._began) / 60)
        text = f"{note}; at most {left:.1f} min left"
        self._bars.update(self._bar, completed=done, note=text)
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + 20.0
            print(f"{self._name}: {done:.0%} {text}", flush=True)

    def tell(self, message: str) -> None:
        """Print what the user should know beyond progress."""
        self._console.print(message, highlight=False, soft_wrap=True)

    def _finish(self) -> None:
        if self._name:
            self._bars.update(self._bar, completed=1.0)
