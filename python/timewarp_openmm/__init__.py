"""Boltzmann sampling in learned jumps: Timewarp proposals as an OpenMM integrator."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundled import pretrained as pretrained
    from .contract import ModelMetadata as ModelMetadata
    from .contract import read_metadata as read_metadata
    from .integrator import BlockStatistics as BlockStatistics
    from .integrator import TimewarpMCMCIntegrator as TimewarpMCMCIntegrator
    from .integrator import trust as trust
    from .latent import LatentChoice as LatentChoice
    from .molecule.matching import find_blocks as find_blocks
    from .reporters import BlockReporter as BlockReporter

__version__ = "0.1.0"

# Loaded on first use, so that reading a model's metadata needs no compiled plugin and sampling a
# model imports no training code.
_LOCATION = {
    "BlockReporter": ".reporters",
    "BlockStatistics": ".integrator",
    "LatentChoice": ".latent",
    "ModelMetadata": ".contract",
    "find_blocks": ".molecule.matching",
    "read_metadata": ".contract",
    "TimewarpMCMCIntegrator": ".integrator",
    "pretrained": ".bundled",
    "trust": ".integrator",
}

__all__ = [
    "BlockReporter",
    "BlockStatistics",
    "LatentChoice",
    "ModelMetadata",
    "TimewarpMCMCIntegrator",
    "find_blocks",
    "pretrained",
    "read_metadata",
    "trust",
]


def __getattr__(name: str) -> Any:
    if name in _LOCATION:
        return getattr(import_module(_LOCATION[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
