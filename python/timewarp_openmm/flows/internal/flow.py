"""The Timewarp flow in internal coordinates.

Noise becomes the shape of the proposal: first the rotatable torsions, through circular splines
given each other; then all stiff coordinates, through affine maps and splines given the rotatable
torsions and each other.
The proposal is placed in the frame that three root atoms of x span, so that the reverse move finds
x's frame exactly and rigid motion has no part in the density. That holds for independent draws,
too: their shape does not depend on x, but where it lies does, so that the chain is also right in a
System whose energy feels rigid motion (restraints, surroundings).

If the auxiliary velocities take part, they are transformed by turns with the stiff coordinates,
in the same frame, and only where the lag is finite.
"""

import math
import random

import torch
from torch import Tensor, nn

from ...molecule.graph import Molecule
from ..base import Flow
from ..gaussian import log_normal
from .attention_conditioner import AttentionConditioner, AttentionContext
from .conditioners import Condition, Conditioner, Context, Wiring, may_hold
from .config import InternalFlowConfig
from .coordinate_places import ROTATABLE_SLOTS, CoordinatePlaces, coordinate_places
from .couplings import (
    MakeConditioner,
    RotatableCoupling,
    StiffCoupling,
    VelocityCoupling,
)
from .shape import ShapeChart
from .support import check_support


class InternalFlow(Flow):
    """Conditional flow of the shape of one molecule; follows the model contract.

    The density does not change when x or y is moved rigidly, has the exact symmetry of methyl
    groups and their like, and is zero for the mirror image of a chiral centre. It is a density with
    respect to the volume of the 3N - 6 shape coordinates. At infinite lag it does not depend on x,
    and of the proposal only the frame does.

    Parameters
    ----------
    config : InternalFlowConfig
    molecule : Molecule

    Attributes
    ----------
    noise_size : int
        6 N - 6: deviates of the rotatable torsions, the stiff coordinates, and the 3 N auxiliary
        velocities.
    auxiliary_velocities : bool
        Whether auxiliary velocities take part at finite lags.
    precision : str
        "double": rounding positions to single precision would change the density of stiff bonds by
        more than the contract allows. The networks work in single precision.

    Raises
    ------
    ValueError
        If the molecule has no Z-matrix (see `build_zmatrix`).
    """

    config_class = InternalFlowConfig
    draws_independently = True
    feels_rigid_motion = False

    moving: Tensor

    def __init__(self, config: InternalFlowConfig, molecule: Molecule) -> None:
        super().__init__(config, molecule)
        self._molecule = molecule
        self.shape = ShapeChart(molecule)
        self.noise_size = 6 * molecule.num_atoms - 6
        self.auxiliary_velocities = config.velocities
        self.precision = "double"
        self.num_rotatable = self.shape.num_rotatable
        self.num_stiff = self.shape.num_stiff
        self.num_shape = self.num_rotatable + self.num_stiff
        self.full_whitening = config.whitening == "full"
        self.has_context = any(math.isfinite(lag) for lag in config.lag_times)
        places = coordinate_places(self.shape, molecule, config.velocities)
        moving = torch.tensor(places.velocities, dtype=torch.long)
        self.register_buffer("moving", moving, persistent=False)

        self.context: Context | AttentionContext
        make_rotatable, make_stiff = self._conditioners(config, molecule, places)
        chooser = random.Random(config.seed)
        self.rotatable_couplings = nn.ModuleList(
            RotatableCoupling(mask, places, make_rotatable, config.rotatable_bins)
            for mask in _masks(self.num_rotatable, config.rotatable_layers, chooser)
        )
        stiff_masks = _masks(self.num_stiff, config.stiff_layers, chooser)
        self.stiff_couplings = nn.ModuleList(
            StiffCoupling(
                mask,
                places,
                make_stiff,
                config.stiff_bins if config.stiff_transform == "spline" else 0,
                config.spline_bound,
            )
            for mask in stiff_masks
        )
        # One after each pair of stiff layers, counted from the density's side.
        self.velocity_couplings = nn.ModuleList(
            VelocityCoupling(places, make_stiff)
            for _ in range(len(stiff_masks) // 2 if config.velocities else 0)
        )

    def _conditioners(
        self, config: InternalFlowConfig, molecule: Molecule, places: CoordinatePlaces
    ) -> tuple[MakeConditioner, MakeConditioner]:
        """Make the context, and return what makes conditioners of torsions and of the rest."""
        if config.conditioner == "attention":
            attention = AttentionContext(config.attention, molecule, places, self.has_context)
            self.context = attention

            def make(wiring: Wiring, parameters_each: int) -> nn.Module:
                return AttentionConditioner(config.attention, attention, wiring, parameters_each)

            return make, make
        self.context = Context(
            ROTATABLE_SLOTS * self.num_rotatable + self.num_stiff, config.context, self.has_context
        )
        size = self.context.size

        def make_rotatable(wiring: Wiring, parameters_each: int) -> nn.Module:
            inputs, outputs = len(wiring.columns) + size, len(wiring.targets) * parameters_each
            return Conditioner(inputs, outputs, config.rotatable_hidden, config.rotatable_blocks)

        def make_stiff(wiring: Wiring, parameters_each: int) -> nn.Module:
            inputs, outputs = len(wiring.columns) + size, len(wiring.targets) * parameters_each
            return Conditioner(inputs, outputs, config.stiff_hidden, config.stiff_blocks)

        return make_rotatable, make_stiff

    def fit_normalisation(self, positions: Tensor, weights: Tensor | None = None) -> None:
        """Measure means and variations of the coordinates; see `Flow.fit_normalisation`.

        A coordinate that never changes is an error.
        """
        if weights is None:
            weights = torch.ones(len(positions), dtype=torch.float64)
        weights = weights.double() / weights.double().sum()
        self.shape.fit(positions, weights, self.full_whitening)

    def check_support(self, positions: Tensor) -> Tensor:
        """Return which frames [F] are outside of the chart; see `support.check_support`."""
        return check_support(self.shape, self._molecule, positions)

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Flow.sample`.

        y is NaN where the noise leads out of the chart (a bond length below 0, for instance); w is
        the last 3N deviates, unless auxiliary velocities take part.
        """
        if x.dim() == 2:
            x = x.unsqueeze(0)
        deviates = noise.double()
        condition, origin = self._condition(x, lag, noise.size(0))
        rotatable, sectors = self._rotatable_from(deviates[:, : self.num_rotatable])
        stiff = deviates[:, self.num_rotatable : self.num_shape]
        log_q = -self.num_rotatable * math.log(2 * math.pi) + log_normal(
            deviates[:, self.num_rotatable :]
        )
        # The layers are written from the density's side.
        for i in range(len(self.rotatable_couplings)):
            for j, layer in enumerate(self.rotatable_couplings):
                if i + j == len(self.rotatable_couplings) - 1:
                    rotatable, log_slope = layer(rotatable, condition, False)
                    log_q = log_q - log_slope
        rotatable = _wrap(rotatable + origin)
        velocities = deviates[:, self.num_shape :].view(-1, self.num_atoms, 3)
        stiff, velocities, log_slope = self._through_stiff(
            stiff, velocities, rotatable, condition, lag, False
        )
        y, log_volume = self.shape.to_positions(rotatable, sectors, stiff, x.double())
        w = self._turn(velocities, x, lag, False)
        return y.to(x.dtype), w.to(x.dtype), log_q - log_slope - log_volume

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
        _, _, stiff, velocities, log_q = self._to_noise(y, w, x, lag)
        log_q = log_q + log_normal(stiff) + log_normal(velocities.flatten(1))
        log_q = log_q - self.num_rotatable * math.log(2 * math.pi)
        # A proposal keeps the chirality of x's labels.
        same = (self.shape.chirality.mirrored(y) == self.shape.chirality.mirrored(x)).all(1)
        log_q = torch.where(same, log_q, torch.full_like(log_q, -math.inf))
        return torch.where(torch.isfinite(log_q), log_q, torch.full_like(log_q, -math.inf))

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """Return the noise [B, 6 N - 6] that `sample` makes (y, w) of, if y is in x's frame."""
        rotatable, sectors, stiff, velocities, _ = self._to_noise(y, w, x, lag)
        share = (sectors + (rotatable + math.pi) / (2 * math.pi)) / self.shape.fold
        noise = torch.cat([torch.special.ndtri(share), stiff, velocities.flatten(1)], dim=1)
        return noise.to(y.dtype)

    def _to_noise(
        self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the noise as torsions, sectors, stiff and velocities, and the log-determinant."""
        condition, origin = self._condition(x, lag, y.size(0))
        rotatable, sectors, stiff, log_volume = self.shape.to_shape(y)
        stiff, velocities, log_q = self._through_stiff(
            stiff, self._turn(w.double(), x, lag, True), rotatable, condition, lag, True
        )
        rotatable = _wrap(rotatable - origin)
        for layer in self.rotatable_couplings:
            rotatable, log_slope = layer(rotatable, condition, True)
            log_q = log_q + log_slope
        return rotatable, sectors, stiff, velocities, log_q - log_volume

    def _rotatable_from(self, deviates: Tensor) -> tuple[Tensor, Tensor]:
        """Return uniform angles and sectors from normal deviates.

        In float64, the normal distribution function resolves 1e-16 of the circle, and a deviate in
        float32 less than 2e-8 of it everywhere (density times spacing), which is 1e-7 rad.
        """
        share = torch.special.ndtr(deviates) * self.shape.fold
        sectors = torch.minimum(torch.floor(share), self.shape.fold - 1)
        return _wrap((share - sectors) * (2 * math.pi) - math.pi), sectors.long()

    def _through_stiff(
        self,
        stiff: Tensor,
        velocities: Tensor,
        rotatable: Tensor,
        condition: Condition,
        lag: Tensor,
        to_noise: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return stiff coordinates and velocities [B, N, 3] transformed, given the rotatable
        torsions, and the log-determinant."""
        known = self.shape.rotatable_features(rotatable)
        gate = torch.isfinite(lag).double().unsqueeze(1)
        moving = velocities.index_select(1, self.moving).flatten(1)
        log_det = torch.zeros(stiff.size(0), dtype=torch.float64, device=stiff.device)
        last = len(self.stiff_couplings) - 1
        for i in range(last + 1):
            turn = i if to_noise else last - i
            if not to_noise:
                moving, log_slope = self._through_velocities(
                    turn, moving, torch.cat([known, stiff], dim=1), condition, gate, to_noise
                )
                log_det = log_det + log_slope
            features = torch.cat([known, gate * moving], dim=1)
            for j, layer in enumerate(self.stiff_couplings):
                if j == turn:
                    stiff, log_slope = layer(stiff, features, condition, to_noise)
                    log_det = log_det + log_slope
            if to_noise:
                moving, log_slope = self._through_velocities(
                    turn, moving, torch.cat([known, stiff], dim=1), condition, gate, to_noise
                )
                log_det = log_det + log_slope
        if self.auxiliary_velocities:
            moving = moving.view(moving.size(0), self.moving.size(0), 3)
            velocities = velocities.index_copy(1, self.moving, moving)
        return stiff, velocities, log_det

    def _through_velocities(
        self,
        turn: int,
        moving: Tensor,
        shape: Tensor,
        condition: Condition,
        gate: Tensor,
        to_noise: bool,
    ) -> tuple[Tensor, Tensor]:
        """Apply the coupling of velocities that comes after stiff layer `turn`, if one does."""
        log_det = torch.zeros_like(gate[:, 0])
        for k, layer in enumerate(self.velocity_couplings):
            if 2 * k + 1 == turn and may_hold(gate):
                moving, log_det = layer(moving, shape, condition, gate, to_noise)
        return moving, log_det

    def _turn(self, velocities: Tensor, x: Tensor, lag: Tensor, into_frame: bool) -> Tensor:
        """Turn velocities [B, N, 3] into the frame of x's roots, which are also y's, or back.

        Independent draws have their velocities as they are, since these must not depend on x.
        """
        finite = torch.isfinite(lag).view(-1, 1, 1)
        if not self.auxiliary_velocities or not may_hold(finite):
            return velocities
        axes = self.shape.frame_axes(x)
        turned = velocities @ (axes.transpose(1, 2) if into_frame else axes)
        return torch.where(finite, turned, velocities)

    def _condition(self, x: Tensor, lag: Tensor, batch: int) -> tuple[Condition, Tensor]:
        """Return the condition and the rotatable torsion angles [B, R] that are displaced.

        Of x both hold nothing where the lag is infinite.
        """
        origin = torch.zeros(batch, self.num_rotatable, dtype=torch.float64, device=x.device)
        finite = torch.isfinite(lag)
        if not self.has_context or not may_hold(finite):
            return self.context.independent(lag), origin
        rotatable, _, stiff, _ = self.shape.to_shape(x)
        shape = torch.cat([self.shape.rotatable_features(rotatable), stiff], dim=1)
        condition = self.context(x.double(), shape, lag)
        return condition, torch.where(finite.unsqueeze(1), rotatable, origin)


def _wrap(angle: Tensor) -> Tensor:
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


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
