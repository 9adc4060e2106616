"""Conditional normalising flows, and how they become model files."""

from .cartesian.config import CartesianFlowConfig, FlowConfig
from .check import check_contract
from .export import export_model
from .internal.config import InternalFlowConfig
from .registry import build_flow

__all__ = [
    "CartesianFlowConfig",
    "FlowConfig",
    "InternalFlowConfig",
    "build_flow",
    "check_contract",
    "export_model",
]
