"""Flows in internal coordinates for tests, with weights like those of trained ones."""

import math

import torch
from molecules import make, shaken
from torch import Tensor

from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.internal.flow import InternalFlow

INF = math.inf
SMALL = {
    "rotatable_layers": 2,
    "rotatable_hidden": 16,
    "stiff_layers": 2,
    "stiff_hidden": 32,
    "stiff_transform": "spline",
}


def trained_like(name: str, weights: float = 0.02, **config: object) -> tuple[InternalFlow, Tensor]:
    """Return a flow whose maps are not the identity, and conformations [F, N, 3] like its data."""
    molecule, positions = make(name, 4)
    torch.manual_seed(0)
    flow = InternalFlow(InternalFlowConfig(**{**SMALL, **config}), molecule)
    x = torch.tensor(shaken(positions, 400, 0.003), dtype=torch.float32)
    flow.fit_normalisation(x)
    # What starts at zero.
    ends = ("last", "transformer.output")
    for parameter in (p for n, p in flow.named_parameters() if any(end in n for end in ends)):
        torch.nn.init.normal_(parameter, std=weights)
    return flow.requires_grad_(False), x


def draw(flow: InternalFlow, batch: int, seed: int = 1) -> Tensor:
    return torch.randn(batch, flow.noise_size, generator=torch.Generator().manual_seed(seed))
