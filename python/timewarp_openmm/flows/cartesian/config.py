"""Hyperparameters of the flow in Cartesian coordinates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ...bounds import NonNegative, Positive, Size
from ..base import FlowConfig


class CartesianFlowConfig(FlowConfig):
    """Hyperparameters of `CartesianFlow` (Klein et al. 2023, arXiv 2302.01170, section 4).

    The defaults are for one small molecule. The published network has separate scale and shift
    networks, an unbounded log-scale, one embedding per element, fixed length scales, two learned
    global prior scales, and writes each affine map in the direction of the density.

    Attributes
    ----------
    d_model : int
        Features per atom inside the transformers.
    num_coupling_layers : int
        Maps in the chain, as published: positions and velocities take turns, so this is even.
    num_transformer_layers : int
        Per coupling layer.
    length_scales : tuple of float
        Of the kernel attention in nm, one per head (the initial values, if they are learned).
    learn_length_scales : bool
    mlp_hidden : tuple of int
        Hidden widths of the MLPs into and out of each transformer.
    feedforward : int
        Hidden width of the MLP in a transformer layer.
    embedding : {"atom", "element"}
        What an atom type is: each atom its own, which suits a model of one molecule, or the
        element.
    embedding_size : int
    elements : tuple of str or None
        Elements in the order of their embeddings; None means those of the molecule, sorted.
    joint_network : bool
        One network for scale and shift together, or one for each.
    log_scale_bound : float or None
        c in c tanh(s / c), which a coupling layer's log-scale goes through; None leaves it as it
        is.
    affine_direction : {"sample", "density"}
        The direction in which a coupling layer reads ``scale * z + shift``: from noise to
        proposal, or from proposal to noise (as published).
    first_transformed : {"positions", "velocities"}
        What the first coupling layer (counted from the noise) transforms.
    centre : bool
        Move the conditioning positions' centroid to the origin before the networks see them.
    position_unit : float
        nm; the networks see conditioning positions divided by this.
    displacement_scale : float or None
        nm; initial value of the learned scale, one per atom type, by which the last coupling
        layer's positions are multiplied to give a displacement. None means no such scale.
    learn_prior_scales : bool
        Learn one standard deviation of the noise for all positions and one for all velocities.
    kernel_epsilon : float
        Added to the attention weights' normaliser (published: 1e-5).
    condition_on_velocities : bool
        Give the networks conditioning velocities, too. In a proposal they are zero.
    """

    coordinates: Literal["cartesian"] = "cartesian"
    d_model: Size = 64
    num_coupling_layers: Size = 8
    num_transformer_layers: Size = 2
    length_scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.1, 0.2, 0.4, 0.8)
    learn_length_scales: bool = True
    mlp_hidden: tuple[Size, ...] = (64,)
    feedforward: Size = 224
    embedding: Literal["atom", "element"] = "atom"
    embedding_size: Size = 32
    elements: tuple[str, ...] | None = None
    joint_network: bool = True
    log_scale_bound: Positive | None = 2.0
    affine_direction: Literal["sample", "density"] = "sample"
    first_transformed: Literal["positions", "velocities"] = "positions"
    centre: bool = True
    position_unit: Positive = 0.2
    displacement_scale: Positive | None = 0.02
    learn_prior_scales: bool = False
    kernel_epsilon: NonNegative = 0.0
    condition_on_velocities: bool = False

    @model_validator(mode="after")
    def _check(self) -> CartesianFlowConfig:
        if self.num_coupling_layers % 2:
            raise ValueError(
                f"num_coupling_layers is {self.num_coupling_layers}; positions and velocities take "
                "turns, so it must be even"
            )
        if self.embedding == "atom" and self.elements is not None:
            raise ValueError('elements is only for embedding: "element"; leave it out')
        return self
