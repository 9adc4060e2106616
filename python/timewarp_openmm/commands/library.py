"""``timewarp-openmm library``: models of all residues, or of their side chains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import Field

from ..bounds import FIT_MINUTES, Seed, Temperature
from ..library import BUNDLED_FORCE_FIELD
from .fit import FitDisplay
from .options import (
    ARGUMENT,
    Options,
    OutputPath,
    SchedulerOption,
    WorkersOption,
    chosen_workers,
    scheduler_field,
    workers_field,
)


class BuildOptions(Options):
    """What ``timewarp-openmm library build`` is told."""

    out: OutputPath = Field(description="The library's folder.")
    kind: Literal["side-chains", "residues"] = Field(
        "side-chains",
        description="What each model moves: a side chain, or a whole residue, of which `peptide` "
        "makes models of peptides.",
    )
    force_field: list[str] | None = Field(
        None,
        description="OpenMM force field file; once per file; default: "
        f"{' '.join(BUNDLED_FORCE_FIELD)}.",
    )
    residue: list[str] | None = Field(
        None,
        description="Amber's name of a residue (VAL, HIE, ASH; with --kind residues also NVAL and "
        "CVAL at charged ends of chains); once per residue; default: all but those at ends.",
    )
    ends: bool = Field(
        False,
        description="With --kind residues, models of the residues at both charged ends of chains, "
        "too.",
    )
    minutes: Annotated[float, FIT_MINUTES] = Field(10.0, description="Wall time for each residue.")
    name: str | None = Field(None, description="Of the library; default: that of its folder.")
    temperature: Temperature = Field(300.0, description="Of the samples.")
    seed: Seed = Field(1, description="Seed of all fits.")
    workers: WorkersOption = workers_field()
    scheduler: SchedulerOption = scheduler_field()
    force: bool = Field(False, description="Replace a library of other settings.")


def build(options: BuildOptions) -> None:
    """Make a model of each residue, or of its side chain, for use in any peptide.

    The same command goes on with an interrupted one; with more minutes or residues, with a finished
    one.
    """
    from ..library import RESIDUE, SIDE_CHAIN
    from ..workflows.library import LibrarySettings, build_library

    settings = LibrarySettings(
        name=options.name or Path(options.out).name,
        force_field=tuple(options.force_field or BUNDLED_FORCE_FIELD),
        kind=RESIDUE if options.kind == "residues" else SIDE_CHAIN,
        residues=tuple(options.residue or ()),
        ends=options.ends,
        minutes=options.minutes,
        temperature=options.temperature,
        seed=options.seed,
    )
    with (
        chosen_workers("library build", options.workers, options.scheduler) as workers,
        BuildDisplay(options.minutes) as display,
    ):
        content = build_library(options.out, settings, display, options.force, workers=workers)
    for entry in content["entries"]:
        typer.echo(
            f"{entry['residue']}: acceptance {entry['acceptance']:.1%} +- {entry['error']:.1%} "
            f"(lowest {entry['lowest']:.1%})"
        )
    for residue, reason in sorted(content["not_moved"].items()):
        typer.echo(f"{residue}: not moved, {reason}")


class BuildDisplay(FitDisplay):
    """Shows the residue, and then what a fit of it does."""

    def residue(self, name: str, number: int, count: int) -> None:
        """Begin a residue, whose time starts anew."""
        self.restart()
        self.tell(f"{name} ({number + 1} of {count})")


class MergeOptions(Options):
    """What ``timewarp-openmm library merge`` is told."""

    libraries: Annotated[list[Path], ARGUMENT] = Field(
        description="Folders of libraries of one kind, force field and temperature."
    )
    out: OutputPath = Field(description="The folder of the library that holds all their models.")
    name: str | None = Field(None, description="Of the library; default: that of its folder.")


def merge(options: MergeOptions) -> None:
    """Put libraries together that were built apart, on several machines for instance.

    Where two have a model of one residue, that with the higher acceptance is taken.
    """
    from ..workflows.merging import merge_libraries

    name = options.name or options.out.name
    content = merge_libraries(options.libraries, options.out, name)
    typer.echo(f"{options.out}: {', '.join(entry['residue'] for entry in content['entries'])}")
