"""The Timewarp flow in internal coordinates.

Noise becomes the shape of the proposal: first the rotors, through circular splines given each
other; then all narrow coordinates, through affine maps and splines given the rotors and each other.
The proposal is placed in the frame that three root atoms of x span, so that the reverse move finds
x's frame exactly and rigid motion has no part in the density. That holds for independent draws,
too: their shape does not depend on x, but where it lies does, so that the chain is also right in a
System whose energy feels rigid motion (restraints, surroundings).
"""

import math
import random

import torch
from torch import Tensor, nn

from ..molecule import Molecule
from .internal_config import InternalFlowConfig
from .internal_couplings import Conditioner, NarrowCoupling, RotorCoupling
from .shape import ShapeChart


class InternalFlow(nn.Module):
    """Conditional flow of the shape of one molecule; follows the model contract.

    The density does not change when x or y is moved rigidly, has the exact symmetry of methyl
    groups and their like, and is zero for the other hand of a chiral centre. It is a density with
    respect to the volume of the 3N - 6 shape coordinates. At infinite lag it does not depend on x,
    and of the proposal only the frame does.

    Parameters
    ----------
    config : InternalFlowConfig
    molecule : Molecule

    Attributes
    ----------
    num_atoms : int
        N.
    noise_size : int
        6 N - 6: deviates of the rotors, the narrow coordinates, and the 3 N auxiliary velocities.
    auxiliary_velocities : bool
        False: auxiliary velocities have no part in the flow.
    precision : str
        "double": rounding positions to single precision would change the density of stiff bonds by
        more than the contract allows. The networks work in single precision.

    Raises
    ------
    ValueError
        If the molecule has no Z-matrix (see `build_zmatrix`).
    """

    def __init__(self, config: InternalFlowConfig, molecule: Molecule) -> None:
        super().__init__()
        self.shape = ShapeChart(molecule)
        self.num_atoms = molecule.num_atoms
        self.noise_size = 6 * molecule.num_atoms - 6
        self.auxiliary_velocities = False
        self.precision = "double"
        self.num_rotors = self.shape.num_rotors
        self.num_narrow = self.shape.num_narrow
        self.num_shape = self.num_rotors + self.num_narrow
        self.full_whitening = config.whitening == "full"
        self.has_context = any(math.isfinite(lag) for lag in config.lag_times)
        context = config.context + 1 if self.has_context else 0

        chooser = random.Random(config.seed)
        self.rotor_couplings = nn.ModuleList(
            RotorCoupling(
                mask, context, config.rotor_hidden, config.rotor_blocks, config.rotor_bins
            )
            for mask in _masks(self.num_rotors, config.rotor_layers, chooser)
        )
        rotor_features = 3 * self.num_rotors
        self.narrow_couplings = nn.ModuleList(
            NarrowCoupling(
                mask,
                rotor_features + context,
                config.narrow_hidden,
                config.narrow_blocks,
                config.narrow_bins if config.narrow_transform == "spline" else 0,
                config.spline_bound,
            )
            for mask in _masks(self.num_narrow, config.narrow_layers, chooser)
        )
        # Of x and the lag: 2R + M shape features, log lag.
        self.context = Conditioner(
            rotor_features + self.num_narrow + 1, config.context, 2 * config.context, 1
        )
        self.context_size = context
        if self.has_context:
            nn.init.normal_(self.context.last.weight, std=0.1)
        else:
            self.context.requires_grad_(False)

    def fit_normalisation(self, positions: Tensor, weights: Tensor | None = None) -> None:
        """Measure means and variations of the coordinates; call it once, before training.

        Parameters
        ----------
        positions : Tensor [F, N, 3], nm
            Training frames.
        weights : Tensor [F], optional
            Weight of each frame; equal by default.

        Raises
        ------
        ValueError
            If a chiral centre has both hands, or a coordinate never changes.
        """
        if weights is None:
            weights = torch.ones(len(positions), dtype=torch.float64)
        weights = weights.double() / weights.double().sum()
        self.shape.fit(positions, weights, self.full_whitening)

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Make one proposal of each row of noise.

        Parameters
        ----------
        x : Tensor [N, 3] or [B, N, 3], nm
            One state for the whole batch (its share of the work is done once), or one for each.
        noise : Tensor [B, 6 N - 6]
            Standard normal deviates.
        lag : Tensor [B], ps
            ``inf``: an independent draw.

        Returns
        -------
        y : Tensor [B, N, 3], nm
            NaN where the noise leads out of the chart (a bond length below 0, for instance).
        w : Tensor [B, N, 3]
            Auxiliary velocities, dimensionless: the last 3N deviates.
        log_q : Tensor [B], float64
            Log density of (y, w) given x, in logs of nm.
        """
        if x.dim() == 2:
            x = x.unsqueeze(0)
        deviates = noise.double()
        context, origin = self._condition(x, lag, noise.size(0))
        rotors, sectors = self._rotors_from(deviates[:, : self.num_rotors])
        narrow = deviates[:, self.num_rotors : self.num_shape]
        log_q = -self.num_rotors * math.log(2 * math.pi) + _log_normal(
            deviates[:, self.num_rotors :]
        )
        # The layers are written from the density's side.
        for i in range(len(self.rotor_couplings)):
            for j, layer in enumerate(self.rotor_couplings):
                if i + j == len(self.rotor_couplings) - 1:
                    rotors, log_slope = layer(rotors, context, False)
                    log_q = log_q - log_slope
        rotors = _wrap(rotors + origin)
        features = self._rotor_features(rotors, context)
        for i in range(len(self.narrow_couplings)):
            for j, layer in enumerate(self.narrow_couplings):
                if i + j == len(self.narrow_couplings) - 1:
                    narrow, log_slope = layer(narrow, features, False)
                    log_q = log_q - log_slope
        y, log_volume = self.shape.to_positions(rotors, sectors, narrow, x.double())
        w = noise[:, self.num_shape :].view(-1, self.num_atoms, 3)
        return y.to(x.dtype), w.to(x.dtype), log_q - log_volume

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """Return the log density [B], float64, of (y, w) given x; -inf outside of the chart.

        Parameters
        ----------
        y, w : Tensor [B, N, 3]
            Positions / nm and auxiliary velocities.
        x : Tensor [B or 1, N, 3], nm
        lag : Tensor [B], ps
        """
        _, _, narrow, log_q = self._to_noise(y, x, lag)
        log_q = log_q + _log_normal(narrow) + _log_normal(w.flatten(1).double())
        log_q = log_q - self.num_rotors * math.log(2 * math.pi)
        # A proposal keeps the hand of x's labels.
        same = (self.shape.labels.mirrored(y) == self.shape.labels.mirrored(x)).all(1)
        log_q = torch.where(same, log_q, torch.full_like(log_q, -math.inf))
        return torch.where(torch.isfinite(log_q), log_q, torch.full_like(log_q, -math.inf))

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """Return the noise [B, 6 N - 6] that `sample` makes (y, w) of, if y is in x's frame."""
        rotors, sectors, narrow, _ = self._to_noise(y, x, lag)
        share = (sectors + (rotors + math.pi) / (2 * math.pi)) / self.shape.fold
        deviates = torch.special.ndtri(share)
        return torch.cat([deviates.to(y.dtype), narrow.to(y.dtype), w.flatten(1)], dim=1)

    def _to_noise(self, y: Tensor, x: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the noise as rotors, sectors and narrow, and the log-determinant."""
        context, origin = self._condition(x, lag, y.size(0))
        rotors, sectors, narrow, log_volume = self.shape.to_shape(y)
        log_q = -log_volume
        features = self._rotor_features(rotors, context)
        for layer in self.narrow_couplings:
            narrow, log_slope = layer(narrow, features, True)
            log_q = log_q + log_slope
        rotors = _wrap(rotors - origin)
        for layer in self.rotor_couplings:
            rotors, log_slope = layer(rotors, context, True)
            log_q = log_q + log_slope
        return rotors, sectors, narrow, log_q

    def _rotors_from(self, deviates: Tensor) -> tuple[Tensor, Tensor]:
        """Return uniform angles and sectors from normal deviates.

        In float64, the normal distribution function resolves 1e-16 of the circle, and a deviate in
        float32 less than 2e-8 of it everywhere (density times spacing), which is 1e-7 rad.
        """
        share = torch.special.ndtr(deviates) * self.shape.fold
        sectors = torch.minimum(torch.floor(share), self.shape.fold - 1)
        return _wrap((share - sectors) * (2 * math.pi) - math.pi), sectors.long()

    def _rotor_features(self, rotors: Tensor, context: Tensor) -> Tensor:
        # At the ends of a sector labels change, which symmetric rotors' own angles tell.
        symmetric = torch.where(self.shape.fold > 1, rotors / math.pi, torch.zeros_like(rotors))
        return torch.cat([torch.cos(rotors), torch.sin(rotors), symmetric, context], dim=1)

    def _condition(self, x: Tensor, lag: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Return the context [B, C] and the rotor angles [B, R] that are displaced.

        Both are exactly zero for an infinite lag.
        """
        zero = torch.zeros(batch, self.context_size, dtype=torch.float64, device=x.device)
        origin = torch.zeros(batch, self.num_rotors, dtype=torch.float64, device=x.device)
        finite = torch.isfinite(lag)
        if not self.has_context or not bool(finite.any()):
            return zero, origin
        rotors, _, narrow, _ = self.shape.to_shape(x)
        nothing = torch.zeros(x.size(0), 0, dtype=torch.float64, device=x.device)
        features = torch.cat([self._rotor_features(rotors, nothing), narrow], dim=1)
        features = features.expand(batch, features.size(1))
        log_lag = torch.log(torch.where(finite, lag, torch.ones_like(lag)).double())
        context = self.context(torch.cat([features, log_lag.unsqueeze(1)], dim=1)).double()
        gate = finite.unsqueeze(1)
        context = torch.cat([context, torch.ones_like(origin[:, :1].expand(batch, 1))], dim=1)
        return torch.where(gate, context, zero), torch.where(gate, rotors, origin)


def _wrap(angle: Tensor) -> Tensor:
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def _log_normal(deviates: Tensor) -> Tensor:
    """Return log N(deviates; 0, I) [B] of [B, D] in float64."""
    return -0.5 * (deviates * deviates + math.log(2 * math.pi)).sum(1)


def _masks(size: int, layers: int, chooser: random.Random) -> list[list[bool]]:
    """Return which coordinates each layer transforms: random halves, each followed by its rest."""
    if size < 2:
        return [[True] * size] * min(size, 1)
    masks: list[list[bool]] = []
    while len(masks) < layers:
        order = chooser.sample(range(size), size)
        half = set(order[: size // 2])
        masks.append([i in half for i in range(size)])
        masks.append([i not in half for i in range(size)])
    return masks[:layers]
