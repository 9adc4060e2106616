"""The flows that can be trained: a new one is a line in `FLOWS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from ..molecule.graph import Molecule
from .base import Flow, FlowConfig
from .cartesian.flow import CartesianFlow
from .chained.flow import ChainedFlow
from .in_place.flow import InPlaceFlow
from .internal.flow import InternalFlow

FLOWS: tuple[type[Flow], ...] = (
    CartesianFlow,
    InternalFlow,
    ChainedFlow,
    InPlaceFlow,
)

if TYPE_CHECKING:
    AnyFlowConfig = FlowConfig
else:
    #: The configuration of any of them, told apart by its `coordinates`.
    AnyFlowConfig = Annotated[
        Union[tuple(flow.config_class for flow in FLOWS)],  # noqa: UP007
        Field(discriminator="coordinates"),
    ]


def flow_class(config: FlowConfig) -> type[Flow]:
    """Return the flow that such a configuration is of.

    Raises
    ------
    ValueError
        If no flow of `FLOWS` has it.
    """
    for flow in FLOWS:
        if flow.config_class is type(config):
            return flow
    raise ValueError(
        f"no flow is registered for {type(config).__name__}; add it to FLOWS in flows/registry.py"
    )


def build_flow(config: FlowConfig, molecule: Molecule) -> Flow:
    """Make an untrained flow; its weights come from torch's global random generator.

    Its `fit_normalisation` is to be called with training frames before use.

    Raises
    ------
    ValueError
        If the configuration does not suit the molecule.
    """
    return flow_class(config)(config, molecule)
