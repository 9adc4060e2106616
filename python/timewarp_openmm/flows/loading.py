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
        stored = _uncompressed(content)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ContractError(f"{path} is not a TorchScript file, or is damaged: {error}") from error
    except openmm.OpenMMException as error:
        raise ContractError(str(error)) from error
    # The bytes that were checked, not the file, which may have changed.
    module: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
        io.BytesIO(stored), map_location="cpu"
    )
    return module


def _uncompressed(content: bytes) -> bytes:
    """Return the archive with all members stored as they are.

    From a damaged or hostile compressed member torch's reader can make different bytes each time,
    so that what was checked would not be what is loaded. Python's refuses such a member.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as read, zipfile.ZipFile(buffer, "w") as stored:
        for member in read.infolist():
            stored.writestr(member.filename, read.read(member))
    return buffer.getvalue()
