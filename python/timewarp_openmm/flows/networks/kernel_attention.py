"""Multi-head kernel self-attention (Klein et al. 2023, arXiv 2302.01170, section 4).

A head with length scale l mixes the atoms' features r_j with weights that depend on the
conditioning positions x alone::

    w_ij = exp(-|x_i - x_j|^2 / l^2) / sum_k exp(-|x_i - x_k|^2 / l^2)
    r_i <- r_i + sum over heads of sum_j w_ij M r_j

M is the product of the head's value and output projections. Nothing stands between the two, so one
matrix does the work of both.

All heads are done in one product of matrices: their weights lie side by side in one matrix of shape
[N, N H], whose columns are ordered (atom j, head h), as are the features M_h r_j when they come out
of one linear map.
"""

import math

import torch
from torch import Tensor, nn


def kernel_weights(positions: Tensor, log_length_scales: Tensor, epsilon: float) -> Tensor:
    """Return the attention weights of all heads.

    Parameters
    ----------
    positions : Tensor [B, N, 3], nm
    log_length_scales : Tensor [H]
        Natural logarithms of the heads' length scales in nm.
    epsilon : float
        Added to the normaliser.

    Returns
    -------
    Tensor [B, N, N H]
        Row i holds w_ij of all j and heads; the head changes fastest.

    Examples
    --------
    >>> x = torch.tensor([[[0.0, 0.0, 0.0], [0.1, 0.0, 0.0]]])
    >>> w = kernel_weights(x, torch.tensor([0.1, 1e3]).log(), 0.0)
    >>> w[0, 0]
    tensor([0.7311, 0.5000, 0.2689, 0.5000])
    """
    return kernel_of_squares(squared_distances(positions), log_length_scales, epsilon)


def squared_distances(positions: Tensor) -> Tensor:
    """Return the squared distances [B, N, N] between positions [B, N, 3]."""
    # Differences rather than a matrix product: exact zeros on the diagonal, no cancellation.
    return (positions.unsqueeze(2) - positions.unsqueeze(1)).square().sum(-1)


def kernel_of_squares(squares: Tensor, log_length_scales: Tensor, epsilon: float) -> Tensor:
    """Return what `kernel_weights` does, for given squared distances [B, N, N]."""
    kernel = torch.exp(-squares.unsqueeze(-1) * torch.exp(-2.0 * log_length_scales))
    weights = kernel / (kernel.sum(2, keepdim=True) + epsilon)
    return weights.flatten(2)


class KernelSelfAttention(nn.Module):
    """Kernel self-attention with its residual connection.

    Parameters
    ----------
    d_model : int
        Features per atom.
    num_heads : int
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.d_model = d_model
        self.num_heads = num_heads
        # Rows h d_model to (h + 1) d_model are the matrix M of head h.
        self.mix = nn.Parameter(torch.empty(num_heads * d_model, d_model))
        bound = math.sqrt(3.0 / (d_model * num_heads))
        nn.init.uniform_(self.mix, -bound, bound)

    def forward(self, features: Tensor, weights: Tensor) -> Tensor:
        """Return ``features`` plus what the heads gathered.

        Parameters
        ----------
        features : Tensor [B, N, d_model]
        weights : Tensor [B or 1, N, N H]
            From `kernel_weights`.

        Returns
        -------
        Tensor [B, N, d_model]
        """
        batch, atoms = features.size(0), features.size(1)
        mixed = nn.functional.linear(features, self.mix)
        mixed = mixed.view(batch, atoms * self.num_heads, self.d_model)
        return torch.baddbmm(features, weights.expand(batch, -1, -1), mixed)
