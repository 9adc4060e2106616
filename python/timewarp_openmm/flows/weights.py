"""Weights of flows in files: tensors and plain values, read without running any code of theirs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..stored import DamagedFileError, check_archive, conform, repacked, write_archive

T = TypeVar("T")


def save_tensors(path: Path, content: Mapping[str, Any], compressed: bool = False) -> None:
    """Write tensors and plain values in one step."""
    # Through memory, since torch's own writer does not say that a disk is full.
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    archive = buffer.getvalue()
    write_archive(path, repacked(archive, zipfile.ZIP_DEFLATED) if compressed else archive)


def load_tensors(path: Path, schema: type[T], kind: str, remedy: str) -> T:
    """Read what `save_tensors` wrote; no code in the file is run.

    Parameters
    ----------
    kind : str
        What it is, for messages.

    Raises
    ------
    FileNotFoundError
    DamagedFileError
        If it is something else.
    """
    # torch's own reader takes what it finds.
    check_archive(path, remedy)
    try:
        archive = repacked(path.read_bytes(), zipfile.ZIP_STORED)
        content = torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
        return conform(content, schema)
    except Exception as error:  # torch raises by what is broken
        raise DamagedFileError(path, f"it is not {kind} ({error})", remedy) from error


def restore_weights(
    module: torch.nn.Module, weights: Mapping[str, torch.Tensor], source: Path, remedy: str
) -> None:
    """Give a flow the weights that `source` holds.

    Raises
    ------
    DamagedFileError
        If they are those of another flow, or not finite.
    """
    if any(not torch.isfinite(value).all() for value in weights.values()):
        raise DamagedFileError(source, "its weights are not finite", remedy)
    try:
        module.load_state_dict(dict(weights))
    except RuntimeError as error:
        what = f"its weights do not fit its configuration ({error})"
        raise DamagedFileError(source, what, remedy) from error


def round_weights(flow: torch.nn.Module, bits: int) -> None:
    """Round weights to so many significant bits, so that a compressed file of them is smaller."""
    with torch.no_grad():
        for weights in flow.parameters():
            fraction, exponent = torch.frexp(weights)
            weights.copy_(torch.ldexp(torch.round(fraction * 2.0**bits) / 2.0**bits, exponent))
