"""Coupling layers of the flow in internal coordinates."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .conditioners import Condition, Wiring, take
from .coordinate_places import CoordinatePlaces
from .splines import circle_parameters, circle_spline, line_parameters, line_spline

#: Largest log-scale of one affine map.
_LOG_SCALE_BOUND = 2.0

#: Makes a conditioner of its wiring and the number of parameters of each coordinate.
MakeConditioner = Callable[[Wiring, int], nn.Module]


def _split(transformed: list[bool]) -> tuple[list[int], list[int]]:
    """Return the places of the coordinates that are kept, and of those that change."""
    places = range(len(transformed))
    return [i for i in places if not transformed[i]], [i for i in places if transformed[i]]


class _SplitCoupling(nn.Module):
    """Transforms some of the coordinates, given the others.

    Parameters
    ----------
    kept, changed : list of int
        Where they are.
    """

    kept: Tensor
    changed: Tensor
    back: Tensor

    def __init__(self, kept: list[int], changed: list[int]) -> None:
        super().__init__()
        together = torch.tensor([*kept, *changed], dtype=torch.long)
        for name, indices in (
            ("kept", torch.tensor(kept, dtype=torch.long)),
            ("changed", torch.tensor(changed, dtype=torch.long)),
            ("back", together.argsort()),
        ):
            self.register_buffer(name, indices)

    def _join(self, kept: Tensor, changed: Tensor) -> Tensor:
        """Return all coordinates in their order."""
        return take(torch.cat([kept, changed], dim=1), self.back)


class RotatableCoupling(_SplitCoupling):
    """Circular spline of some rotatable torsions, given the others and the condition.

    Parameters
    ----------
    transformed : list of bool, length R
    places : CoordinatePlaces
    make_conditioner : callable
    bins : int
    """

    def __init__(
        self,
        transformed: list[bool],
        places: CoordinatePlaces,
        make_conditioner: MakeConditioner,
        bins: int,
    ) -> None:
        kept, changed = _split(transformed)
        super().__init__(kept, changed)
        self.parameters_each = circle_parameters(bins)
        self.conditioner = make_conditioner(
            places.rotatable_wiring(kept, changed), self.parameters_each
        )

    def forward(
        self, rotatable: Tensor, condition: Condition, to_noise: bool
    ) -> tuple[Tensor, Tensor]:
        """Return rotatable torsions [B, R] transformed, and the log-determinant [B]."""
        kept = take(rotatable, self.kept)
        given = torch.cat([torch.cos(kept), torch.sin(kept)], dim=1)
        parameters = self.conditioner(given, condition)
        changed, log_slope = circle_spline(
            take(rotatable, self.changed),
            parameters.view(rotatable.size(0), -1, self.parameters_each),
            not to_noise,
        )
        return self._join(kept, changed), log_slope.sum(1)


class StiffCoupling(_SplitCoupling):
    """Affine map and spline of some stiff coordinates, given the others, more, and the condition.

    Parameters
    ----------
    transformed : list of bool, length M
    places : CoordinatePlaces
    make_conditioner : callable
    bins : int
        Without bins there is no spline.
    bound : float
        Of the spline.
    """

    def __init__(
        self,
        transformed: list[bool],
        places: CoordinatePlaces,
        make_conditioner: MakeConditioner,
        bins: int,
        bound: float,
    ) -> None:
        kept, changed = _split(transformed)
        super().__init__(kept, changed)
        self.bends = bins > 0
        self.bound = bound
        self.parameters_each = 2 + (line_parameters(bins) if bins > 0 else 0)
        self.conditioner = make_conditioner(
            places.stiff_wiring(kept, changed), self.parameters_each
        )

    def forward(
        self, stiff: Tensor, features: Tensor, condition: Condition, to_noise: bool
    ) -> tuple[Tensor, Tensor]:
        """Return stiff coordinates [B, M] transformed, and the log-slope [B, C] of each that is.

        ``features`` [B, F] are those of the rotatable torsions, then the velocities that take part.
        """
        kept = take(stiff, self.kept)
        changed = take(stiff, self.changed)
        parameters = self.conditioner(torch.cat([kept, features], dim=1), condition)
        parameters = parameters.view(stiff.size(0), -1, self.parameters_each)
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
        return self._join(kept, changed), log_slope


class VelocityCoupling(nn.Module):
    """Affine map of the velocities that take part, given the whole shape and the condition.

    Where the lag is infinite it is the identity.

    Parameters
    ----------
    places : CoordinatePlaces
    make_conditioner : callable
    """

    def __init__(self, places: CoordinatePlaces, make_conditioner: MakeConditioner) -> None:
        super().__init__()
        self.conditioner = make_conditioner(places.velocity_wiring(), 2)

    def forward(
        self,
        velocities: Tensor,
        shape: Tensor,
        condition: Condition,
        gate: Tensor,
        to_noise: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return velocities [B, V] transformed, and the log-determinant [B].

        ``shape`` [B, F] are the features of the whole shape; ``gate`` [B, 1] is 0 where the lag is
        infinite and 1 elsewhere.
        """
        parameters = self.conditioner(shape, condition).view(velocities.size(0), -1, 2)
        log_scale = gate * bounded_log_scale(parameters[..., 0]).double()
        shift = gate * parameters[..., 1].double()
        if to_noise:
            return (velocities - shift) * torch.exp(-log_scale), -log_scale.sum(1)
        return velocities * torch.exp(log_scale) + shift, log_scale.sum(1)


def bounded_log_scale(raw: Tensor, bound: float = _LOG_SCALE_BOUND) -> Tensor:
    return bound * torch.tanh(raw / bound)
