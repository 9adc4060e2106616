"""Affine coupling layers: one half of the flow's state is scaled and shifted, given the other."""

import torch
from torch import Tensor, nn

from ..networks.atom_transformer import AtomTransformer
from .config import CartesianFlowConfig


class AffineCoupling(nn.Module):
    """RealNVP coupling (Dinh et al. 2017, arXiv 1605.08803) of positions and velocities.

    ``a -> exp(s) a + t`` elementwise, with s and t functions of the other half and of the
    conditioning state. The direction it is read in is the configuration's `affine_direction`.

    Parameters
    ----------
    config : CartesianFlowConfig
    state_size : int
        See `AtomTransformer`.
    """

    def __init__(self, config: CartesianFlowConfig, state_size: int) -> None:
        super().__init__()
        sizes = (6,) if config.joint_network else (3, 3)
        # The scale's network, then the shift's, or one for both.
        self.networks = nn.ModuleList(
            AtomTransformer(
                state_size=state_size,
                output_size=size,
                d_model=config.d_model,
                num_heads=len(config.length_scales),
                feedforward=config.feedforward,
                num_layers=config.num_transformer_layers,
                mlp_hidden=config.mlp_hidden,
            )
            for size in sizes
        )
        self.bounded = config.log_scale_bound is not None
        self.bound = config.log_scale_bound or 0.0
        self.affine_to_sample = config.affine_direction == "sample"

    def prepare(self, state: Tensor) -> list[Tensor]:
        """Return what the networks make of ``state`` [B, N, state_size] alone."""
        prepared: list[Tensor] = []
        for network in self.networks:
            prepared.append(network.prepare(state))  # type: ignore[operator]
        return prepared

    @torch.jit.export
    def transform(
        self,
        half: Tensor,
        other: Tensor,
        prepared: list[Tensor],
        weights: Tensor,
        to_noise: bool,
    ) -> tuple[Tensor, Tensor]:
        """Transform ``half`` given ``other``, from noise to proposal or back.

        Parameters
        ----------
        half, other : Tensor [B, N, 3]
        prepared : list of Tensor
            From `prepare`.
        weights : Tensor [B or 1, N, N H]
            From `kernel_weights`.
        to_noise : bool

        Returns
        -------
        transformed : Tensor [B, N, 3]
        log_det : Tensor [B], float64
            Logarithm of the Jacobian determinant of the map from noise to proposal, either way.
        """
        log_scale, shift = self._scale_and_shift(other, prepared, weights)
        forward = self.affine_to_sample != to_noise
        return _affine(half, log_scale, shift, forward), self._log_det(log_scale)

    def _scale_and_shift(
        self,
        other: Tensor,
        prepared: list[Tensor],
        weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        outputs: list[Tensor] = []
        for i, network in enumerate(self.networks):
            outputs.append(network(other, prepared[i], weights))  # type: ignore[operator]
        log_scale, shift = torch.cat(outputs, dim=-1).chunk(2, dim=-1)
        if self.bounded:
            log_scale = self.bound * torch.tanh(log_scale / self.bound)
        return log_scale, shift

    def _log_det(self, log_scale: Tensor) -> Tensor:
        total = log_scale.sum(dim=(1, 2), dtype=torch.float64)
        return total if self.affine_to_sample else -total


def _affine(half: Tensor, log_scale: Tensor, shift: Tensor, forward: bool) -> Tensor:
    """Return ``exp(log_scale) * half + shift``, or what this makes ``half`` of."""
    if forward:
        return torch.addcmul(shift, half, torch.exp(log_scale))
    return (half - shift) * torch.exp(-log_scale)
