"""The Timewarp flow in internal coordinates.

Noise becomes the shape of the proposal: first the rotatable torsions, through circular splines
given each other; then the stiff coordinates, through affine maps and splines given the rotatable
torsions and each other; last the lengths of X-H bonds, each given all the rest. Those of them that
a System constrains keep the lengths that they have in x, and their factors are left out.

The proposal is placed in the frame that three root atoms of x span, so that the reverse move finds
x's frame exactly and rigid motion has no part in the density. That holds for independent draws,
too: their shape does not depend on x, but where it lies does, so that the chain is also right in a
System whose energy feels rigid motion (restraints, surroundings).

A part of a molecule is placed from context atoms, given their internal coordinates, and its density
is that of its Cartesian coordinates: there is no rigid motion to be left out.

As a link of a chain of flows (`chained`) it does not see the atoms that later links make, and its
context may have moved already: then the state whose labels and bond lengths it keeps is another
than the positions that it places its atoms around.

If the auxiliary velocities take part, they are transformed by turns with the stiff coordinates,
in the same frame, and only where the lag is finite.
"""

import math
import random
from collections.abc import Sequence

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
from .surroundings import Surroundings

#: Layers of rotatable torsions up to which their networks may work in single precision.
_SINGLE_PRECISION_LAYERS = 4


class InternalFlow(Flow):
    """Conditional flow of the shape of a molecule, or of a part of one; follows the model contract.

    The density does not change when x or y is moved rigidly (of a part: when both are), has the
    exact symmetry of methyl groups and their like, and is zero for the mirror image of a chiral
    centre. It is a density with respect to the volume of the 3N - 6 shape coordinates, or of the
    3M positions of a part. At infinite lag it does not depend on x, and of the proposal only the
    frame does; of a part both depend on the context atoms alone.

    Parameters
    ----------
    config : InternalFlowConfig
    molecule : Molecule
    absent : sequence of int
        Atoms that are made later. They are neither moved nor seen, and N does not count them.

    Attributes
    ----------
    noise_size : int
        6 N - 6, or 6 M: deviates of the rotatable torsions, the stiff coordinates (the stretches
        last), and the auxiliary velocities of the atoms that move.
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
    moved_index: Tensor
    context_index: Tensor
    heavy_index: Tensor
    hydrogen_index: Tensor

    def __init__(
        self, config: InternalFlowConfig, molecule: Molecule, absent: Sequence[int] = ()
    ) -> None:
        super().__init__(config, molecule)
        self._molecule = molecule
        self.shape = ShapeChart(molecule, config.moved, absent)
        self.stretches = self.shape.stretches
        self.torsion_noise = self.shape.rotamer_places
        atoms = range(molecule.num_atoms)
        self.moved = None if config.moved is None else list(config.moved)
        moved = self.moved or [i for i in atoms if i not in absent]
        self.has_context = len(moved) < len(atoms)
        self.num_moved = len(moved)
        self.noise_size = self.shape.num_rotatable + self.shape.num_stiff + 3 * len(moved)
        self.auxiliary_velocities = config.velocities
        self.precision = "double"
        self.num_rotatable = self.shape.num_rotatable
        self.num_stiff = self.shape.num_stiff
        self.num_shape = self.num_rotatable + self.num_stiff
        self.full_whitening = config.whitening == "full"
        self.looks_at_x = any(math.isfinite(lag) for lag in config.lag_times)
        places = coordinate_places(self.shape, molecule, config.velocities)
        moving = torch.tensor(places.velocities, dtype=torch.long)
        self.register_buffer("moving", moving, persistent=False)
        for name, indices in (
            ("moved_index", moved),
            ("context_index", [i for i in atoms if i not in moved]),
            ("heavy_index", [heavy for heavy, _ in self.shape.stretches]),
            ("hydrogen_index", [hydrogen for _, hydrogen in self.shape.stretches]),
        ):
            self.register_buffer(name, torch.tensor(indices, dtype=torch.long), persistent=False)

        self.surroundings = Surroundings(molecule, set(moved), absent)
        if self.has_context and not (config.velocities or self.looks_at_x):
            self.seen = sorted({*moved, *self.shape.references, *self.surroundings.atoms})
        self.context: Context | AttentionContext
        make_rotatable, make_stiff = self._conditioners(config, molecule, places)
        chooser = random.Random(config.seed)
        self.rotatable_couplings = nn.ModuleList(
            RotatableCoupling(mask, places, make_rotatable, config.rotatable_bins)
            for mask in _masks(self.num_rotatable, config.rotatable_layers, chooser)
        )
        bins = config.stiff_bins if config.stiff_transform == "spline" else 0
        self.num_rest = self.num_stiff - self.shape.num_stretches
        stiff_masks = _masks(self.num_rest, config.stiff_layers, chooser)
        self.stiff_couplings = nn.ModuleList(
            StiffCoupling(mask, places, make_stiff, bins, config.spline_bound)
            for mask in stiff_masks
        )
        # All stretches at once, so that each is independent of the others given the rest.
        stretches = [False] * self.num_rest + [True] * self.shape.num_stretches
        self.stretch_couplings = nn.ModuleList(
            StiffCoupling(stretches, places, make_stiff, bins, config.spline_bound)
            for _ in range(min(self.shape.num_stretches, 1))
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
            attention = AttentionContext(
                config.attention, molecule, places, self.looks_at_x, self.surroundings.size
            )
            self.context = attention

            def make(wiring: Wiring, parameters_each: int) -> nn.Module:
                return AttentionConditioner(config.attention, attention, wiring, parameters_each)

            return make, make
        self.context = Context(
            ROTATABLE_SLOTS * self.num_rotatable + self.num_stiff,
            config.context,
            self.looks_at_x,
            self.surroundings.size,
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
        self.surroundings.fit(positions, weights)

    def check_support(self, positions: Tensor) -> Tensor:
        """Return which frames [F] are outside of the chart; see `support.check_support`."""
        return check_support(self.shape, self._molecule, positions)

    def raise_precision(self) -> None:
        """See `Flow.raise_precision`.

        A spline stretches the rounding errors of those before it where it is steep. Of six layers
        log q can then depend on the size of a batch by more than the contract allows.
        """
        if len(self.rotatable_couplings) > _SINGLE_PRECISION_LAYERS:
            for layer in self.rotatable_couplings:
                if isinstance(layer.conditioner, Conditioner):
                    layer.conditioner.double()

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Flow.sample`.

        y is NaN where the noise leads out of the chart (a bond length below 0, for instance); w is
        the last deviates, unless auxiliary velocities take part.
        """
        return self.propose(x, x, noise, lag, None)

    @torch.jit.export
    def sample_constrained(
        self, x: Tensor, noise: Tensor, lag: Tensor, kept: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return proposals as `sample`, in which some bonds have the lengths that they have in x.

        Parameters
        ----------
        kept : Tensor [S], bool
            Which of the `stretches`.
        """
        return self.propose(x, x, noise, lag, kept)

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
        return self.log_density(y, w, x, x, lag, None)

    @torch.jit.export
    def log_prob_constrained(
        self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor, kept: Tensor
    ) -> Tensor:
        """Return the log density [B] of what varies where bonds [S] are kept; see the contract."""
        return self.log_density(y, w, x, x, lag, kept)

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """Return the noise [B, D] that `sample` makes (y, w) of, if y is in x's frame."""
        return self.find_noise(y, w, x, x, lag)

    def find_noise(self, y: Tensor, w: Tensor, around: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """Return the noise [B, D] that `propose` makes (y, w) of; arguments as of `log_density`."""
        y = self._with_context(y, around)
        rotatable, sectors, stiff, velocities, _ = self._to_noise(y, w, around, x, lag, None)
        share = (sectors + (rotatable + math.pi) / (2 * math.pi)) / self.shape.fold
        noise = torch.cat([torch.special.ndtri(share), stiff, velocities], dim=1)
        return noise.to(y.dtype)

    def propose(
        self, around: Tensor, x: Tensor, noise: Tensor, lag: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return proposals as `sample`, around atoms that may lie elsewhere than in the state.

        Parameters
        ----------
        around : Tensor [N, 3] or [B, N, 3], nm
            Where context atoms are and stay.
        x : Tensor [N, 3] or [B, N, 3], nm
            The state, whose labels' chirality and lengths of `kept` bonds proposals have.
        """
        if x.dim() == 2:
            x = x.unsqueeze(0)
        if around.dim() == 2:
            around = around.unsqueeze(0)
        deviates = noise.double()
        condition, origin = self._condition(around, lag, noise.size(0))
        rotatable, sectors = self._rotatable_from(deviates[:, : self.num_rotatable])
        stiff = deviates[:, self.num_rotatable : self.num_shape]
        velocities = deviates[:, self.num_shape :]
        lengths = self._kept_lengths(x, kept, sectors)
        log_q = self._log_normal(stiff, velocities, lengths)
        # The layers are written from the density's side.
        for i in range(len(self.rotatable_couplings)):
            for j, layer in enumerate(self.rotatable_couplings):
                if i + j == len(self.rotatable_couplings) - 1:
                    rotatable, log_slope = layer(rotatable, condition, False)
                    log_q = log_q - log_slope
        rotatable = _wrap(rotatable + origin)
        stiff, w, log_slope = self._through_stiff(
            stiff, self._rows(velocities), rotatable, condition, lag, lengths, False
        )
        y, log_volume = self.shape.to_positions(
            rotatable, sectors, stiff, around.double(), lengths, x.double()
        )
        w = self._turn(w, x, lag, False)
        log_q = log_q - log_slope - log_volume + self._log_kept_scales(lengths)
        return y.to(x.dtype), w.to(x.dtype), log_q

    def log_density(
        self, y: Tensor, w: Tensor, around: Tensor, x: Tensor, lag: Tensor, kept: Tensor | None
    ) -> Tensor:
        """Return the log density [B] of (y, w) as `propose` makes them around others [B or 1, N, 3]
        from x [B or 1, N, 3]."""
        y = self._with_context(y, around)
        _, sectors, stiff, velocities, log_q = self._to_noise(y, w, around, x, lag, kept)
        log_q = log_q + self._log_normal(stiff, velocities, self._kept_lengths(x, kept, sectors))
        # A proposal keeps the chirality of x's labels.
        same = (self.shape.chirality.mirrored(y) == self.shape.chirality.mirrored(x)).all(1)
        log_q = torch.where(same, log_q, torch.full_like(log_q, -math.inf))
        return torch.where(torch.isfinite(log_q), log_q, torch.full_like(log_q, -math.inf))

    def _to_noise(
        self, y: Tensor, w: Tensor, around: Tensor, x: Tensor, lag: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the noise as torsions, sectors, stiff and velocities [B, 3M], and the
        log-determinant."""
        condition, origin = self._condition(around, lag, y.size(0))
        rotatable, sectors, stiff, log_volume = self.shape.to_shape(y)
        lengths = self._kept_lengths(x, kept, sectors)
        stiff, velocities, log_q = self._through_stiff(
            stiff, self._turn(w.double(), x, lag, True), rotatable, condition, lag, lengths, True
        )
        rotatable = _wrap(rotatable - origin)
        for layer in self.rotatable_couplings:
            rotatable, log_slope = layer(rotatable, condition, True)
            log_q = log_q + log_slope
        if self.has_context:
            velocities = velocities.index_select(1, self.moved_index)
        log_q = log_q - log_volume + self._log_kept_scales(lengths)
        return rotatable, sectors, stiff, velocities.flatten(1), log_q

    def _log_normal(self, stiff: Tensor, velocities: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the log density [B] of the noise, without the deviates of kept stretches."""
        deviates = stiff
        if lengths is not None:
            free = torch.where(lengths > 0, torch.zeros_like(lengths), stiff[:, self.num_rest :])
            deviates = torch.cat([stiff[:, : self.num_rest], free], dim=1)
        log_q = log_normal(deviates) + log_normal(velocities)
        if lengths is not None:
            log_q = log_q + 0.5 * math.log(2 * math.pi) * (lengths > 0).double().sum(1)
        return log_q - self.num_rotatable * math.log(2 * math.pi)

    def _kept_lengths(self, x: Tensor, kept: Tensor | None, sectors: Tensor) -> Tensor | None:
        """Return the lengths / nm of kept bonds, in the order of the stretches' coordinates [B, S],
        0 for free ones; None if all are free."""
        if kept is None:
            return None
        x = x.double()
        hydrogens = x.index_select(1, self.hydrogen_index)
        bonds = hydrogens - x.index_select(1, self.heavy_index)
        lengths = torch.linalg.vector_norm(bonds, dim=-1) * kept.to(x.dtype)
        of_atoms = torch.zeros_like(x[:, :, 0]).index_copy(1, self.hydrogen_index, lengths)
        return self.shape.slots(of_atoms, sectors, x)

    def _log_kept_scales(self, lengths: Tensor | None) -> Tensor:
        """Return by how much the volume of kept stretches' deviates counts too much in the volume
        element of the chart [B]."""
        if lengths is None:
            return torch.zeros((), dtype=torch.float64, device=self.moved_index.device)
        return (lengths > 0).double() @ self.shape.log_stretch_scales()

    def _with_context(self, y: Tensor, x: Tensor) -> Tensor:
        """Return positions [B, N, 3] with the context atoms of x."""
        if not self.has_context:
            return y
        context = x.index_select(1, self.context_index)
        return y.index_copy(1, self.context_index, context.expand(y.size(0), -1, 3))

    def _rows(self, velocities: Tensor) -> Tensor:
        """Return velocities [B, 3M] of the moved atoms as rows of all [B, N, 3]."""
        rows = velocities.reshape(-1, self.num_moved, 3)
        if not self.has_context:
            return rows
        nothing = torch.zeros(
            (rows.size(0), self.num_atoms, 3), dtype=rows.dtype, device=rows.device
        )
        return nothing.index_copy(1, self.moved_index, rows)

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
        lengths: Tensor | None,
        to_noise: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return stiff coordinates and velocities [B, N, 3] transformed, given the rotatable
        torsions, and the log-determinant."""
        known = self.shape.rotatable_features(rotatable)
        gate = torch.isfinite(lag).double().unsqueeze(1)
        moving = velocities.index_select(1, self.moving).flatten(1)
        log_det = torch.zeros(stiff.size(0), dtype=torch.float64, device=stiff.device)
        if to_noise:
            features = torch.cat([known, gate * moving], dim=1)
            stiff, log_det = self._through_stretches(stiff, features, condition, lengths, to_noise)
        rest, stretches = stiff[:, : self.num_rest], stiff[:, self.num_rest :]
        last = len(self.stiff_couplings) - 1
        for i in range(last + 1):
            turn = i if to_noise else last - i
            if not to_noise:
                moving, log_slope = self._through_velocities(
                    turn, moving, torch.cat([known, rest], dim=1), condition, gate, to_noise
                )
                log_det = log_det + log_slope
            features = torch.cat([known, gate * moving], dim=1)
            for j, layer in enumerate(self.stiff_couplings):
                if j == turn:
                    rest, log_slopes = layer(rest, features, condition, to_noise)
                    log_det = log_det + log_slopes.sum(1)
            if to_noise:
                moving, log_slope = self._through_velocities(
                    turn, moving, torch.cat([known, rest], dim=1), condition, gate, to_noise
                )
                log_det = log_det + log_slope
        stiff = torch.cat([rest, stretches], dim=1)
        if not to_noise:
            features = torch.cat([known, gate * moving], dim=1)
            stiff, log_slope = self._through_stretches(
                stiff, features, condition, lengths, to_noise
            )
            log_det = log_det + log_slope
        if self.auxiliary_velocities:
            moving = moving.view(moving.size(0), self.moving.size(0), 3)
            velocities = velocities.index_copy(1, self.moving, moving)
        return stiff, velocities, log_det

    def _through_stretches(
        self,
        stiff: Tensor,
        features: Tensor,
        condition: Condition,
        lengths: Tensor | None,
        to_noise: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return stiff coordinates with the stretches transformed, given all the rest as it is in
        the proposal, and the log-determinant of those that are free."""
        log_det = torch.zeros(stiff.size(0), dtype=torch.float64, device=stiff.device)
        for layer in self.stretch_couplings:
            stiff, log_slopes = layer(stiff, features, condition, to_noise)
            if lengths is not None:
                log_slopes = torch.where(lengths > 0, torch.zeros_like(log_slopes), log_slopes)
            log_det = log_det + log_slopes.sum(1)
        return stiff, log_det

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

        Of x both hold nothing but the context atoms where the lag is infinite.
        """
        origin = torch.zeros(batch, self.num_rotatable, dtype=torch.float64, device=x.device)
        finite = torch.isfinite(lag)
        if not self.looks_at_x or not may_hold(finite):
            condition = self.context.independent(lag)
            if self.has_context:
                around = self.surroundings(x).expand(batch, self.surroundings.size)
                features = torch.cat([condition.features, around], dim=1)
                condition = Condition(features, condition.atoms, condition.weights)
            return condition, origin
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
