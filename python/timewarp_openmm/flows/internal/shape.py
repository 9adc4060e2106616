"""Shape coordinates: a conformation as rotatable torsions on the circle and whitened stiff numbers.

The chart covers every conformation of the right chirality. Torsions that may be anywhere (about
bonds that turn, in rings that flip, at atoms that invert) stay on the whole circle, which is
stretched where the peaks of a ring lie near each other; the chart of all others is cut opposite of
where they lie. What a stiff coordinate is on average depends on the rotatable torsions, most
of all in rings that flip, so the best linear guess from them is taken off before the rest is
whitened.

Equivalent atoms that turn together, such as the hydrogens of a methyl group, are relabelled
cyclically until their mean torsion lies in one sector of the circle, and the angle within the
sector, times the fold, is the rotatable torsion. What a flow says about the relabelled molecule
is then the same for all labellings: its density has the exact symmetry.

Lengths of X-H bonds come last among the stiff coordinates, each independent of the others given the
rest, so that those that a System constrains can be left out (`slots`).

With offsets delta_i (0 <= delta_i < 2 pi, ascending) of n such atoms from the first one's torsion
t, the mean torsion tau = t + sum_i delta_i / n grows by exactly 2 pi / n when the labels move on by
one. So the n sectors of tau hold one labelling each. The fold's factor n from tau to the rotatable
torsion and the probability 1/n of each sector cancel.
"""

import math
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ...molecule.equivalent_atoms import equivalent_leaves
from ...molecule.graph import Molecule
from ...molecule.zmatrix import CoordinateKind, ZMatrix, build_zmatrix
from .chirality import Chirality
from .coordinates import InternalCoordinates, wrap
from .mirror import MirrorImages

#: Least eigenvalue of the correlation matrix that whitening scales up fully.
_LEAST_EIGENVALUE = 1e-4
#: Added to the variances of the torsions' features, of order 1, so that a linear guess from a
#: torsion that hardly moves does not follow noise.
_RIDGE = 1e-2
#: How many times farther from each other the peaks of a ring's flap are put.
_PUCKER_STRETCH = 2.5


class Float64Buffers(nn.Module):
    """A module whose float64 buffers stay float64 when the flow's weights become float32.

    Rounded, the whitening and its inverse would no longer undo each other.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact = {
            name: buffer
            for name, buffer in self.named_buffers(recurse=False)
            if buffer.dtype == torch.float64
        }
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in exact.items():
            setattr(self, name, buffer.to(getattr(self, name).device))
        return self


class SymmetricTorsions(Float64Buffers):
    """Rotatable torsions of one fold n: the relabelling of their atoms, and its undoing.

    Parameters
    ----------
    members : list of G lists of n int
        Places of the atoms in the Z-matrix's order.
    rotatable : list of G int
        Their places among all rotatable torsions.
    root_bonds, root_angles : int
        As of `InternalCoordinates`.
    """

    members: Tensor
    rotatable: Tensor
    centre: Tensor

    def __init__(
        self, members: list[list[int]], rotatable: list[int], root_bonds: int, root_angles: int
    ) -> None:
        super().__init__()
        self.fold = len(members[0])
        self.root_bonds, self.root_angles = root_bonds, root_angles
        self.register_buffer("members", torch.tensor(members))
        self.register_buffer("rotatable", torch.tensor(rotatable), persistent=False)
        # Angle / rad in the middle of the sectors.
        self.register_buffer("centre", torch.zeros(len(members), dtype=torch.float64))

    def fit(self, torsions: Tensor, weights: Tensor) -> None:
        """Order the members by their offsets, and put the sectors around the likeliest angles."""
        members = self.members
        offsets = torsions[:, members].clone()
        offsets[:, :, 0] = 0.0
        mean = (weights[:, None, None] * torch.remainder(offsets, (2 * math.pi))).sum(0)
        self.members.copy_(members.gather(1, mean.argsort(dim=1)))
        angle = self.fold * self._mean_torsion(self._absolute(torsions))
        mean_sine = (weights[:, None] * torch.sin(angle)).sum(0)
        mean_cosine = (weights[:, None] * torch.cos(angle)).sum(0)
        self.centre.copy_(torch.atan2(mean_sine, mean_cosine))

    def _take(self, values: Tensor, shift: int) -> Tensor:
        taken = values.index_select(1, self.members.flatten() + shift)
        return taken.view(-1, self.members.size(0), self.fold)

    def _put(self, values: Tensor, shift: int, new: Tensor) -> Tensor:
        return values.index_copy(1, self.members.flatten() + shift, new.flatten(1))

    def _absolute(self, torsions: Tensor) -> Tensor:
        """Return the torsion of every member, ascending from the first one's."""
        given = self._take(torsions, 0)
        first = given[:, :, :1]
        return torch.cat([first, first + torch.remainder(given[:, :, 1:], (2 * math.pi))], dim=2)

    def _mean_torsion(self, absolute: Tensor) -> Tensor:
        return absolute.mean(2)

    def in_order(self, torsions: Tensor) -> Tensor:
        """Return in which rows [B] the members follow each other around the axis as they do in the
        data. Otherwise they would have to pass through each other."""
        offsets = torch.remainder(self._take(torsions, 0)[:, :, 1:], (2 * math.pi))
        rises = offsets[:, :, 1:] > offsets[:, :, :-1]
        return rises.flatten(1).all(1)

    def _relabel(self, values: Tensor, by: Tensor) -> Tensor:
        places = torch.arange(self.fold, device=values.device)
        return values.gather(2, torch.remainder(places + by.unsqueeze(2), self.fold))

    def to_sector(
        self, bonds: Tensor, angles: Tensor, torsions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the coordinates relabelled, the first torsion replaced by the rotatable
        torsion, and the sectors [B, G]."""
        absolute = self._absolute(torsions)
        turned = self.fold * self._mean_torsion(absolute) - self.centre
        turns = torch.floor((turned + math.pi) / (2 * math.pi))
        rotatable = turned - (2 * math.pi) * turns
        sector = torch.remainder(turns, self.fold).long()
        absolute = self._relabel(absolute, -sector)
        offsets = wrap(absolute[:, :, 1:] - absolute[:, :, :1])
        torsions = self._put(torsions, 0, torch.cat([rotatable.unsqueeze(2), offsets], dim=2))
        return (
            self.relabel_bonds(bonds, -sector),
            self._relabel_angles(angles, -sector),
            torsions,
            sector,
        )

    def relabel_bonds(self, bonds: Tensor, by: Tensor) -> Tensor:
        """Return numbers of the bonds [B, bonds] with those of the members moved on [B, G]."""
        taken = self._relabel(self._take(bonds, self.root_bonds), by)
        return self._put(bonds, self.root_bonds, taken)

    def _relabel_angles(self, angles: Tensor, by: Tensor) -> Tensor:
        taken = self._relabel(self._take(angles, self.root_angles), by)
        return self._put(angles, self.root_angles, taken)

    def from_sector(
        self, bonds: Tensor, angles: Tensor, torsions: Tensor, sector: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Undo `to_sector`."""
        given = self._take(torsions, 0)
        ascending = torch.remainder(given[:, :, 1:], (2 * math.pi))
        first = (given[:, :, 0] + self.centre - ascending.sum(2)) / self.fold
        absolute = first.unsqueeze(2) + torch.cat(
            [torch.zeros_like(given[:, :, :1]), ascending], dim=2
        )
        absolute = self._relabel(absolute, sector)
        offsets = wrap(absolute[:, :, 1:] - absolute[:, :, :1])
        torsions = self._put(torsions, 0, torch.cat([wrap(absolute[:, :, :1]), offsets], dim=2))
        return self.relabel_bonds(bonds, sector), self._relabel_angles(angles, sector), torsions


class Puckers(Float64Buffers):
    """Flaps of rings, which have several peaks: where these lie, the circle is stretched.

    An angle phi from the middle of the data becomes 2 atan(k tan(phi / 2)), which takes the circle
    to itself: the peaks of a ring, which are near each other, move apart, and a flow that has
    learned nothing puts more of its proposals between them than on the far side, where a flap lies
    on the triangle that it belongs to.

    Parameters
    ----------
    rotatable : list of P int
        Their places among all rotatable torsions.
    """

    rotatable: Tensor
    centre: Tensor

    def __init__(self, rotatable: list[int]) -> None:
        super().__init__()
        self.stretch = _PUCKER_STRETCH
        self.register_buffer(
            "rotatable", torch.tensor(rotatable, dtype=torch.long), persistent=False
        )
        self.register_buffer("centre", torch.zeros(len(rotatable), dtype=torch.float64))

    def fit(self, rotatable: Tensor) -> None:
        """Put the middle where it leaves most room on both sides of all frames' torsions [F, R]."""
        angles = rotatable[:, self.rotatable]
        mean = torch.atan2(torch.sin(angles).mean(0), torch.cos(angles).mean(0))
        away = wrap(angles - mean)
        self.centre.copy_(wrap(mean + 0.5 * (away.amin(0) + away.amax(0))))

    def to_circle(self, rotatable: Tensor) -> tuple[Tensor, Tensor]:
        """Return rotatable torsions [B, R] stretched, and the log-determinant [B]."""
        away, log_slope = _stretched(
            wrap(rotatable.index_select(1, self.rotatable) - self.centre), self.stretch
        )
        return rotatable.index_copy(1, self.rotatable, away), log_slope

    def from_circle(self, rotatable: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `to_circle`; the log-determinant is that of the way back."""
        away, log_slope = _stretched(rotatable.index_select(1, self.rotatable), 1 / self.stretch)
        return rotatable.index_copy(1, self.rotatable, wrap(away + self.centre)), log_slope


def _stretched(angle: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    sine, cosine = torch.sin(0.5 * angle), torch.cos(0.5 * angle)
    slope = factor / (cosine.square() + (factor * sine).square())
    return wrap(2 * torch.atan2(factor * sine, cosine)), torch.log(slope).sum(1)


class ShapeChart(Float64Buffers):
    """Positions to shape coordinates, and back into a given frame.

    Parameters
    ----------
    molecule : Molecule
    moved : sequence of int, optional
        The atoms that are placed; the others are context, which stays. By default all.
    absent : sequence of int
        Atoms that are made later. They are neither placed nor looked at, and stay.

    Attributes
    ----------
    num_rotatable, num_stiff : int
        R and M, with R + M = 3N - 6 (absent atoms not counted), or 3 for each atom of a part.
    references : list of int
        The atoms that others are placed from, and those that a centre's chirality is told by.
    stretches : list of (int, int)
        The X-H bonds (heavy atom, hydrogen) whose lengths are the last S of the stiff coordinates,
        in the order of their hydrogens.
    rotamer_places : list of int
        Places among the rotatable torsions of those that lead to another conformation when they
        turn; methyl groups and their like only change labels.
    """

    rotatable_index: Tensor
    stiff_index: Tensor
    image_index: Tensor
    raw_order: Tensor
    raw_places: Tensor
    moved_rows: Tensor
    fold: Tensor
    centre: Tensor
    mean: Tensor
    slope: Tensor
    whiten: Tensor
    unwhiten: Tensor
    log_scale: Tensor
    fitted: Tensor

    def __init__(
        self,
        molecule: Molecule,
        moved: Sequence[int] | None = None,
        absent: Sequence[int] = (),
    ) -> None:
        super().__init__()
        zmatrix = build_zmatrix(molecule, moved, absent)
        self.internal = InternalCoordinates(zmatrix)
        moving = set(range(molecule.num_atoms)).difference(zmatrix.context, absent)
        self.chirality = Chirality(molecule, moving, absent)
        placed_from = {atom for placed in zmatrix.placed for atom in placed.references}
        self.references = sorted(placed_from.union(self.chirality.atoms))
        kinds = zmatrix.torsion_kinds
        rotatable = [i for i, kind in enumerate(kinds) if kind.is_circular]
        stiff = [i for i, kind in enumerate(kinds) if not kind.is_circular]
        internal = self.internal
        self.num_rotatable = len(rotatable)
        self.num_stiff = internal.num_bonds + internal.num_angles + len(stiff)
        exchangeable = {atom for group in equivalent_leaves(molecule) for atom in group}
        self.mirror = MirrorImages(zmatrix, exchangeable)
        # Its place among the rotatable torsions, in no column if there is none.
        image = [rotatable.index(self.mirror.place)] if self.mirror.place >= 0 else []
        symmetric = _symmetric_torsions(zmatrix, rotatable, internal)
        self.symmetric = nn.ModuleList(symmetric)
        flips = [i for i in rotatable if kinds[i] is CoordinateKind.PUCKER]
        self.puckers = Puckers([rotatable.index(i) for i in flips])
        fold = torch.ones(len(rotatable), dtype=torch.float64)
        for group in symmetric:
            fold[group.rotatable] = group.fold
        self.rotamer_places = [i for i, n in enumerate(fold.tolist()) if n == 1]
        self.stretches, columns = _stretches(molecule, internal)
        self.num_stretches = len(columns)
        rest = [i for i in range(self.num_stiff) if i not in columns]
        raw_order = torch.tensor(rest + columns, dtype=torch.long)
        size = self.num_stiff
        for name, buffer in (
            ("centre", torch.zeros(len(stiff), dtype=torch.float64)),
            ("mean", torch.zeros(size, dtype=torch.float64)),
            ("slope", torch.zeros((3 * len(rotatable), size), dtype=torch.float64)),
            ("whiten", torch.eye(size, dtype=torch.float64)),
            ("unwhiten", torch.eye(size, dtype=torch.float64)),
            ("log_scale", torch.zeros((), dtype=torch.float64)),
            ("fitted", torch.tensor(False)),
        ):
            self.register_buffer(name, buffer)
        for name, indices in (
            ("rotatable_index", rotatable),
            ("stiff_index", stiff),
            ("image_index", image),
            ("raw_order", raw_order.tolist()),
            ("raw_places", raw_order.argsort().tolist()),
        ):
            self.register_buffer(name, torch.tensor(indices, dtype=torch.long), persistent=False)
        rows = torch.tensor([i in moving for i in range(molecule.num_atoms)])
        self.register_buffer("moved_rows", rows, persistent=False)
        self.register_buffer("fold", fold)

    @torch.no_grad()
    def fit(self, positions: Tensor, weights: Tensor, full: bool) -> None:
        """Measure where stiff coordinates lie, how they follow the torsions and how they vary.

        Parameters
        ----------
        positions : Tensor [F, N, 3], nm
        weights : Tensor [F], sum 1
        full : bool
            Remove linear correlations, too.

        Raises
        ------
        ValueError
            If a coordinate never changes.
        """
        weights = weights.double()
        self.internal.fit_octahedra(positions)
        for learns_one_image in (True, False):
            if learns_one_image and not self.mirror.suits(self.internal, positions, weights):
                continue
            self.mirror.used.fill_(learns_one_image)
            self.fold[self.image_index] = 2.0 if learns_one_image else 1.0
            self._fit(positions, weights, full)
            if learns_one_image and self._images_are_alike(positions, weights):
                return

    def _images_are_alike(self, positions: Tensor, weights: Tensor) -> bool:
        _, _, stiff, log_volume = self.to_shape(positions)
        image = self.mirror.is_image(positions)
        inside = bool(torch.isfinite(log_volume).all())
        return inside and self.mirror.are_alike(stiff, image, weights)

    def _fit(self, positions: Tensor, weights: Tensor, full: bool) -> None:
        positions = self.mirror.reflect(positions, self.mirror.is_image(positions))
        self.chirality.fit(positions, weights)
        positions = self.chirality.relabel(positions, self.chirality.mirrored(positions))
        bonds, angles, torsions = self.internal.to_internal(positions)
        for group in self.symmetric:
            group.fit(torsions, weights)  # type: ignore[operator]
        bonds, angles, torsions, _ = self._to_sectors(bonds, angles, torsions)
        stiff = torsions[:, self.stiff_index]
        # The chart of each is cut opposite of its mean, where it never comes.
        sine = (weights[:, None] * torch.sin(stiff)).sum(0)
        cosine = (weights[:, None] * torch.cos(stiff)).sum(0)
        self.centre.copy_(torch.atan2(sine, cosine))
        raw = torch.cat([bonds, angles, wrap(stiff - self.centre)], dim=1)[:, self.raw_order]
        self.puckers.fit(torsions[:, self.rotatable_index])
        rotatable, _ = self.puckers.to_circle(torsions[:, self.rotatable_index])
        self._fit_slope(self.rotatable_features(rotatable), raw, weights)
        rest = raw - self._guess(rotatable)
        self._fit_whitening(rest.T @ (weights[:, None] * rest), full)
        self.fitted.fill_(True)

    def _fit_slope(self, features: Tensor, raw: Tensor, weights: Tensor) -> None:
        """Find the best linear guess of the stiff coordinates from the torsions' features."""
        mean, known = (weights @ raw), (weights @ features)
        centred = features - known
        covariance = centred.T @ (weights[:, None] * centred)
        ridge = _RIDGE * torch.eye(len(covariance), dtype=torch.float64)
        crossed = centred.T @ (weights[:, None] * (raw - mean))
        self.slope.copy_(torch.linalg.solve(covariance + ridge, crossed))
        self.mean.copy_(mean - known @ self.slope)

    def _fit_whitening(self, covariance: Tensor, full: bool) -> None:
        scale = covariance.diagonal().sqrt()
        if bool((scale < 1e-9).any()):
            raise ValueError(
                "a bond, angle or torsion never changes in the data; simulate without constraints "
                "and give more than one frame"
            )
        unwhiten = torch.diag(scale)
        if full:
            unwhiten = self._correlated(covariance, scale)
        self.unwhiten.copy_(unwhiten)
        self.whiten.copy_(torch.linalg.inv(unwhiten))
        self.log_scale.copy_(torch.linalg.slogdet(unwhiten).logabsdet)

    def _correlated(self, covariance: Tensor, scale: Tensor) -> Tensor:
        """Return U of raw = z U, of the form [[A, B], [0, D]]: the rest is z_rest A, and a stretch
        is what follows linearly from the rest, z_rest B, and with D diagonal its own deviate."""
        count = self.num_stiff - self.num_stretches
        correlation = covariance / scale / scale[:, None]
        values, vectors = torch.linalg.eigh(correlation[:count, :count])
        root = vectors * values.clamp(min=_LEAST_EIGENVALUE).sqrt() @ vectors.T
        unwhiten = torch.zeros_like(covariance)
        unwhiten[:count, :count] = root * scale[:count]
        follows = torch.linalg.solve(root, correlation[:count, count:])
        unwhiten[:count, count:] = follows * scale[count:]
        left = (1 - follows.square().sum(0)).clamp(min=_LEAST_EIGENVALUE).sqrt()
        unwhiten[count:, count:] = torch.diag(left * scale[count:])
        return unwhiten

    def rotatable_features(self, rotatable: Tensor) -> Tensor:
        """Return what is known of the rotatable torsions [B, R], as [B, 3 R]."""
        # At the ends of a sector labels change, which symmetric torsions' own angles tell.
        symmetric = torch.where(self.fold > 1, rotatable / math.pi, torch.zeros_like(rotatable))
        return torch.cat([torch.cos(rotatable), torch.sin(rotatable), symmetric], dim=1)

    def _guess(self, rotatable: Tensor) -> Tensor:
        return self.mean + self.rotatable_features(rotatable) @ self.slope

    def _to_sectors(
        self, bonds: Tensor, angles: Tensor, torsions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sectors = torch.zeros(
            (bonds.size(0), self.num_rotatable), dtype=torch.long, device=bonds.device
        )
        for group in self.symmetric:
            bonds, angles, torsions, sector = group.to_sector(bonds, angles, torsions)  # type: ignore[operator]
            sectors = sectors.index_copy(1, group.rotatable, sector)  # type: ignore[arg-type]
        return bonds, angles, self.mirror.to_circle(torsions), sectors

    def to_shape(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the shape of conformations, whichever equivalent atoms bear which labels.

        Parameters
        ----------
        positions : Tensor [B, N, 3], nm

        Returns
        -------
        rotatable : Tensor [B, R], rad, in [-pi, pi)
        sectors : Tensor [B, R], int64
            Sector of each symmetric rotatable torsion; 0 for the others.
        stiff : Tensor [B, M]
            Whitened.
        log_volume : Tensor [B]
            Log of the shape's volume element per volume of (rotatable, stiff), in logs of nm; the
            density of positions is that of (rotatable, sectors, stiff) divided by it. inf outside
            of the chart, where the density is zero.
        """
        self._check_fitted()
        image = self.mirror.is_image(positions)
        positions = self.mirror.reflect(positions, image)
        positions = self.chirality.relabel(positions, self.chirality.mirrored(positions))
        bonds, angles, torsions = self.internal.to_internal(positions)
        bonds, angles, torsions, sectors = self._to_sectors(bonds, angles, torsions)
        sectors = sectors.index_copy(
            1, self.image_index, image.long().unsqueeze(1).expand(-1, len(self.image_index))
        )
        rotatable, log_stretch = self.puckers.to_circle(
            torsions.index_select(1, self.rotatable_index)
        )
        torsion = wrap(torsions.index_select(1, self.stiff_index) - self.centre)
        inside = self._inside(bonds, angles, torsion, torsions)
        inside = inside & ~self.chirality.inverted(positions).any(1)
        raw = torch.cat([bonds, angles, torsion], dim=1).index_select(1, self.raw_order)
        log_volume = self._log_volume(bonds, angles) - log_stretch
        log_volume = torch.where(inside, log_volume, torch.full_like(log_volume, math.inf))
        return rotatable, sectors, (raw - self._guess(rotatable)) @ self.whiten, log_volume

    def to_positions(
        self,
        rotatable: Tensor,
        sectors: Tensor,
        stiff: Tensor,
        frame: Tensor,
        kept: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return positions in the frame of others, whose labels' chirality they keep.

        Parameters
        ----------
        rotatable, sectors, stiff : Tensor [B, R], [B, R], [B, M]
        frame : Tensor [B or 1, N, 3], nm
            Context atoms stay where they are there.
        kept : Tensor [B, S], optional
            Lengths / nm that stretches have whatever `stiff` says, 0 for those that are free; as
            from `slots`.
        labels : Tensor [B or 1, N, 3], optional
            Positions whose labels' chirality is kept, if not those of the frame.

        Returns
        -------
        positions : Tensor [B, N, 3], nm, float64
            Outside of the chart NaN, but for atoms that stay.
        log_volume : Tensor [B]
            As `to_shape` has it; NaN outside of the chart.
        """
        self._check_fitted()
        raw = stiff @ self.unwhiten + self._guess(rotatable)
        if kept is not None:
            count = self.num_stiff - self.num_stretches
            raw = torch.cat([raw[:, :count], torch.where(kept > 0, kept, raw[:, count:])], dim=1)
        raw = raw.index_select(1, self.raw_places)
        num_bonds, num_angles = self.internal.num_bonds, self.internal.num_angles
        bonds = raw[:, :num_bonds]
        angles = raw[:, num_bonds : num_bonds + num_angles]
        torsion = raw[:, num_bonds + num_angles :]
        torsions = torch.empty(
            (raw.size(0), self.internal.num_torsions), dtype=raw.dtype, device=raw.device
        )
        relaxed, log_stretch = self.puckers.from_circle(rotatable)
        torsions = torsions.index_copy(1, self.rotatable_index, relaxed)
        torsions = torsions.index_copy(1, self.stiff_index, torsion + self.centre)
        torsions = self.mirror.from_circle(torsions)
        inside = self._inside(bonds, angles, torsion, torsions)
        log_volume = self._log_volume(bonds, angles) + log_stretch
        for group in self.symmetric:
            sector = sectors.index_select(1, group.rotatable)  # type: ignore[arg-type]
            bonds, angles, torsions = group.from_sector(bonds, angles, torsions, sector)  # type: ignore[operator]
        mirrored = self.chirality.mirrored(frame if labels is None else labels)
        frame = self.chirality.relabel(frame, mirrored)
        positions = self.internal.to_positions(bonds, angles, torsions, frame)
        # A ring that closes from the wrong side turns its labels, and centres, inside out.
        inside = inside & ~self.chirality.mirrored(positions).any(1)
        inside = inside & ~self.chirality.inverted(positions).any(1)
        # Reflected, every labelling becomes the other one.
        image = sectors.index_select(1, self.image_index).sum(1) > 0
        positions = self.chirality.relabel(positions, mirrored != image.unsqueeze(1))
        positions = self.mirror.reflect(positions, image)
        nowhere = torch.full_like(log_volume, math.nan)
        stays = inside.view(-1, 1, 1) | ~self.moved_rows.view(1, -1, 1)
        positions = torch.where(stays, positions, nowhere.view(-1, 1, 1))
        return positions, torch.where(inside, log_volume, nowhere)

    def slots(self, of_atoms: Tensor, sectors: Tensor, frame: Tensor) -> Tensor:
        """Return numbers of hydrogens in the order of the stretches' coordinates.

        Which of some equivalent hydrogens a coordinate belongs to depends on the labels.

        Parameters
        ----------
        of_atoms : Tensor [B or 1, N]
        sectors : Tensor [B, R]
            Of the conformations whose coordinates they are.
        frame : Tensor [B or 1, N, 3], nm
            In whose labels' chirality these are.

        Returns
        -------
        Tensor [B, S]
        """
        image = sectors.index_select(1, self.image_index).sum(1) > 0
        mirrored = self.chirality.mirrored(frame) != image.unsqueeze(1)
        numbers = of_atoms.expand(sectors.size(0), of_atoms.size(1)).unsqueeze(2)
        numbers = self.chirality.relabel(numbers, mirrored).squeeze(2)
        bonds = numbers.index_select(1, self.internal.order)[:, -self.internal.num_bonds :]
        for group in self.symmetric:
            sector = sectors.index_select(1, group.rotatable)  # type: ignore[arg-type]
            bonds = group.relabel_bonds(bonds, -sector)  # type: ignore[operator]
        count = self.num_stiff - self.num_stretches
        return bonds.index_select(1, self.raw_order[count:])

    def log_stretch_scales(self) -> Tensor:
        """Return the logs [S] of the factors from the stretches' deviates to lengths / nm."""
        count = self.num_stiff - self.num_stretches
        return torch.log(self.unwhiten.diagonal()[count:])

    def _log_volume(self, bonds: Tensor, angles: Tensor) -> Tensor:
        return self.log_scale + self.internal.log_volume(bonds, angles)

    def frame_axes(self, positions: Tensor) -> Tensor:
        """Return the axes [B, 3, 3] (rows) of the frame in which `to_positions` places atoms, given
        these positions; it is the same for what has been placed."""
        mirrored = self.chirality.mirrored(positions)
        return self.internal.axes(self.chirality.relabel(positions, mirrored))

    def _inside(self, bonds: Tensor, angles: Tensor, torsion: Tensor, torsions: Tensor) -> Tensor:
        lengths = (bonds > 0).all(1)
        bends = ((angles > 0) & (angles < math.pi)).all(1)
        inside = lengths & bends & (torsion.abs() <= math.pi).all(1)
        for group in self.symmetric:
            inside = inside & group.in_order(torsions)  # type: ignore[operator]
        return inside

    def _check_fitted(self) -> None:
        if not bool(self.fitted):
            raise RuntimeError("call fit_normalisation with training positions first")


def _stretches(
    molecule: Molecule, internal: InternalCoordinates
) -> tuple[list[tuple[int, int]], list[int]]:
    """Return the X-H bonds that are coordinates, as (heavy atom, hydrogen), and their columns among
    the bonds."""
    graph = molecule.graph()
    bonded = internal.order.tolist()[-internal.num_bonds :]
    found = sorted(
        (atom, column)
        for column, atom in enumerate(bonded)
        if molecule.elements[atom] == "H" and graph.degree(atom) == 1
    )
    stretches = [(next(iter(graph[atom])), atom) for atom, _ in found]
    return stretches, [column for _, column in found]


def _symmetric_torsions(
    zmatrix: ZMatrix, rotatable: Sequence[int], internal: InternalCoordinates
) -> list[SymmetricTorsions]:
    place = {p.atom: i for i, p in enumerate(zmatrix.placed)}
    groups = [[place[atom] for atom in group] for group in zmatrix.symmetric_torsions]
    modules = []
    for fold in (2, 3, 4):
        alike = [group for group in groups if len(group) == fold]
        if alike:
            columns = [rotatable.index(group[0]) for group in alike]
            modules.append(
                SymmetricTorsions(alike, columns, internal.root_bonds, internal.root_angles)
            )
    return modules
