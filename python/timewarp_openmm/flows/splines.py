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
    widths, heights = parameters[..., :bins], parameters[..., bins : 2 * bins]
    ends = torch.ones_like(widths[..., :1])
    slopes = torch.cat([ends, _slopes(parameters[..., 2 * bins :]), ends], dim=-1)
    inside = (x > -bound) & (x < bound)
    y, log_slope = _rational_quadratic(
        x.clamp(-bound, bound),
        _knots(widths, bound),
        _knots(heights, bound),
        slopes,
        inverse,
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
    widths, heights = parameters[..., :bins], parameters[..., bins : 2 * bins]
    slopes = _slopes(parameters[..., 2 * bins : 3 * bins])
    slopes = torch.cat([slopes, slopes[..., :1]], dim=-1)
    shift = parameters[..., -1].double()
    y, log_slope = _rational_quadratic(
        _wrap(x - shift) if inverse else x,
        _knots(widths, math.pi),
        _knots(heights, math.pi),
        slopes,
        inverse,
    )
    return (_wrap(y) if inverse else _wrap(y + shift)), log_slope


def _wrap(angle: Tensor) -> Tensor:
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


# TorchScript reads module constants only as default arguments.
def _slopes(logits: Tensor, least: float = MIN_SLOPE, identity: float = _IDENTITY_LOGIT) -> Tensor:
    return least + torch.nn.functional.softplus(logits + identity)


def _knots(logits: Tensor, bound: float, least: float = MIN_BIN) -> Tensor:
    """Return knots [..., bins + 1] from -bound to bound, with ends exact."""
    bins = logits.shape[-1]
    share = least / bins + (1 - least) * torch.softmax(logits, dim=-1)
    inner = torch.cumsum(share[..., :-1], dim=-1) * (2 * bound) - bound
    end = torch.full_like(inner[..., :1], bound)
    return torch.cat([-end, inner, end], dim=-1)


def _rational_quadratic(
    x: Tensor, knots_x: Tensor, knots_y: Tensor, slopes: Tensor, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Evaluate the spline, or its inverse, for x between the first and the last knot."""
    searched = knots_y if inverse else knots_x
    index = (x.unsqueeze(-1) >= searched[..., 1:-1]).sum(-1, keepdim=True)
    # One gather for both ends of the bin: [..., 3, 2], in float64 from here on.
    table = torch.stack([knots_x, knots_y, slopes], dim=-2)
    pair = torch.stack([index, index + 1], dim=-1)
    ends = table.gather(-1, torch.cat([pair, pair, pair], dim=-2)).double()
    left, right = ends.unbind(-1)
    x0, y0, d0 = left.unbind(-1)
    x1, y1, d1 = right.unbind(-1)
    width, height = x1 - x0, y1 - y0
    secant = height / width
    curvature = d0 + d1 - 2 * secant
    if inverse:
        rise = x - y0
        a = height * (secant - d0) + rise * curvature
        b = height * d0 - rise * curvature
        c = -secant * rise
        discriminant = (b * b - 4 * a * c).clamp(min=0.0)
        t = 2 * c / (-b - torch.sqrt(discriminant))
    else:
        t = (x - x0) / width
    rest = t * (1 - t)
    denominator = secant + curvature * rest
    log_slope = (
        2 * torch.log(secant)
        + torch.log(d1 * t * t + 2 * secant * rest + d0 * (1 - t) * (1 - t))
        - 2 * torch.log(denominator)
    )
    if inverse:
        return x0 + t * width, -log_slope
    return y0 + height * (secant * t * t + d0 * rest) / denominator, log_slope
