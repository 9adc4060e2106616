"""``timewarp-openmm import``: a published checkpoint becomes a model file."""

from __future__ import annotations

from pathlib import Path

from ..flows.export import export_model
from ..flows.published.checkpoint import import_published, published_metadata


def import_command(
    checkpoint: Path,
    config: Path,
    topology: Path,
    out: Path,
    temperature: float = 310.0,
    lag: float = 2.0,
    force_field: str = "",
    overwrite: bool = False,
) -> Path:
    """Import a published checkpoint and write it as a model.

    Parameters
    ----------
    checkpoint : Path
        The published ``.pt``.
    config : Path
        JSON with its hyperparameters.
    topology : Path
        PDB of the molecule that the model is to move; its positions are where the model is checked.
    out : Path
        The model file to write.
    temperature : float
        K, of the data that the network was trained on.
    lag : float
        ps, between the positions of its training pairs.
    force_field : str
        Of that data.
    overwrite : bool
        Replace `out` if it is there.

    Raises
    ------
    FileNotFoundError, FileExistsError, ValueError
        Saying what is wrong and what to do.
    """
    flow = import_published(checkpoint, config, topology)
    metadata = published_metadata(checkpoint, topology, temperature, lag, force_field)
    return export_model(flow, metadata, out, overwrite=overwrite)
