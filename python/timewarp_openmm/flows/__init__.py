"""Conditional normalising flows, and how they become model files."""

from .build import build_flow
from .check import check_contract
from .config import CartesianFlowConfig, FlowConfig
from .export import export_model
from .internal_config import InternalFlowConfig

__all__ = [
    "CartesianFlowConfig",
    "FlowConfig",
    "InternalFlowConfig",
    "build_flow",
    "check_contract",
    "export_model",
]
