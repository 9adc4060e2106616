"""From a configuration to a flow."""

from __future__ import annotations

from ..molecule.graph import Molecule
from .cartesian.config import FlowConfig
from .cartesian.flow import CartesianFlow
from .internal.config import InternalFlowConfig
from .internal.flow import InternalFlow

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
