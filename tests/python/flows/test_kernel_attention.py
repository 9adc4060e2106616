"""Kernel self-attention against the formula, written out."""

import torch
from flow_helpers import conformation

from timewarp_openmm.flows.networks.kernel_attention import KernelSelfAttention, kernel_weights

LENGTH_SCALES = torch.tensor([0.1, 0.25, 0.6], dtype=torch.float64)


def head_weights(x: torch.Tensor, length_scale: float) -> torch.Tensor:
    kernel = torch.exp(-(torch.cdist(x, x) ** 2) / length_scale**2)
    return kernel / kernel.sum(dim=1, keepdim=True)


def test_weights_are_those_of_the_formula_and_sum_to_one() -> None:
    x = torch.stack([conformation(5), 2.0 * conformation(5)]).double()
    weights = kernel_weights(x, LENGTH_SCALES.log(), 0.0).view(2, 5, 5, 3)
    for b in range(2):
        for h, length_scale in enumerate(LENGTH_SCALES):
            expected = head_weights(x[b], float(length_scale))
            torch.testing.assert_close(weights[b, :, :, h], expected, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 5, 3, dtype=torch.float64))


def test_attention_sums_over_heads_and_atoms() -> None:
    torch.manual_seed(0)
    attention = KernelSelfAttention(d_model=4, num_heads=3).double()
    x = conformation(5).double()
    features = torch.randn(2, 5, 4, dtype=torch.float64)
    result = attention(features, kernel_weights(x[None], LENGTH_SCALES.log(), 0.0))
    expected = features.clone()
    for h, length_scale in enumerate(LENGTH_SCALES):
        matrix = attention.mix[4 * h : 4 * (h + 1)]
        mixed = torch.einsum(
            "ij,bjd,ed->bie", head_weights(x, float(length_scale)), features, matrix
        )
        expected = expected + mixed
    torch.testing.assert_close(result, expected)
