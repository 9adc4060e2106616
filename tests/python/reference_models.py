"""Small models that follow the contract and whose behaviour is known, for tests of the chain.

They double as the C++ tests' models: ``python reference_models.py FOLDER`` writes them all.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from timewarp_openmm.contract import METADATA_FILE, ModelMetadata
from timewarp_openmm.molecule import Molecule


def normal_log_density(z: Tensor) -> Tensor:
    z = z.flatten(1).to(torch.float64)
    return -0.5 * (z * z).sum(1) - z.shape[1] * 0.5 * math.log(2 * math.pi)


class Identity(torch.nn.Module):
    """y = x: every proposal must be accepted."""

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        w = noise.view(noise.size(0), x.size(0), 3)
        return x.expand(noise.size(0), x.size(0), 3), w, normal_log_density(w)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return normal_log_density(w)

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return w.flatten(1)


class Affine(torch.nn.Module):
    """y = center + shrink (x - center) + scale (cos(angle) z_p + sin(angle) z_v), w the rest.

    A Gaussian proposal that mixes noise of positions and velocities, so that the density of the
    way back depends on the auxiliary velocities; per-coordinate scales make it anisotropic.
    """

    def __init__(self, scale: list[float], shrink: float, angle: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))
        self.shrink = shrink
        self.cos = math.cos(angle)
        self.sin = math.sin(angle)

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = noise.view(noise.size(0), 2, x.size(0), 3)
        r = self.cos * z[:, 0] + self.sin * z[:, 1]
        w = self.cos * z[:, 1] - self.sin * z[:, 0]
        y = self.shrink * x + self.scale * r
        log_scale = self.scale.to(torch.float64).log().sum() * x.size(0)
        return y, w, normal_log_density(z) - log_scale

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        z = self.invert(y, w, x, lag)
        return normal_log_density(z) - self.scale.to(torch.float64).log().sum() * y.size(1)

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        r = (y - self.shrink * x) / self.scale
        z_p = self.cos * r - self.sin * w
        z_v = self.sin * r + self.cos * w
        return torch.stack([z_p, z_v], 1).flatten(1)


class Tilted(torch.nn.Module):
    """A poor, nonlinear flow: couples positions and velocities as RealNVP does, with odd scales.

    z_p <- exp(a tanh(z_v)) z_p + b sin(z_v);  z_v <- exp(a tanh(z_p)) z_v + b x;  y = x + c z_p
    """

    def __init__(self, a: float, b: float, c: float) -> None:
        super().__init__()
        self.a = a
        self.b = b
        self.c = c

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = noise.view(noise.size(0), 2, x.size(0), 3)
        base = normal_log_density(noise)
        log_s = self.a * torch.tanh(z[:, 1])
        p = torch.exp(log_s) * z[:, 0] + self.b * torch.sin(z[:, 1])
        log_t = self.a * torch.tanh(p)
        w = torch.exp(log_t) * z[:, 1] + self.b * x
        jacobian = (log_s + log_t).to(torch.float64).sum([1, 2])
        return x + self.c * p, w, base - jacobian - 3 * x.size(0) * math.log(self.c)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        p = (y - x) / self.c
        log_t = self.a * torch.tanh(p)
        z = self.invert(y, w, x, lag)
        log_s = self.a * torch.tanh(z.view(y.size(0), 2, y.size(1), 3)[:, 1])
        jacobian = (log_s + log_t).to(torch.float64).sum([1, 2])
        return normal_log_density(z) - jacobian - 3 * y.size(1) * math.log(self.c)

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        p = (y - x) / self.c
        z_v = (w - self.b * x) * torch.exp(-self.a * torch.tanh(p))
        z_p = (p - self.b * torch.sin(z_v)) * torch.exp(-self.a * torch.tanh(z_v))
        return torch.stack([z_p, z_v], 1).flatten(1)


class Sided(torch.nn.Module):
    """An affine flow that crosses over and marks the side it came from in the velocities.

    y = -x + c z_p, w = z_v + d(x), d(x) = (b, 0, 0) where x[0] is positive and 0 elsewhere. Its
    acceptance ratio is analytic: log a = -[U(y) - U(x)]/kT + v.d(y) - d(y)^2/2 - w.d(x) + d(x)^2/2.
    So moves to the positive side depend on the auxiliary velocities v, and those back do not.
    """

    def __init__(self, b: float, c: float) -> None:
        super().__init__()
        self.b = b
        self.c = c

    def mark(self, x: Tensor) -> Tensor:
        side = self.b * (x[..., :1] > 0).to(x.dtype)
        return torch.cat([side, torch.zeros_like(x[..., 1:])], -1)

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = noise.view(noise.size(0), 2, x.size(0), 3)
        log_scale = 3 * x.size(0) * math.log(self.c)
        return self.c * z[:, 0] - x, z[:, 1] + self.mark(x), normal_log_density(noise) - log_scale

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        log_scale = 3 * y.size(1) * math.log(self.c)
        return normal_log_density(self.invert(y, w, x, lag)) - log_scale

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return torch.stack([(y + x) / self.c, w - self.mark(x)], 1).flatten(1)


class RandomFlow(torch.nn.Module):
    """Two affine couplings whose scales and shifts come from an untrained network of all atoms.

    z_p <- exp(s(x, z_v)) z_p + t(x, z_v);  z_v <- exp(s(x, z_p)) z_v + t(x, z_p);  y = x + c z_p
    """

    def __init__(self, num_atoms: int, c: float, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        size = 3 * num_atoms
        self.c = c
        self.to_positions = self.network(size)
        self.to_velocities = self.network(size)

    @staticmethod
    def network(size: int) -> torch.nn.Module:
        layers = torch.nn.Linear(2 * size, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2 * size)
        return torch.nn.Sequential(*layers)

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        size = 3 * x.size(0)
        state = x.reshape(1, size).expand(noise.size(0), size)
        z_p, z_v = noise[:, :size], noise[:, size:]
        s, t = self.to_positions(torch.cat([state, z_v], 1)).chunk(2, 1)
        p = torch.exp(s) * z_p + t
        s2, t2 = self.to_velocities(torch.cat([state, p], 1)).chunk(2, 1)
        w = torch.exp(s2) * z_v + t2
        log_det = (s + s2).to(torch.float64).sum(1) + size * math.log(self.c)
        shape = (noise.size(0), x.size(0), 3)
        return x + self.c * p.view(shape), w.view(shape), normal_log_density(noise) - log_det

    def to_noise(self, y: Tensor, w: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        p = (y - x).flatten(1) / self.c
        state = x.expand_as(y).flatten(1)
        s2, t2 = self.to_velocities(torch.cat([state, p], 1)).chunk(2, 1)
        z_v = (w.expand_as(y).flatten(1) - t2) * torch.exp(-s2)
        s, t = self.to_positions(torch.cat([state, z_v], 1)).chunk(2, 1)
        noise = torch.cat([(p - t) * torch.exp(-s), z_v], 1)
        return noise, (s + s2).to(torch.float64).sum(1) + p.size(1) * math.log(self.c)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        noise, log_det = self.to_noise(y, w, x)
        return normal_log_density(noise) - log_det

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return self.to_noise(y, w, x)[0]


class TurningTorsion(torch.nn.Module):
    """Turns every particle about the z axis and stretches its distance from it, as a torsion moves.

    phi' = phi + 2 atan(a z_1), r' = r exp(s z_2), z' = z + c z_3: the angle is transformed on the
    circle, and the volume element r dr dphi dz is part of the density.
    """

    def __init__(self, a: float, s: float, c: float) -> None:
        super().__init__()
        self.a = a
        self.s = s
        self.c = c

    def log_jacobian(self, z: Tensor, radius: Tensor) -> Tensor:
        """Of (z_1, z_2, z_3) -> (x, y, z), for noise z [B, N, 3] and radii r' [B, N]."""
        turn = math.log(2 * self.a) - torch.log1p((self.a * z[..., 0]) ** 2)
        stretch = 2 * torch.log(radius) + math.log(self.s)
        return (turn + stretch).to(torch.float64).sum(1) + z.size(1) * math.log(self.c)

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = noise.view(noise.size(0), 2, x.size(0), 3)
        p, w = z[:, 0], z[:, 1]
        angle = torch.atan2(x[:, 1], x[:, 0]) + 2 * torch.atan(self.a * p[..., 0])
        radius = torch.hypot(x[:, 0], x[:, 1]) * torch.exp(self.s * p[..., 1])
        height = x[:, 2] + self.c * p[..., 2]
        y = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle), height], -1)
        return y, w, normal_log_density(noise) - self.log_jacobian(p, radius)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        noise = self.invert(y, w, x, lag)
        p = noise.view(noise.size(0), 2, y.size(1), 3)[:, 0]
        radius = torch.hypot(y[..., 0], y[..., 1])
        return normal_log_density(noise) - self.log_jacobian(p, radius)

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        cosine = x[..., 0] * y[..., 0] + x[..., 1] * y[..., 1]
        sine = x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
        stretch = torch.hypot(y[..., 0], y[..., 1]) / torch.hypot(x[..., 0], x[..., 1])
        z_1 = torch.tan(0.5 * torch.atan2(sine, cosine)) / self.a
        z_2 = torch.log(stretch) / self.s
        z_3 = (y[..., 2] - x[..., 2]) / self.c
        return torch.stack([torch.stack([z_1, z_2, z_3], -1), w.expand_as(y)], 1).flatten(1)


class LagScaled(torch.nn.Module):
    """Two kinds of move by lag: a random walk of scale 0.05 sqrt(lag), or an independent draw.

    Auxiliary velocities are the last 3N deviates and not part of the flow.
    """

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = spread

    def mean(self, x: Tensor, lag: Tensor) -> Tensor:
        local = torch.isfinite(lag)[:, None, None]
        return torch.where(local, x, torch.zeros_like(x))

    def scale(self, lag: Tensor) -> Tensor:
        walk = 0.05 * torch.sqrt(torch.where(torch.isfinite(lag), lag, torch.ones_like(lag)))
        spread = torch.full_like(lag, self.spread)
        return torch.where(torch.isfinite(lag), walk, spread)[:, None, None]

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = noise.view(noise.size(0), 2, x.size(0), 3)
        y = self.mean(x.unsqueeze(0), lag) + self.scale(lag) * z[:, 0]
        log_scale = self.scale(lag).to(torch.float64).log().flatten() * 3 * x.size(0)
        return y, z[:, 1], normal_log_density(noise) - log_scale

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        log_scale = self.scale(lag).to(torch.float64).log().flatten() * 3 * y.size(1)
        return normal_log_density(self.invert(y, w, x, lag)) - log_scale

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        z = (y - self.mean(x, lag)) / self.scale(lag)
        return torch.stack([z, w], 1).flatten(1)


class Framed(torch.nn.Module):
    """Independent draws of a shape, put where x is: its centroid stays. As flows of shapes do it.

    y_i = <x> + s (z_i - <z>), with a density in the 3N - 3 coordinates that are not the centroid's.
    """

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = spread

    def density(self, y: Tensor, w: Tensor) -> Tensor:
        shape = (y - y.mean(1, keepdim=True)) / self.spread
        return -0.5 * shape.to(torch.float64).square().sum([1, 2]) + normal_log_density(w)

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = noise.view(noise.size(0), 2, x.size(0), 3)
        y = x.mean(0) + self.spread * (z[:, 0] - z[:, 0].mean(1, keepdim=True))
        return y, z[:, 1], self.density(y, z[:, 1])

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return self.density(y, w)

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        z = (y - y.mean(1, keepdim=True)) / self.spread
        return torch.stack([z, w.expand_as(z)], 1).flatten(1)


class Stretch(torch.nn.Module):
    """Independent draws of the length of a pair, which stays where and as it lies.

    r = length exp(spread z), with a density per r^2 dr, as flows of shapes have it.
    """

    def __init__(self, length: float, spread: float) -> None:
        super().__init__()
        self.length, self.spread = length, spread

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r = self.length * torch.exp(self.spread * noise[:, 6])
        along = (x[1] - x[0]) / (x[1] - x[0]).norm()
        y = torch.stack([x[0].expand(noise.size(0), 3), x[0] + r[:, None] * along], 1)
        w = noise[:, :6].view(-1, 2, 3)
        return y, w, self.log_prob(y, w, x.unsqueeze(0), lag)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        r = (y[:, 1] - y[:, 0]).norm(2, 1).to(torch.float64)
        z = torch.log(r / self.length) / self.spread
        return -0.5 * z.square() - 3 * torch.log(r) + normal_log_density(w)

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        z = torch.log((y[:, 1] - y[:, 0]).norm(2, 1) / self.length) / self.spread
        return torch.cat([w.expand_as(y).flatten(1), z.unsqueeze(1)], 1)


class FramedOrWalk(torch.nn.Module):
    """Draws of a shape where x is, or at a finite lag a random walk, which moves that place."""

    def __init__(self, spread: float, step: float) -> None:
        super().__init__()
        self.framed = Framed(spread)
        self.step = step

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = noise.view(noise.size(0), 2, x.size(0), 3)
        draw, w, _ = self.framed.sample(x, noise, lag)
        y = torch.where(torch.isfinite(lag)[:, None, None], x + self.step * z[:, 0], draw)
        return y, w, self.log_prob(y, w, x.unsqueeze(0), lag)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        walk = normal_log_density((y - x) / self.step) + normal_log_density(w)
        walk = walk - 3 * y.size(1) * math.log(self.step)
        return torch.where(torch.isfinite(lag), walk, self.framed.log_prob(y, w, x, lag))

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        walk = torch.stack([(y - x) / self.step, w.expand_as(y)], 1).flatten(1)
        draw = self.framed.invert(y, w, x, lag)
        return torch.where(torch.isfinite(lag)[:, None], walk, draw)


class Bounded(torch.nn.Module):
    """Local steps everywhere, and independent draws from a cube; beyond it their density is 0."""

    def __init__(self, step: float, half: float) -> None:
        super().__init__()
        self.step = step
        self.half = half

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = noise.view(noise.size(0), 2, x.size(0), 3)
        draw = self.half * torch.erf(z[:, 0] / math.sqrt(2))
        y = torch.where(torch.isfinite(lag)[:, None, None], x + self.step * z[:, 0], draw)
        return y, z[:, 1], self.log_prob(y, z[:, 1], x.unsqueeze(0), lag)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        size = 3 * y.size(1)
        walk = normal_log_density((y - x) / self.step) - size * math.log(self.step)
        inside = (y.abs() <= self.half).flatten(1).all(1)
        cube = torch.full_like(walk, -size * math.log(2 * self.half))
        draw = torch.where(inside, cube, torch.full_like(walk, -math.inf))
        return torch.where(torch.isfinite(lag), walk, draw) + normal_log_density(w)

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        draw = math.sqrt(2) * torch.erfinv((y / self.half).clamp(-1, 1))
        z = torch.where(torch.isfinite(lag)[:, None, None], (y - x) / self.step, draw)
        return torch.stack([z, w.expand_as(z)], 1).flatten(1)


class Spherical(torch.nn.Module):
    """Independent draws of atoms around others: uniform directions, and lengths that come last.

    Atom 0 is context, or is drawn from a Gaussian. Every other atom i lies at a distance
    r = length exp(spread z) from ``parents[i]`` in a direction that is uniform on the sphere,

        cos theta = 2 Phi(z_1) - 1,    phi = 2 pi Phi(z_2),    q = N(z) / (4 pi r^2 spread r),

    with Phi the normal distribution function. A length that is kept is that in x, and its factor
    N(z) / (spread r) is left out. ``fault`` plants one: "context moves", "volume missing" (of the
    last atom), "kept is resampled" or "kept has a density". "kept drifts" is none of the contract:
    what rounding does to kept lengths, ten times over.
    """

    def __init__(
        self, parents: list[int], context: bool, length: float, spread: float, fault: str = ""
    ) -> None:
        super().__init__()
        self.parents = parents
        self.first = 1 if context else 0
        self.length, self.spread, self.fault = length, spread, fault

    def densities(self, z_length: Tensor, r: Tensor, kept: Tensor) -> Tensor:
        """Return the log densities [B, S] of positions relative to the parents."""
        z_length, r = z_length.to(torch.float64), r.to(torch.float64)
        volume = math.log(4 * math.pi) + 2 * torch.log(r)
        if self.fault == "volume missing":
            volume = torch.cat([volume[:, :-1], torch.zeros_like(volume[:, -1:])], 1)
        of_length = -0.5 * (z_length.square() + math.log(2 * math.pi)) - torch.log(self.spread * r)
        if self.fault != "kept has a density":
            of_length = torch.where(kept, torch.zeros_like(of_length), of_length)
        return of_length - volume

    @torch.jit.export
    def sample_constrained(
        self, x: Tensor, noise: Tensor, lag: Tensor, kept: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, bonds, free = noise.size(0), len(self.parents) - 1, 3 * (1 - self.first)
        angles = noise[:, free : free + 2 * bonds].view(batch, bonds, 2)
        z_length = noise[:, free + 2 * bonds : free + 3 * bonds]
        w = noise[:, free + 3 * bonds :].view(batch, -1, 3)
        if self.first == 1:
            w = torch.cat([torch.zeros_like(w[:, :1]), w], 1)
        cosine = 2 * torch.special.ndtr(angles[..., 0]) - 1
        sine = torch.sqrt(1 - cosine.square())
        phi = 2 * math.pi * torch.special.ndtr(angles[..., 1])
        direction = torch.stack([sine * torch.cos(phi), sine * torch.sin(phi), cosine], -1)
        parents = torch.tensor(self.parents[1:], device=x.device)
        r = self.length * torch.exp(self.spread * z_length)
        if self.fault != "kept is resampled":
            lengths = (x[1:] - x[parents]).norm(2, 1)
            if self.fault == "kept drifts":
                lengths = lengths * (1 + 1e-6)
            r = torch.where(kept, lengths.expand_as(r), r)
        start = x[0].expand(batch, 3)
        if self.first == 0:
            start = self.length * noise[:, :3]
        if self.fault == "context moves":
            start = start + 1e-6 * noise[:, :3]
        rows = [start]
        for i in range(bonds):
            rows.append(rows[self.parents[i + 1]] + r[:, i : i + 1] * direction[:, i])
        y = torch.stack(rows, 1)
        return y, w, self.log_prob_constrained(y, w, x.unsqueeze(0), lag, kept)

    @torch.jit.export
    def log_prob_constrained(
        self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor, kept: Tensor
    ) -> Tensor:
        if self.first == 1:
            y = torch.cat([x[:, :1].expand(y.size(0), 1, 3), y[:, 1:]], 1)
        r = (y[:, 1:] - y[:, self.parents[1:]]).norm(2, 2)
        z_length = torch.log(r / self.length) / self.spread
        density = self.densities(z_length, r, kept).sum(1)
        if self.first == 0:
            density = density + normal_log_density(y[:, 0] / self.length)
            density = density - 3 * math.log(self.length)
        return density + normal_log_density(w[:, self.first :])

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        if self.first == 1:
            y = torch.cat([x[:, :1].expand(y.size(0), 1, 3), y[:, 1:]], 1)
        towards = y[:, 1:] - y[:, self.parents[1:]]
        r = towards.norm(2, 2)
        phi = torch.remainder(torch.atan2(towards[..., 1], towards[..., 0]), 2 * math.pi)
        share = torch.stack([0.5 * (towards[..., 2] / r + 1), phi / (2 * math.pi)], -1)
        angles = torch.special.ndtri(share).flatten(1)
        z_length = torch.log(r / self.length) / self.spread
        rest = torch.cat([angles, z_length, w[:, self.first :].flatten(1)], 1)
        return rest if self.first == 1 else torch.cat([y[:, 0] / self.length, rest], 1)

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept = torch.zeros(len(self.parents) - 1, dtype=torch.bool, device=x.device)
        return self.sample_constrained(x, noise, lag, kept)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        kept = torch.zeros(len(self.parents) - 1, dtype=torch.bool, device=x.device)
        return self.log_prob_constrained(y, w, x, lag, kept)


class WrongDensity(torch.nn.Module):
    """A random walk that adds a number, say infinity, to the density of the way there or back."""

    def __init__(self, forward: float, back: float) -> None:
        super().__init__()
        self.forward_error = forward
        self.back_error = back

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = noise.view(noise.size(0), 2, x.size(0), 3)
        return x + 0.05 * z[:, 0], z[:, 1], normal_log_density(noise) + self.forward_error

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return normal_log_density(self.invert(y, w, x, lag)) + self.back_error

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return torch.stack([(y - x) / 0.05, w], 1).flatten(1)


class Broken(torch.nn.Module):
    """A random walk that returns NaN or infinity where the first deviate is above 0.5 or below -1.

    Its density is honest: log_prob is -inf for moves that the flow cannot make.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = noise.view(noise.size(0), 2, x.size(0), 3)
        y = x + self.scale * z[:, 0]
        first = noise[:, :1].unsqueeze(2)
        y = torch.where(first > 0.5, torch.full_like(y, math.nan), y)
        y = torch.where(first < -1.0, torch.full_like(y, math.inf), y)
        return y, z[:, 1], normal_log_density(noise) - 3 * x.size(0) * math.log(self.scale)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        z = self.invert(y, w, x, lag)
        density = normal_log_density(z) - 3 * y.size(1) * math.log(self.scale)
        possible = (z[:, 0] <= 0.5) & (z[:, 0] >= -1.0)
        return torch.where(possible, density, torch.full_like(density, -math.inf))

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return torch.stack([(y - x) / self.scale, w], 1).flatten(1)


class PolynomialEnergy(torch.nn.Module):
    """A surrogate: lean x + k/2 r^2 + c (x^4 + y^4 + z^4) per particle, NaN beyond a bound of x."""

    def __init__(self, k: float, c: float, bound: float = math.inf, lean: float = 0.0) -> None:
        super().__init__()
        self.lean = lean
        self.k = k
        self.c = c
        self.bound = bound

    def forward(self, positions: Tensor) -> Tensor:
        p = positions.to(torch.float64)
        energy = (0.5 * self.k * p**2 + self.c * p**4).sum([1, 2]) + self.lean * p[..., 0].sum(1)
        beyond = (p[..., 0] > self.bound).any(1)
        return torch.where(beyond, torch.full_like(energy, math.nan), energy)


class PairEnergy(torch.nn.Module):
    """A surrogate that does not depend on where the particles lie: k/2 r^2 between all pairs."""

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k

    def forward(self, positions: Tensor) -> Tensor:
        p = positions.to(torch.float64)
        return 0.25 * self.k * (p.unsqueeze(1) - p.unsqueeze(2)).square().sum([1, 2, 3])


class SinglePrecisionEnergy(torch.nn.Module):
    """A surrogate that returns float32, which is refused."""

    def forward(self, positions: Tensor) -> Tensor:
        return positions.square().sum([1, 2])


#: Surrogate energies of the C++ tests. The first is that of AnharmonicWell, the second is far off.
SURROGATES = {
    "true": PolynomialEnergy(50.0, 200.0),
    "poor": PolynomialEnergy(90.0, 0.0),
    "leaning": PolynomialEnergy(90.0, 0.0, lean=25.0),
    "bounded": PolynomialEnergy(50.0, 0.0, 0.3),
    "pairs": PairEnergy(20.0),
    "single": SinglePrecisionEnergy(),
}


def save_model(module: torch.nn.Module, metadata: ModelMetadata, path: Path) -> None:
    """Write a scripted module with its metadata, unchecked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.save(
        torch.jit.script(module.eval()), str(path), _extra_files={METADATA_FILE: metadata.to_json()}
    )


def any_molecule(noise_size: int, **changes: object) -> ModelMetadata:
    """Return metadata of a model that takes any particles."""
    values: dict[str, object] = {
        "molecule": None,
        "noise_size": noise_size,
        "temperature": 300.0,
        "coordinates": "test",
        "lag_times": [1.0],
        "lag_weights": [1.0],
    }
    return ModelMetadata(**{**values, **changes})  # type: ignore[arg-type]


#: Parents of the atoms of `Spherical` models: a trimer about its middle atom, a chain of four
#: atoms, a centre with three atoms around it, and two bonded centres with two more atoms each.
TREES = {
    "trimer": [0, 0, 0],
    "chain": [0, 0, 1, 2],
    "star": [0, 0, 0, 0],
    "double_star": [0, 0, 0, 0, 3, 3],
}


def spherical(
    tree: str, context: bool = False, fault: str = "", length: float = 0.1, hydrogens: bool = False
) -> tuple[Spherical, ModelMetadata]:
    """Return a `Spherical` model of one of `TREES`, all of whose bonds can be kept.

    Parameters
    ----------
    context : bool
        Whether atom 0 is a context atom.
    hydrogens : bool
        Whether atoms that are no other atom's parent are hydrogens.
    """
    parents = TREES[tree]
    n = len(parents)
    positions = [[0.0, 0.0, 0.0], [0.11, 0.01, 0.0], [-0.03, 0.1, 0.02], [-0.04, -0.06, 0.09]]
    if tree == "chain":
        positions[2:] = [[0.15, 0.1, 0.02], [0.06, 0.14, 0.09]]
    positions += [[-0.14, -0.05, 0.1], [0.02, -0.14, 0.13]]
    elements = ["H" if hydrogens and i not in parents else "C" for i in range(n)]
    molecule = Molecule(
        atom_names=tuple(f"{elements[i]}{i}" for i in range(n)),
        residue_names=("MOL",) * n,
        residue_indices=(0,) * n,
        elements=tuple(elements),
        masses=tuple({"C": 12.0, "H": 1.0}[element] for element in elements),
        bonds=tuple((parents[i], i) for i in range(1, n)),
    )
    metadata = any_molecule(
        6 * (n - int(context)),
        molecule=molecule,
        lag_times=[math.inf],
        moved=list(range(1, n)) if context else None,
        stretches=[[parents[i], i] for i in range(1, n)],
        torsion_noise=[2, 4],
        auxiliary_velocities=False,
        precision="double",
        reference_positions=positions[:n],
    )
    return Spherical(parents, context, length, 0.05, fault), metadata


#: What a `Spherical` model can do wrong.
SPHERICAL_FAULTS = (
    "context moves",
    "volume missing",
    "kept is resampled",
    "kept has a density",
)


def reference_models(n: int) -> dict[str, tuple[torch.nn.Module, ModelMetadata]]:
    """Return the models of the C++ tests for n particles, by name."""
    isotropic, odd = [0.08] * 3, [0.3, 0.02, 0.1]
    reference = [[0.1 * i, 0.05 * (i % 3), -0.1] for i in range(n)]
    plain = any_molecule(3 * n, reference_positions=reference)
    full = any_molecule(6 * n, reference_positions=reference)
    unchecked = any_molecule(6 * n)
    separate = {"reference_positions": reference, "auxiliary_velocities": False}
    walks_and_draws = any_molecule(
        6 * n, lag_times=[1.0, 4.0, math.inf], lag_weights=[0.4, 0.2, 0.4], **separate
    )
    some_draws = any_molecule(6 * n, lag_times=[1.0, math.inf], lag_weights=[0.5, 0.5], **separate)
    only_draws = any_molecule(6 * n, lag_times=[math.inf], **separate)
    some_draws.torsion_noise = only_draws.torsion_noise = [k for k in (0, 2, 7) if k < 3 * n]
    return {
        "identity": (Identity(), plain),
        "affine": (Affine(isotropic, 1.0, 0.6), full),
        "anisotropic": (Affine(odd, 0.8, 1.1), full),
        "tilted": (Tilted(0.7, 0.4, 0.1), full),
        "badly_scaled": (Tilted(0.1, 0.0, 1.5), full),
        "random": (RandomFlow(n, 0.08, 3), full),
        "sided": (Sided(3.0, 0.02), full),
        "torsion": (TurningTorsion(1.0, 0.3, 0.1), full),
        "lags": (LagScaled(0.3), walks_and_draws),
        "framed": (Framed(0.2), only_draws),
        "framed_or_walk": (FramedOrWalk(0.2, 0.08), some_draws),
        "bounded": (Bounded(0.05, 0.15), some_draws),
        "bounded_draws": (Bounded(0.05, 0.15), only_draws),
        "broken": (Broken(0.08), full),
        "infinite_forward": (WrongDensity(math.inf, 0.0), unchecked),
        "nan_forward": (WrongDensity(math.nan, 0.0), unchecked),
        "infinite_back": (WrongDensity(0.0, math.inf), unchecked),
        "nan_back": (WrongDensity(0.0, math.nan), unchecked),
    }


# Which of them are made for other than 4 particles.
OTHER_SIZES = {
    1: ("badly_scaled", "sided", "torsion", "tilted", "affine", "lags", "nan_forward"),
    2: ("affine", "identity"),
    8: ("affine",),
    22: ("identity",),
}


def write_all(folder: Path) -> None:
    """Write the models of the C++ tests, named by what they are and their number of particles."""
    for n in (1, 2, 4, 8, 22):
        for name, (module, metadata) in reference_models(n).items():
            if n == 4 or name in OTHER_SIZES[n]:
                save_model(module, metadata, folder / f"{name}_{n}.pt")
    of_a_pair = any_molecule(7, lag_times=[math.inf], auxiliary_velocities=False)
    save_model(Stretch(0.2, 0.15), of_a_pair, folder / "stretch_2.pt")
    for tree, parents in TREES.items():
        for context in (False, True):
            suffix = f"_{tree}{'_on_context' if context else ''}_{len(parents)}.pt"
            save_model(*spherical(tree, context), folder / f"spherical{suffix}")
            hydrides = spherical(tree, context, hydrogens=True)
            save_model(*hydrides, folder / f"hydrogens{suffix}")
    module, metadata = spherical("star", fault="kept drifts", hydrogens=True)
    metadata.precision = "single"
    save_model(module, metadata, folder / "drifting_star_4.pt")
    for name, module in SURROGATES.items():
        torch.jit.save(torch.jit.script(module.eval()), str(folder / f"surrogate_{name}.pt"))


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
