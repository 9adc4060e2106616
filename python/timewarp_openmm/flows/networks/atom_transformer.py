"""The atom transformer: from what is known of each atom to a few numbers per atom.

Per atom, [h_i, x_i, z_i] (atom type, conditioning state, conditioning half of the flow's state)
goes through an MLP, layers of kernel self-attention and an MLP each, with layer normalisation after
each residual sum, and another MLP (Klein et al. 2023, arXiv 2302.01170, section 4).
"""

import torch
from torch import Tensor, nn

from .kernel_attention import KernelSelfAttention


class TransformerLayer(nn.Module):
    """Kernel self-attention and a feedforward MLP, each followed by layer normalisation.

    Parameters
    ----------
    d_model : int
        Features per atom.
    num_heads : int
    feedforward : int
        Hidden width of the MLP.
    """

    def __init__(self, d_model: int, num_heads: int, feedforward: int) -> None:
        super().__init__()
        self.attention = KernelSelfAttention(d_model, num_heads)
        self.norm1 = nn.LayerNorm(d_model)
        self.linear1 = nn.Linear(d_model, feedforward)
        self.linear2 = nn.Linear(feedforward, d_model)
        self.norm2 = nn.LayerNorm(d_model)

    def forward(self, features: Tensor, weights: Tensor) -> Tensor:
        """Transform ``features`` [B, N, d_model] with attention ``weights`` [B or 1, N, N H]."""
        features = self.norm1(self.attention(features, weights))
        hidden = torch.relu_(self.linear1(features))
        result: Tensor = self.norm2(features + self.linear2(hidden))
        return result


class AtomTransformer(nn.Module):
    """Network of one coupling layer.

    The first linear map is split into its part for the conditioning state, which all proposals from
    one state share (`prepare`), and its part for z.

    Parameters
    ----------
    state_size : int
        Numbers per atom that describe the conditioning state: the embedding and x.
    output_size : int
        Numbers per atom that come out; the last layer starts at zero, and so do they.
    d_model, num_heads, feedforward, num_layers : int
        See `TransformerLayer`.
    mlp_hidden : tuple of int
        Hidden widths of the MLPs before and after the layers.
    z_size : int
        Numbers per atom of the half that conditions.
    """

    def __init__(
        self,
        state_size: int,
        output_size: int,
        d_model: int,
        num_heads: int,
        feedforward: int,
        num_layers: int,
        mlp_hidden: tuple[int, ...],
        z_size: int = 3,
    ) -> None:
        super().__init__()
        first_width = (*mlp_hidden, d_model)[0]
        self.from_state = nn.Linear(state_size, first_width)
        self.from_z = nn.Linear(z_size, first_width, bias=False)
        self.input = nn.Sequential(*_mlp(state_size + z_size, mlp_hidden, d_model)[1:])
        self.layers = nn.ModuleList(
            TransformerLayer(d_model, num_heads, feedforward) for _ in range(num_layers)
        )
        self.output = nn.Sequential(*_mlp(d_model, mlp_hidden, output_size))
        for parameter in self.output[-1].parameters():
            nn.init.zeros_(parameter)

    def prepare(self, state: Tensor) -> Tensor:
        """Return the part of the first layer that depends on ``state`` [B, N, state_size] only."""
        prepared: Tensor = self.from_state(state)
        return prepared

    def forward(self, z: Tensor, prepared: Tensor, weights: Tensor) -> Tensor:
        """Return [B, N, output_size].

        Parameters
        ----------
        z : Tensor [B, N, z_size]
            The half of the flow's state that conditions.
        prepared : Tensor [B or 1, N, first width]
            From `prepare`.
        weights : Tensor [B or 1, N, N H]
            From `kernel_weights`.
        """
        features = self.input(self.from_z(z) + prepared)
        for layer in self.layers:
            features = layer(features, weights)
        result: Tensor = self.output(features)
        return result


def _mlp(size: int, hidden: tuple[int, ...], output_size: int) -> list[nn.Module]:
    """Return linear maps with SiLU between them."""
    modules: list[nn.Module] = []
    for width in hidden:
        modules += [nn.Linear(size, width), nn.SiLU()]
        size = width
    return [*modules, nn.Linear(size, output_size)]
