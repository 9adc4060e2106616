"""Monotonic rational-quadratic splines on the line and on the circle.

Durkan et al., Neural Spline Flows, NeurIPS 2019, arXiv 1906.04032 (equations 4 to 8), and Rezende
et al., Normalizing Flows on Tori and Spheres, ICML 2020, arXiv 2002.02428, for the circle.
"""

import math

import torch
from torch import Tensor

#: Least width and height of a bin, as a fraction of an equal share.
MIN_BIN = 1e-2
#: Least slope at a knot.
MIN_SLOPE = 1e-3
_IDENTITY_LOGIT = math.log(math.exp(1.0 - MIN_SLOPE) - 1.0)


def line_parameters(bins: int) -> int:
    """Return the number of parameters of `line_spline` for each coordinate."""
    return 3 * bins - 1


def circle_parameters(bins: int) -> int:
    """Return the number of parameters of `circle_spline` for each coordinate."""
    return 3 * bins + 1


def line_spline(
    x: Tensor, parameters: Tensor, bound: float, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Transform numbers by a spline on [-bound, bound] that is the identity outside.

    Parameters
    ----------
    x : Tensor [...], float64
    parameters : Tensor [..., 3 bins - 1]
        Any real numbers; zeros give the identity.
    bound : float
    inverse : bool
        Transform back.

    Returns
    -------
    y, log_slope : Tensor [...], float64
        Image, and log dy/dx of the direction taken.
    """
    bins = (parameters.shape[-1] + 1) // 3
    ends = torch.ones_like(parameters[..., :1])
    slopes = torch.cat([ends, _slopes(parameters[..., 2 * bins :]), ends], dim=-1)
    inside = (x > -bound) & (x < bound)
    y, log_slope = _rational_quadratic(
        x.clamp(-bound, bound), _knots(parameters, bins, bound), slopes, inverse
    )
    return torch.where(inside, y, x), torch.where(inside, log_slope, torch.zeros_like(log_slope))


def circle_spline(x: Tensor, parameters: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Transform angles in [-pi, pi) by a spline whose slopes agree at -pi and pi, then rotate.

    Parameters
    ----------
    x : Tensor [...], float64, rad
    parameters : Tensor [..., 3 bins + 1]
        Any real numbers; zeros give the identity. The last one is the rotation / rad.
    inverse : bool
        Transform back.

    Returns
    -------
    y, log_slope : Tensor [...], float64
        Image in [-pi, pi), and log dy/dx of the direction taken.
    """
    bins = (parameters.shape[-1] - 1) // 3
    slopes = _slopes(parameters[..., 2 * bins : 3 * bins])
    slopes = torch.cat([slopes, slopes[..., :1]], dim=-1)
    shift = parameters[..., -1].double()
    y, log_slope = _rational_quadratic(
        _wrap(x - shift) if inverse else x, _knots(parameters, bins, math.pi), slopes, inverse
    )
    return (_wrap(y) if inverse else _wrap(y + shift)), log_slope


def _wrap(angle: Tensor) -> Tensor:
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


# TorchScript reads module constants only as default arguments.
def _slopes(logits: Tensor, least: float = MIN_SLOPE, identity: float = _IDENTITY_LOGIT) -> Tensor:
    return least + torch.nn.functional.softplus(logits + identity)


def _knots(parameters: Tensor, bins: int, bound: float, least: float = MIN_BIN) -> Tensor:
    """Return knots [..., 2, bins + 1] of x and y from -bound to bound, with ends exact.

    The first 2 bins parameters are the logarithms of the bins' relative widths and heights.
    """
    logits = parameters[..., : 2 * bins].unflatten(-1, (2, bins))  # type: ignore[no-untyped-call]
    share = least / bins + (1 - least) * torch.softmax(logits, dim=-1)
    inner = torch.cumsum(share[..., :-1], dim=-1) * (2 * bound) - bound
    end = torch.full_like(inner[..., :1], bound)
    return torch.cat([-end, inner, end], dim=-1)


def _rational_quadratic(
    x: Tensor, knots: Tensor, slopes: Tensor, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Evaluate the spline, or its inverse, for x between the first and the last knot.

    Most time goes into calling many small operations, so there are few of them.
    """
    searched = knots[..., 1, 1:-1] if inverse else knots[..., 0, 1:-1]
    index = (x.unsqueeze(-1) >= searched).sum(-1, keepdim=True)
    # One gather for both ends of the bin: [..., 3, 2], in float64 from here on.
    table = torch.cat([knots, slopes.unsqueeze(-2)], dim=-2)
    pair = torch.cat([index, index + 1], dim=-1).unsqueeze(-2)
    ends = table.gather(-1, pair.expand_as(table[..., :2])).double()
    left, right = ends.unbind(-1)
    x0, y0, d0 = left.unbind(-1)
    width, height, _ = (right - left).unbind(-1)
    d1 = right[..., 2]
    secant = height / width
    curvature = d0 + d1 - 2 * secant
    if inverse:
        rise = x - y0
        bent = rise * curvature
        b = height * d0 - bent
        a = height * (secant - d0) + bent
        c = secant * rise
        discriminant = (b * b + 4 * a * c).clamp(min=0.0)
        t = 2 * c / (b + torch.sqrt(discriminant))
    else:
        t = (x - x0) / width
    rest = 1 - t
    before = secant * t + d0 * rest
    after = d1 * t + secant * rest
    shrink = secant / (secant + curvature * (t * rest))
    # With sums of positive terms only, as in the published form, nothing cancels.
    log_slope = torch.log((t * after + rest * before) * (shrink * shrink))
    if inverse:
        return x0 + t * width, -log_slope
    return y0 + width * shrink * t * before, log_slope
