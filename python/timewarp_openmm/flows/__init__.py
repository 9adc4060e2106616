"""Conditional normalising flows, and how they become model files."""

from .base import Flow, FlowConfig
from .cartesian.config import CartesianFlowConfig
from .chained.config import ChainedFlowConfig
from .check import check_contract
from .export import export_model
from .internal.config import InternalFlowConfig
from .registry import FLOWS, AnyFlowConfig, build_flow

__all__ = [
    "FLOWS",
    "AnyFlowConfig",
    "CartesianFlowConfig",
    "ChainedFlowConfig",
    "Flow",
    "FlowConfig",
    "InternalFlowConfig",
    "build_flow",
    "check_contract",
    "export_model",
]
