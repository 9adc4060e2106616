"""From a flow to a model file."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import os
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch
from torch import nn

from .. import __version__
from .._libraries import load_plugin
from ..contract import METADATA_FILE, ContractError, ModelMetadata
from ..files import naming
from .base import Flow
from .check import check_contract, check_jacobian, check_methods, methods_of
from .loading import load_module


def export_model(
    flow: nn.Module,
    metadata: ModelMetadata,
    path: str | Path,
    overwrite: bool = False,
    trust: bool = False,
) -> Path:
    """Script, freeze and check a flow, and write it with its metadata.

    The file appears whole and checked or not at all. The flow itself is left as it is.

    Parameters
    ----------
    flow : torch.nn.Module
        Any module that follows the model contract, scripted or scriptable.
    metadata : ModelMetadata
        Must have `reference_positions`; an empty `package_version` is filled in.
    path : str or Path
    overwrite : bool
        Replace a file that is there.
    trust : bool
        Allow operators that those who use the file must trust it for (docs/contract.md).

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    FileExistsError
        If there is a file and `overwrite` is not set.
    FileNotFoundError
        If the folder does not exist.
    ContractError
        If the flow does not follow the contract, naming what failed.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; ask for overwriting or choose another name")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}; create it first")
    metadata = dataclasses.replace(
        metadata, package_version=metadata.package_version or __version__
    )
    check_methods(flow, metadata)
    flow = copy.deepcopy(flow).cpu().float().eval()
    for module in flow.modules():
        if isinstance(module, Flow):
            module.raise_precision()
    check_jacobian(flow, metadata)
    _write(_freeze(flow, metadata), metadata, path, trust)
    return path


def _freeze(flow: nn.Module, metadata: ModelMetadata) -> torch.jit.ScriptModule:
    try:
        scripted = torch.jit.script(flow)
    except Exception as error:  # TorchScript raises many kinds
        raise ContractError(f"the flow cannot be compiled by torch.jit.script: {error}") from error
    check_methods(scripted, metadata)
    frozen: torch.jit.ScriptModule = torch.jit.freeze(
        scripted, preserved_attrs=list(methods_of(metadata))
    )
    return frozen


def _write(model: torch.jit.ScriptModule, metadata: ModelMetadata, path: Path, trust: bool) -> None:
    """Write to a temporary file beside `path`, check what can be read from it, and rename it."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        # Through memory, since torch's own writer does not say that a disk is full.
        buffer = io.BytesIO()
        torch.jit.save(model, buffer, _extra_files={METADATA_FILE: metadata.to_json()})
        content = _without_debug_records(buffer)
        with naming(path):
            temporary.write_bytes(content)
        if trust:
            load_plugin().trust_file(hashlib.sha256(content).hexdigest())
        check_contract(load_module(temporary), metadata)
        os.replace(temporary, path)


def _without_debug_records(archive: BinaryIO) -> bytes:
    """Return a TorchScript archive, compressed, without its records of where the code came from.

    They are more than half of a small model's file, and name folders of the machine it was made on.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(packed, "w") as new:
        for entry in old.infolist():
            if entry.filename.endswith(".debug_pkl"):
                continue
            # Metadata are read from files that nobody trusts, and must not be compressed.
            plain = entry.filename.endswith(METADATA_FILE)
            kind = zipfile.ZIP_STORED if plain else zipfile.ZIP_DEFLATED
            new.writestr(entry.filename, old.read(entry), kind)
    return packed.getvalue()
