"""Splines: inverses, slopes, continuity around the circle."""

import math
from functools import partial

import pytest
import torch

from timewarp_openmm.flows.internal.splines import (
    circle_parameters,
    circle_spline,
    line_parameters,
    line_spline,
)

BOUND = 4.0
BINS = 8


def _case(kind: str, dtype: torch.dtype, scale: float = 2.0):  # type: ignore[no-untyped-def]
    torch.manual_seed(5)
    x = 2 * torch.rand(400, 20, dtype=torch.float64) - 1
    if kind == "line":
        parameters = scale * torch.randn(400, 20, line_parameters(BINS), dtype=dtype)
        return x * 1.5 * BOUND, partial(line_spline, parameters=parameters, bound=BOUND)
    parameters = scale * torch.randn(400, 20, circle_parameters(BINS), dtype=dtype)
    return x * math.pi, partial(circle_spline, parameters=parameters)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["line", "circle"])
def test_inverse_and_slope(kind: str, dtype: torch.dtype) -> None:
    x, spline = _case(kind, dtype)
    x.requires_grad_()
    y, log_slope = spline(x)
    back, log_slope_back = spline(y, inverse=True)
    assert (back - x).abs().max() < 1e-8
    assert (log_slope + log_slope_back).abs().max() < 1e-8
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert (slope.log() - log_slope).abs().max() < 1e-10
    z = x.detach().requires_grad_()
    image, log_slope = spline(z, inverse=True)
    (slope,) = torch.autograd.grad(image.sum(), z)
    assert (slope.log() - log_slope).abs().max() < 1e-8


@pytest.mark.parametrize("kind", ["line", "circle"])
def test_scripted_does_the_same(kind: str) -> None:
    x, spline = _case(kind, torch.float32)
    scripted = torch.jit.script(spline.func)
    for inverse in (False, True):
        expected = spline(x, inverse=inverse)
        found = scripted(x, **spline.keywords, inverse=inverse)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("kind", ["line", "circle"])
def test_zeros_give_the_identity(kind: str) -> None:
    x, spline = _case(kind, torch.float64, scale=0.0)
    y, log_slope = spline(x)
    assert (y - x).abs().max() < 1e-12
    assert log_slope.abs().max() < 1e-12


def test_line_is_the_identity_outside_and_smooth_at_the_bound() -> None:
    parameters = torch.randn(1, line_parameters(BINS), dtype=torch.float64)
    at = torch.tensor([[-9.0], [BOUND + 1e-9], [BOUND - 1e-9]], dtype=torch.float64)
    y, log_slope = line_spline(at, parameters.expand(3, 1, -1), BOUND)
    assert torch.allclose(y, at, atol=1e-7)
    assert log_slope.abs().max() < 1e-6


def test_circle_has_no_seam() -> None:
    torch.manual_seed(1)
    parameters = torch.randn(50, 1, circle_parameters(BINS), dtype=torch.float64)
    ends = torch.tensor([-math.pi + 1e-9, math.pi - 1e-9], dtype=torch.float64).expand(50, 2)
    for inverse in (False, True):
        images, log_slopes = circle_spline(ends, parameters.expand(50, 2, -1), inverse)
        gap = images[:, 0] - images[:, 1]
        assert torch.remainder(gap + math.pi, 2 * math.pi).sub(math.pi).abs().max() < 1e-6
        if not inverse:
            assert (log_slopes[:, 0] - log_slopes[:, 1]).abs().max() < 1e-5
        assert images.abs().max() <= math.pi


def test_circle_density_is_normalised() -> None:
    """The integral of the slope over the circle is its length."""
    torch.manual_seed(2)
    parameters = torch.randn(1, circle_parameters(BINS), dtype=torch.float64)
    grid = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000 * 2 * math.pi - math.pi
    _, log_slope = circle_spline(grid, parameters.expand(20000, -1))
    assert abs(float(log_slope.exp().mean()) - 1) < 1e-6
