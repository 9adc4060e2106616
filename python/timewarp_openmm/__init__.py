"""Boltzmann sampling in learned jumps: Timewarp proposals as an OpenMM integrator."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .blocks.peptide_models import peptide_blocks as peptide_blocks
    from .blocks.peptide_models import unserved_chains as unserved_chains
    from .blocks.sidechains import Block as Block
    from .blocks.sidechains import Unserved as Unserved
    from .blocks.sidechains import sidechain_blocks as sidechain_blocks
    from .blocks.sidechains import unserved_residues as unserved_residues
    from .bundled import pretrained as pretrained
    from .contract import ModelMetadata as ModelMetadata
    from .contract import read_metadata as read_metadata
    from .integrator import BlockStatistics as BlockStatistics
    from .integrator import TimewarpMCMCIntegrator as TimewarpMCMCIntegrator
    from .integrator import trust as trust
    from .latent import LatentChoice as LatentChoice
    from .library import Library as Library
    from .library import open_library as open_library
    from .molecule.matching import find_blocks as find_blocks
    from .reporters import BlockReporter as BlockReporter

__version__ = "0.2.0"

# Loaded on first use, so that reading a model's metadata needs no compiled plugin and sampling a
# model imports no training code.
_LOCATION = {
    "Block": ".blocks.sidechains",
    "BlockReporter": ".reporters",
    "BlockStatistics": ".integrator",
    "LatentChoice": ".latent",
    "Library": ".library",
    "ModelMetadata": ".contract",
    "Unserved": ".blocks.sidechains",
    "find_blocks": ".molecule.matching",
    "open_library": ".library",
    "peptide_blocks": ".blocks.peptide_models",
    "read_metadata": ".contract",
    "sidechain_blocks": ".blocks.sidechains",
    "unserved_chains": ".blocks.peptide_models",
    "unserved_residues": ".blocks.sidechains",
    "TimewarpMCMCIntegrator": ".integrator",
    "pretrained": ".bundled",
    "trust": ".integrator",
}

__all__ = [
    "Block",
    "BlockReporter",
    "BlockStatistics",
    "LatentChoice",
    "Library",
    "ModelMetadata",
    "TimewarpMCMCIntegrator",
    "Unserved",
    "find_blocks",
    "open_library",
    "peptide_blocks",
    "pretrained",
    "read_metadata",
    "sidechain_blocks",
    "trust",
    "unserved_chains",
    "unserved_residues",
]


def __getattr__(name: str) -> Any:
    if name in _LOCATION:
        return getattr(import_module(_LOCATION[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
