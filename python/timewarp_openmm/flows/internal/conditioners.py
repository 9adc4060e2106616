"""What steers the couplings of the flow in internal coordinates: plain networks, and what they see.

A conditioner maps the numbers that a coupling keeps to the parameters of those that it transforms.
What it sees beside them is a `Condition`, made once for all couplings from x and the lag time.
`Wiring` says to which atoms the numbers belong, which a plain network need not know
(`attention_conditioner` has the other kind).
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

#: An atom and which of its numbers is meant.
Place = tuple[int, int]


class Condition(NamedTuple):
    """What all couplings are given of x and the lag time; of the moved atoms of x nothing where the
    lag is infinite.

    Attributes
    ----------
    features : Tensor [B, C], float64
        Those of x's shape are zero where the lag is infinite; those of context atoms are not.
    atoms : Tensor [B or 1, N, A]
        What is known of each atom; empty for plain networks.
    weights : Tensor [B or 1, N, N H]
        Of the attention (`kernel_weights`); empty for plain networks.
    """

    features: Tensor
    atoms: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Wiring:
    """Which atoms a coupling's numbers belong to.

    Attributes
    ----------
    columns : tuple of Place
        Of each number that the conditioner is given.
    column_slots : int
        Slots that an atom may have among the columns.
    targets : tuple of Place
        Of each coordinate that is transformed.
    target_slots : int
        Slots that an atom may have among the targets.
    """

    columns: tuple[Place, ...]
    column_slots: int
    targets: tuple[Place, ...]
    target_slots: int


class ResidualNetwork(nn.Module):
    """Residual MLP whose output is zero to begin with.

    Parameters
    ----------
    inputs, outputs, hidden, blocks : int
        Sizes, and the number of residual blocks.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int, blocks: int) -> None:
        super().__init__()
        with warnings.catch_warnings():
            # Of a layer without inputs, which a torsion alone with nothing around it has.
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            self.first = nn.Linear(inputs, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
            )
            for _ in range(blocks)
        )
        self.activation = nn.SiLU()
        self.last = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def transform(self, features: Tensor) -> Tensor:
        hidden = self.first(features.to(self.first.weight.dtype))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        out: Tensor = self.last(self.activation(hidden))
        return out


class Conditioner(ResidualNetwork):
    """Plain network: all numbers together; its coupling is the identity to begin with."""

    def forward(self, given: Tensor, condition: Condition) -> Tensor:
        """Return the parameters [B, outputs] for given numbers [B, K]."""
        return self.transform(torch.cat([given, condition.features], dim=1))


class Context(ResidualNetwork):
    """Condition of plain networks: a few features of x's shape and the lag time.

    Parameters
    ----------
    inputs : int
        Shape features of x.
    size : int
        Features that are made of them; one more says that the lag is finite.
    looks_at_x : bool
        Whether any lag is finite.
    surroundings : int
        Features of context atoms, which the flow adds.

    Attributes
    ----------
    size : int
        C of the condition.
    """

    def __init__(self, inputs: int, size: int, looks_at_x: bool, surroundings: int) -> None:
        super().__init__(inputs + 1, size, 2 * size, 1)
        self.own_size = size + 1 if looks_at_x else 0
        self.size = self.own_size + surroundings
        if looks_at_x:
            nn.init.normal_(self.last.weight, std=0.1)
        else:
            self.requires_grad_(False)

    @torch.jit.export
    def independent(self, lag: Tensor) -> Condition:
        """Return the condition of infinite lags [B]."""
        weight = self.last.weight
        # Where lag is: the weights' device would become a constant when the flow is frozen.
        features = torch.zeros(lag.size(0), self.own_size, dtype=torch.float64, device=lag.device)
        return Condition(features, weight.new_zeros([1, 0, 0]), weight.new_zeros([1, 0, 0]))

    def forward(self, x: Tensor, shape: Tensor, lag: Tensor) -> Condition:
        """Return the condition.

        Parameters
        ----------
        x : Tensor [B or 1, N, 3], nm
        shape : Tensor [B or 1, F]
            Shape features of x.
        lag : Tensor [B], ps
        """
        finite = torch.isfinite(lag).unsqueeze(1)
        shape = shape.expand(lag.size(0), shape.size(1))
        features = self.transform(torch.cat([shape, log_of_finite(lag)], dim=1)).double()
        features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
        nothing = self.independent(lag)
        return Condition(
            torch.where(finite, features, nothing.features), nothing.atoms, nothing.weights
        )


def may_hold(gate: Tensor) -> bool:
    """Return whether any of the gate may be true, so that work that no row needs can be left out.

    On a GPU always: to look, the host would have to wait for it, and no CUDA graph can hold that.
    """
    if gate.device.type != "cpu":
        return True
    return bool(gate.any())


def log_of_finite(lag: Tensor) -> Tensor:
    """Return log(lag / ps) [B, 1] in float64, 0 where it is infinite."""
    finite = torch.isfinite(lag)
    return torch.log(torch.where(finite, lag, torch.ones_like(lag)).double()).unsqueeze(1)


def take(values: Tensor, places: Tensor) -> Tensor:
    """Return columns of values [B, M]; faster than index_select, in the gradient above all."""
    return values.gather(1, places.expand(values.size(0), places.size(0)))
