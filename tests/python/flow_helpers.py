"""Small molecules and flows for the tests of the flows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from timewarp_openmm.contract import ModelMetadata
from timewarp_openmm.flows import CartesianFlowConfig, build_flow
from timewarp_openmm.flows.cartesian.flow import CartesianFlow
from timewarp_openmm.molecule import Molecule


def chain_molecule(elements: str) -> Molecule:
    """Return a molecule whose atoms are bonded in a row."""
    atoms = len(elements)
    return Molecule(
        atom_names=tuple(f"{e}{i}" for i, e in enumerate(elements)),
        residue_names=("MOL",) * atoms,
        residue_indices=(0,) * atoms,
        elements=tuple(elements),
        masses=(12.0,) * atoms,
        bonds=tuple((i, i + 1) for i in range(atoms - 1)),
    )


def conformation(atoms: int) -> Tensor:
    """Return positions [atoms, 3] in nm, like those of a small molecule."""
    generator = torch.Generator().manual_seed(atoms)
    return 0.15 * torch.randn(atoms, 3, generator=generator)


def perturb(module: nn.Module, amplitude: float = 0.1) -> None:
    """Move all weights that are learned, since an untrained flow is almost the identity."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += amplitude * torch.randn(parameter.shape, generator=generator)


def small_flow(config: CartesianFlowConfig, elements: str = "COH") -> CartesianFlow:
    """Return a flow whose weights are like those of a trained one."""
    torch.manual_seed(0)
    flow = build_flow(config, chain_molecule(elements)).eval()
    perturb(flow)
    return flow


def small_config(**options: object) -> CartesianFlowConfig:
    """Return a configuration that is fast to test."""
    sizes = {
        "d_model": 16,
        "num_coupling_layers": 4,
        "num_transformer_layers": 1,
        "mlp_hidden": (12,),
        "feedforward": 20,
        "embedding_size": 5,
        "length_scales": (0.1, 0.3),
    }
    return CartesianFlowConfig.model_validate(sizes | options)


#: As published, see `timewarp_openmm.flows.published.checkpoint`.
PUBLISHED = {
    "learn_length_scales": False,
    "embedding": "element",
    "elements": ("C", "H", "N", "O", "S"),
    "joint_network": False,
    "log_scale_bound": None,
    "affine_direction": "density",
    "first_transformed": "velocities",
    "position_unit": 1.0,
    "displacement_scale": None,
    "learn_prior_scales": True,
    "kernel_epsilon": 1e-5,
    "condition_on_velocities": True,
}


def metadata_for(
    molecule: Molecule, x: Tensor, noise_size: int, lag_times: tuple[float, ...] = (2.0,)
) -> ModelMetadata:
    """Return metadata that fit a flow of this molecule."""
    return ModelMetadata(
        molecule=molecule,
        noise_size=noise_size,
        temperature=310.0,
        coordinates="cartesian",
        lag_times=list(lag_times),
        lag_weights=[1.0 / len(lag_times)] * len(lag_times),
        reference_positions=x.tolist(),
    )
