"""From a model file to a module that Python can call."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import openmm
import torch

from .._libraries import load_plugin
from ..contract import ContractError
from ..stored import repacked


def load_module(path: str | Path) -> torch.jit.ScriptModule:
    """Read a TorchScript module to the CPU, with the checks that the integrator makes of a file.

    Raises
    ------
    FileNotFoundError
    ContractError
        If it is damaged, or does more than arithmetic without being trusted.
    """
    content = Path(path).read_bytes()
    try:
        load_plugin().check_module(f"the model {path}", content)
        # From a damaged or hostile compressed member torch's reader can make different bytes each
        # time, so that what was checked would not be what is loaded. Python's refuses it.
        stored = repacked(content, zipfile.ZIP_STORED)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ContractError(f"{path} is not a TorchScript file, or is damaged: {error}") from error
    except openmm.OpenMMException as error:
        raise ContractError(str(error)) from error
    # The bytes that were checked, not the file, which may have changed.
    module: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
        io.BytesIO(stored), map_location="cpu"
    )
    return module
