"""From a configuration to a flow."""

from __future__ import annotations

from ..molecule import Molecule
from .cartesian import CartesianFlow
from .config import FlowConfig
from .internal import InternalFlow
from .internal_config import InternalFlowConfig

Flow = CartesianFlow | InternalFlow


def build_flow(config: FlowConfig, molecule: Molecule) -> Flow:
    """Make an untrained flow; its weights come from torch's global random generator.

    A flow in internal coordinates needs its `fit_normalisation` called before use.

    Raises
    ------
    ValueError
        If the configuration does not suit the molecule.
    """
    if isinstance(config, InternalFlowConfig):
        return InternalFlow(config, molecule)
    return CartesianFlow(config, molecule)
