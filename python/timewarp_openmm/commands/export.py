"""``timewarp-openmm export``: from a training run to a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    out: Annotated[Path, typer.Option(help="The model file, such as ala2.pt.")],
    licence: Annotated[str, typer.Option(help="Of the weights.")] = "MIT",
    force: Annotated[bool, typer.Option(help="Replace the file that is there.")] = False,
) -> None:
    """Write the best weights of a training run as a model that the integrator loads."""
    from ..training.export import export_run

    export_run(run, out, licence, force)
    typer.echo(f"{out}: contract checked")
