"""``timewarp-openmm library``: models of all residues."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from ..bounds import FIT_MINUTES, Seed, Temperature, Workers
from ..library import BUNDLED_FORCE_FIELD
from .fit import FitDisplay
from .options import Options, OutputPath


class BuildOptions(Options):
    """What ``timewarp-openmm library build`` is told."""

    out: OutputPath = Field(description="The library's folder.")
    force_field: list[str] | None = Field(
        None,
        description="OpenMM force field file; once per file; default: "
        f"{' '.join(BUNDLED_FORCE_FIELD)}.",
    )
    residue: list[str] | None = Field(
        None,
        description="Amber's name of a residue (VAL, HIE, ASH); once per residue; default: all.",
    )
    minutes: Annotated[float, FIT_MINUTES] = Field(10.0, description="Wall time for each residue.")
    name: str | None = Field(None, description="Of the library; default: that of its folder.")
    temperature: Temperature = Field(300.0, description="Of the samples.")
    seed: Seed = Field(1, description="Seed of all fits.")
    workers: Workers | None = Field(None, description="CPUs to use; default: all that it may.")
    force: bool = Field(False, description="Replace a library of other settings.")


def build(options: BuildOptions) -> None:
    """Make a model of each residue's side chain, for use in any peptide and protein.

    The same command goes on with an interrupted one; with more minutes or residues, with a finished
    one.
    """
    from ..machine import usable_cpus
    from ..simulation.capped_peptides import SIDE_CHAINS
    from ..workflows.library import LibrarySettings, build_library

    settings = LibrarySettings(
        name=options.name or Path(options.out).name,
        force_field=tuple(options.force_field or BUNDLED_FORCE_FIELD),
        residues=tuple(options.residue or SIDE_CHAINS),
        minutes=options.minutes,
        temperature=options.temperature,
        seed=options.seed,
        workers=options.workers or usable_cpus(),
    )
    with BuildDisplay(options.minutes) as display:
        content = build_library(options.out, settings, display, options.force)
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
