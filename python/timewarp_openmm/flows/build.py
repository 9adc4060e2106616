"""From a configuration to a flow."""

from __future__ import annotations

from ..molecule import Molecule
from .cartesian import CartesianFlow
from .config import FlowConfig


def build_flow(config: FlowConfig, molecule: Molecule) -> CartesianFlow:
    """Make an untrained flow; its weights come from torch's global random generator.

    Raises
    ------
    ValueError
        If the configuration does not suit the molecule.
    """
    return CartesianFlow(config, molecule)
