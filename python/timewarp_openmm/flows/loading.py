"""From a model file to a module that Python can call."""

from __future__ import annotations

import io
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
    except openmm.OpenMMException as error:
        raise ContractError(str(error)) from error
    # The bytes that were checked, not the file, which may have changed.
    module: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
        io.BytesIO(content), map_location="cpu"
    )
    return module
