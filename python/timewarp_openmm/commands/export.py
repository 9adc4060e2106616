"""``timewarp-openmm export``: from a training run to a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from .options import ARGUMENT, Options, OutputPath


class ExportOptions(Options):
    """What ``timewarp-openmm export`` is told."""

    run: Annotated[Path, ARGUMENT] = Field(description="Folder of a training run.")
    out: OutputPath = Field(description="The model file, such as ala2.pt.")
    licence: str = Field("MIT", description="Of the weights.")
    force: bool = Field(False, description="Replace the file that is there.")


def export(options: ExportOptions) -> None:
    """Write the best weights of a training run as a model that the integrator loads."""
    from ..training.export import export_run

    export_run(options.run, options.out, options.licence, options.force)
    typer.echo(f"{options.out}: contract checked")
