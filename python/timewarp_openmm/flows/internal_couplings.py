"""Coupling layers of the flow in internal coordinates, and the networks that steer them."""

import torch
from torch import Tensor, nn

from .splines import circle_parameters, circle_spline, line_parameters, line_spline

#: Largest log-scale of one affine map.
_LOG_SCALE_BOUND = 2.0


class Conditioner(nn.Module):
    """Residual MLP whose output is zero to begin with, which makes its coupling the identity.

    Parameters
    ----------
    inputs, outputs, hidden, blocks : int
        Sizes, and the number of residual blocks.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int, blocks: int) -> None:
        super().__init__()
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

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.first(features.to(self.first.weight.dtype))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        out: Tensor = self.last(self.activation(hidden))
        return out


class RotorCoupling(nn.Module):
    """Circular spline of some rotors, given the other rotors and the context.

    Parameters
    ----------
    transformed : list of bool, length R
    context : int
    hidden, blocks, bins : int
    """

    kept: Tensor
    changed: Tensor
    back: Tensor

    def __init__(
        self, transformed: list[bool], context: int, hidden: int, blocks: int, bins: int
    ) -> None:
        super().__init__()
        _register_split(self, transformed)
        inputs = 2 * (len(transformed) - sum(transformed)) + context
        self.parameters_each = circle_parameters(bins)
        self.conditioner = Conditioner(
            inputs, sum(transformed) * self.parameters_each, hidden, blocks
        )

    def forward(self, rotors: Tensor, context: Tensor, to_noise: bool) -> tuple[Tensor, Tensor]:
        """Return rotors [B, R] transformed, and the log-determinant [B]."""
        kept = take(rotors, self.kept)
        given = torch.cat([torch.cos(kept), torch.sin(kept), context], dim=1)
        parameters = self.conditioner(given).view(rotors.size(0), -1, self.parameters_each)
        changed, log_slope = circle_spline(take(rotors, self.changed), parameters, not to_noise)
        return take(torch.cat([kept, changed], dim=1), self.back), log_slope.sum(1)


class NarrowCoupling(nn.Module):
    """Affine map and spline of some narrow coordinates, given the others, rotors and context.

    Parameters
    ----------
    transformed : list of bool, length M
    features : int
        Rotor features and context together.
    hidden, blocks, bins : int
        Without bins there is no spline.
    bound : float
        Of the spline.
    """

    kept: Tensor
    changed: Tensor
    back: Tensor

    def __init__(
        self,
        transformed: list[bool],
        features: int,
        hidden: int,
        blocks: int,
        bins: int,
        bound: float,
    ) -> None:
        super().__init__()
        _register_split(self, transformed)
        self.bends = bins > 0
        self.bound = bound
        self.parameters_each = 2 + (line_parameters(bins) if bins > 0 else 0)
        self.conditioner = Conditioner(
            len(transformed) - sum(transformed) + features,
            sum(transformed) * self.parameters_each,
            hidden,
            blocks,
        )

    def forward(self, narrow: Tensor, features: Tensor, to_noise: bool) -> tuple[Tensor, Tensor]:
        """Return narrow coordinates [B, M] transformed, and the log-determinant [B]."""
        kept = take(narrow, self.kept)
        changed = take(narrow, self.changed)
        parameters = self.conditioner(torch.cat([kept, features], dim=1))
        parameters = parameters.view(narrow.size(0), -1, self.parameters_each)
        log_scale = bounded_log_scale(parameters[..., 0]).double()
        shift = parameters[..., 1].double()
        if to_noise:
            changed = (changed - shift) * torch.exp(-log_scale)
            log_slope = -log_scale
            if self.bends:
                changed, bend = line_spline(changed, parameters[..., 2:], self.bound, False)
                log_slope = log_slope + bend
        else:
            log_slope = log_scale
            if self.bends:
                changed, bend = line_spline(changed, parameters[..., 2:], self.bound, True)
                log_slope = log_slope + bend
            changed = changed * torch.exp(log_scale) + shift
        return take(torch.cat([kept, changed], dim=1), self.back), log_slope.sum(1)


def bounded_log_scale(raw: Tensor, bound: float = _LOG_SCALE_BOUND) -> Tensor:
    return bound * torch.tanh(raw / bound)


def take(values: Tensor, places: Tensor) -> Tensor:
    """Return columns of values [B, M]; faster than index_select, in the gradient above all."""
    return values.gather(1, places.expand(values.size(0), places.size(0)))


def _register_split(module: nn.Module, transformed: list[bool]) -> None:
    kept = [i for i, change in enumerate(transformed) if not change]
    changed = [i for i, change in enumerate(transformed) if change]
    together = torch.tensor([*kept, *changed], dtype=torch.long)
    for name, indices in (
        ("kept", torch.tensor(kept, dtype=torch.long)),
        ("changed", torch.tensor(changed, dtype=torch.long)),
        ("back", together.argsort()),
    ):
        module.register_buffer(name, indices)
