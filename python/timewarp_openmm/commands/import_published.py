"""``timewarp-openmm import``: a published checkpoint becomes a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from ..bounds import LAG_TIME, Temperature
from .options import ARGUMENT, Options, OutputPath


class ImportOptions(Options):
    """What ``timewarp-openmm import`` is told."""

    checkpoint: Annotated[Path, ARGUMENT] = Field(description="A published checkpoint (.pt).")
    config: Path = Field(description="JSON file with its hyperparameters.")
    topology: Path = Field(
        description="PDB or mmCIF file; its positions are where the model is checked."
    )
    out: OutputPath = Field(description="The model file to write.")
    temperature: Temperature = Field(310.0, description="Of its training data.")
    lag: Annotated[float, LAG_TIME] = Field(2.0, description="Of its training pairs.")
    force_field: list[str] | None = Field(
        None, description="OpenMM force field file of its training data; once per file."
    )
    force: bool = Field(False, description="Replace the file that is there.")


def import_published(options: ImportOptions) -> None:
    """Turn a published Timewarp checkpoint into a model that the integrator loads."""
    from ..flows.export import export_model
    from ..flows.published import checkpoint

    flow = checkpoint.import_published(options.checkpoint, options.config, options.topology)
    metadata = checkpoint.published_metadata(
        options.checkpoint,
        options.topology,
        options.temperature,
        options.lag,
        options.force_field or (),
    )
    export_model(flow, metadata, options.out, overwrite=options.force)
    typer.echo(f"{options.out}: contract checked")
