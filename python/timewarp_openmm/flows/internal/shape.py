"""Shape coordinates: a conformation as rotors on the circle and whitened narrow numbers.

Atoms that are alike and turn together, such as the hydrogens of a methyl group, are relabelled
cyclically until their mean torsion lies in one sector of the circle, and the angle within the
sector, times the fold, is the rotor. What a flow says about the relabelled molecule is then the
same for all labellings: its density has the exact symmetry.

With offsets delta_i (0 <= delta_i < 2 pi, ascending) of n such atoms from the first one's torsion
t, the mean torsion tau = t + sum_i delta_i / n grows by exactly 2 pi / n when the labels move on by
one. So the n sectors of tau hold one labelling each. The fold's factor n from tau to the rotor and
the probability 1/n of each sector cancel.
"""

import math
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ...molecule.graph import Molecule
from ...molecule.zmatrix import CoordinateKind, ZMatrix, build_zmatrix
from .coordinates import InternalCoordinates, wrap
from .label_chirality import LabelHands

#: Least eigenvalue of the correlation matrix that whitening scales up fully.
_LEAST_EIGENVALUE = 1e-4


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


class SymmetricRotors(Float64Buffers):
    """Rotors of one fold n: the relabelling of their atoms, and its undoing.

    Parameters
    ----------
    members : list of G lists of n int
        Places of the atoms in the Z-matrix's order.
    rotors : list of G int
        Their places among all rotors.
    """

    members: Tensor
    rotors: Tensor
    centre: Tensor

    def __init__(self, members: list[list[int]], rotors: list[int]) -> None:
        super().__init__()
        self.fold = len(members[0])
        self.register_buffer("members", torch.tensor(members))
        self.register_buffer("rotors", torch.tensor(rotors), persistent=False)
        # Rotor angle / rad in the middle of the sectors.
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

    def _relabel(self, values: Tensor, by: Tensor) -> Tensor:
        places = torch.arange(self.fold, device=values.device)
        return values.gather(2, torch.remainder(places + by.unsqueeze(2), self.fold))

    def to_sector(
        self, bonds: Tensor, angles: Tensor, torsions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the coordinates relabelled, the first torsion replaced by the rotor angle, and
        the sectors [B, G]."""
        absolute = self._absolute(torsions)
        turned = self.fold * self._mean_torsion(absolute) - self.centre
        turns = torch.floor((turned + math.pi) / (2 * math.pi))
        rotor = turned - (2 * math.pi) * turns
        sector = torch.remainder(turns, self.fold).long()
        absolute = self._relabel(absolute, -sector)
        offsets = wrap(absolute[:, :, 1:] - absolute[:, :, :1])
        torsions = self._put(torsions, 0, torch.cat([rotor.unsqueeze(2), offsets], dim=2))
        bonds = self._put(bonds, 2, self._relabel(self._take(bonds, 2), -sector))
        angles = self._put(angles, 1, self._relabel(self._take(angles, 1), -sector))
        return bonds, angles, torsions, sector

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
        bonds = self._put(bonds, 2, self._relabel(self._take(bonds, 2), sector))
        angles = self._put(angles, 1, self._relabel(self._take(angles, 1), sector))
        return bonds, angles, torsions


class Puckers(Float64Buffers):
    """Ring torsions with several peaks: half the circle around them, stretched to all of it.

    The other half would put the ring on the wrong side of its own hydrogens.

    Parameters
    ----------
    rotors : list of P int
        Their places among all rotors.
    columns : list of P int
        Their places among all torsions.
    """

    rotors: Tensor
    columns: Tensor
    centre: Tensor

    def __init__(self, rotors: list[int], columns: list[int]) -> None:
        super().__init__()
        self.log_volume = -len(rotors) * math.log(2.0)
        self.register_buffer("rotors", torch.tensor(rotors, dtype=torch.long), persistent=False)
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.long), persistent=False)
        self.register_buffer("centre", torch.zeros(len(rotors), dtype=torch.float64))

    def fit(self, torsions: Tensor) -> None:
        """Put the middle of each window where it leaves most room on both sides of all frames."""
        sine, cosine = torch.sin(torsions), torch.cos(torsions)
        mean = torch.atan2(sine.mean(0), cosine.mean(0))[self.columns]
        away = wrap(torsions[:, self.columns] - mean)
        self.centre.copy_(wrap(mean + 0.5 * (away.amin(0) + away.amax(0))))

    def to_circle(self, rotors: Tensor) -> tuple[Tensor, Tensor]:
        """Return rotors [B, R] with the windows stretched, and which rows [B] are within them."""
        away = wrap(rotors.index_select(1, self.rotors) - self.centre)
        inside = (away.abs() < 0.5 * math.pi).all(1)
        return rotors.index_copy(1, self.rotors, wrap(2.0 * away)), inside

    def from_circle(self, rotors: Tensor) -> Tensor:
        """Undo `to_circle`."""
        away = 0.5 * rotors.index_select(1, self.rotors)
        return rotors.index_copy(1, self.rotors, wrap(away + self.centre))


class ShapeChart(Float64Buffers):
    """Positions to shape coordinates, and back into a given frame.

    Attributes
    ----------
    num_rotors, num_narrow : int
        R and M, with R + M = 3N - 6.
    """

    rotor_index: Tensor
    narrow_index: Tensor
    fold: Tensor
    centre: Tensor
    half_width: Tensor
    mean: Tensor
    whiten: Tensor
    unwhiten: Tensor
    log_scale: Tensor
    fitted: Tensor

    def __init__(self, molecule: Molecule) -> None:
        super().__init__()
        zmatrix = build_zmatrix(molecule)
        self.internal = InternalCoordinates(zmatrix)
        self.labels = LabelHands(molecule)
        kinds = zmatrix.torsion_kinds
        circular = (CoordinateKind.ROTOR, CoordinateKind.PUCKER)
        rotors = [i for i, kind in enumerate(kinds) if kind in circular]
        narrow = [i for i, kind in enumerate(kinds) if kind not in circular]
        self.num_rotors = len(rotors)
        self.num_narrow = 3 * zmatrix.num_atoms - 6 - len(rotors)
        symmetric = _symmetric_rotors(zmatrix, rotors)
        self.symmetric = nn.ModuleList(symmetric)
        flips = [i for i in rotors if kinds[i] is CoordinateKind.PUCKER]
        self.puckers = Puckers([rotors.index(i) for i in flips], flips)
        fold = torch.ones(len(rotors), dtype=torch.float64)
        for group in symmetric:
            fold[group.rotors] = group.fold
        self._handed = [(i, zmatrix.placed[i].handed, zmatrix.placed[i].offset) for i in narrow]
        self._centres = [molecule.describe_atom(p.references[0]) for p in zmatrix.placed]
        size = self.num_narrow
        for name, buffer in (
            ("centre", torch.zeros(len(narrow), dtype=torch.float64)),
            ("half_width", torch.full((len(narrow),), math.pi, dtype=torch.float64)),
            ("mean", torch.zeros(size, dtype=torch.float64)),
            ("whiten", torch.eye(size, dtype=torch.float64)),
            ("unwhiten", torch.eye(size, dtype=torch.float64)),
            ("log_scale", torch.zeros((), dtype=torch.float64)),
            ("fitted", torch.tensor(False)),
        ):
            self.register_buffer(name, buffer)
        for name, indices in (("rotor_index", rotors), ("narrow_index", narrow)):
            self.register_buffer(name, torch.tensor(indices, dtype=torch.long), persistent=False)
        self.register_buffer("fold", fold, persistent=False)

    @torch.no_grad()
    def fit(self, positions: Tensor, weights: Tensor, full: bool) -> None:
        """Measure where narrow coordinates lie and how they vary.

        Parameters
        ----------
        positions : Tensor [F, N, 3], nm
        weights : Tensor [F], sum 1
        full : bool
            Remove linear correlations, too.

        Raises
        ------
        ValueError
            If a chiral centre has both hands in the data.
        """
        weights = weights.double()
        self.labels.fit(positions)
        positions = self.labels.relabel(positions, self.labels.mirrored(positions))
        bonds, angles, torsions = self.internal.to_internal(positions)
        for group in self.symmetric:
            group.fit(torsions, weights)  # type: ignore[operator]
        bonds, angles, torsions, _ = self._to_sectors(bonds, angles, torsions)
        self.puckers.fit(torsions)
        self._fit_windows(torsions, weights)
        raw = torch.cat([bonds, angles, wrap(torsions[:, self.narrow_index] - self.centre)], dim=1)
        mean = (weights[:, None] * raw).sum(0)
        centred = raw - mean
        covariance = centred.T @ (weights[:, None] * centred)
        scale = covariance.diagonal().sqrt()
        if bool((scale < 1e-9).any()):
            raise ValueError(
                "a bond, angle or torsion never changes in the data; simulate without constraints "
                "and give more than one frame"
            )
        root = torch.eye(len(scale), dtype=torch.float64)
        if full:
            values, vectors = torch.linalg.eigh(covariance / scale / scale[:, None])
            root = vectors * values.clamp(min=_LEAST_EIGENVALUE).sqrt() @ vectors.T
        unwhiten = root * scale
        self.mean.copy_(mean)
        self.unwhiten.copy_(unwhiten)
        self.whiten.copy_(torch.linalg.inv(unwhiten))
        self.log_scale.copy_(torch.linalg.slogdet(unwhiten).logabsdet)
        self.fitted.fill_(True)

    def _fit_windows(self, torsions: Tensor, weights: Tensor) -> None:
        """Put each narrow torsion's chart around where it lies.

        An offset is never 0, so its chart is cut there; if the centre cannot turn inside out, it
        ends at pi as well, so that no flow can give the other hand. The chart of other torsions is
        cut opposite of their mean.
        """
        for place, (column, handed, offset) in enumerate(self._handed):
            torsion = torsions[:, column]
            if handed:
                positive = torsion > 0
                if bool(positive.any()) and not bool(positive.all()):
                    minority = torch.minimum(positive.sum(), (~positive).sum())
                    raise ValueError(
                        f"{self._centres[column]} has both hands: {int(minority)} of "
                        f"{len(torsion)} frames differ from the rest; drop the runs in which it "
                        "turned inside out"
                    )
                self.centre[place] = math.pi / 2 if bool(positive[0]) else -math.pi / 2
                self.half_width[place] = math.pi / 2
            elif offset:
                self.centre[place] = math.pi
            else:
                sine = (weights * torch.sin(torsion)).sum()
                cosine = (weights * torch.cos(torsion)).sum()
                self.centre[place] = torch.atan2(sine, cosine)

    def _to_sectors(
        self, bonds: Tensor, angles: Tensor, torsions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sectors = torch.zeros(
            (bonds.size(0), self.num_rotors), dtype=torch.long, device=bonds.device
        )
        for group in self.symmetric:
            bonds, angles, torsions, sector = group.to_sector(bonds, angles, torsions)  # type: ignore[operator]
            sectors = sectors.index_copy(1, group.rotors, sector)  # type: ignore[arg-type]
        return bonds, angles, torsions, sectors

    def to_shape(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the shape of conformations, whatever the hand of labels of atoms alike.

        Parameters
        ----------
        positions : Tensor [B, N, 3], nm

        Returns
        -------
        rotors : Tensor [B, R], rad, in [-pi, pi)
        sectors : Tensor [B, R], int64
            Sector of each symmetric rotor; 0 for the others.
        narrow : Tensor [B, M]
            Whitened.
        log_volume : Tensor [B]
            Log of the shape's volume element per volume of (rotors, narrow), in logs of nm; the
            density of positions is that of (rotors, sectors, narrow) divided by it. inf outside
            of the chart, where the density is zero.
        """
        self._check_fitted()
        positions = self.labels.relabel(positions, self.labels.mirrored(positions))
        bonds, angles, torsions = self.internal.to_internal(positions)
        bonds, angles, torsions, sectors = self._to_sectors(bonds, angles, torsions)
        rotors, flipped_inside = self.puckers.to_circle(torsions.index_select(1, self.rotor_index))
        torsion = wrap(torsions.index_select(1, self.narrow_index) - self.centre)
        inside = self._inside(bonds, angles, torsion) & flipped_inside
        raw = torch.cat([bonds, angles, torsion], dim=1)
        log_volume = self._log_volume(bonds, angles)
        log_volume = torch.where(inside, log_volume, torch.full_like(log_volume, math.inf))
        return rotors, sectors, (raw - self.mean) @ self.whiten, log_volume

    def to_positions(
        self, rotors: Tensor, sectors: Tensor, narrow: Tensor, frame: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return positions [B, N, 3] / nm in float64 and the log volume element [B] as `to_shape`
        has it. The positions are in the frame of `frame` [B or 1, N, 3] and keep the hand of its
        labels. Outside of the chart both are NaN."""
        self._check_fitted()
        raw = narrow @ self.unwhiten + self.mean
        num_bonds, num_angles = self.internal.num_atoms - 1, self.internal.num_atoms - 2
        bonds = raw[:, :num_bonds]
        angles = raw[:, num_bonds : num_bonds + num_angles]
        torsion = raw[:, num_bonds + num_angles :]
        inside = self._inside(bonds, angles, torsion)
        torsions = torch.empty((raw.size(0), num_bonds - 2), dtype=raw.dtype, device=raw.device)
        torsions = torsions.index_copy(1, self.rotor_index, self.puckers.from_circle(rotors))
        torsions = torsions.index_copy(1, self.narrow_index, torsion + self.centre)
        log_volume = self._log_volume(bonds, angles)
        for group in self.symmetric:
            sector = sectors.index_select(1, group.rotors)  # type: ignore[arg-type]
            bonds, angles, torsions = group.from_sector(bonds, angles, torsions, sector)  # type: ignore[operator]
        mirrored = self.labels.mirrored(frame)
        frame = self.labels.relabel(frame, mirrored)
        positions = self.internal.to_positions(bonds, angles, torsions, frame)
        # Where a ring closes from the wrong side its labels get another hand.
        inside = inside & ~self.labels.mirrored(positions).any(1)
        positions = self.labels.relabel(positions, mirrored)
        nowhere = torch.full_like(log_volume, math.nan)
        positions = torch.where(inside.view(-1, 1, 1), positions, nowhere.view(-1, 1, 1))
        return positions, torch.where(inside, log_volume, nowhere)

    def _log_volume(self, bonds: Tensor, angles: Tensor) -> Tensor:
        return self.log_scale + self.puckers.log_volume + self.internal.log_volume(bonds, angles)

    def frame_axes(self, positions: Tensor) -> Tensor:
        """Return the axes [B, 3, 3] (rows) of the frame in which `to_positions` places atoms, given
        these positions; it is the same for what has been placed."""
        labels = self.labels
        return self.internal.axes(labels.relabel(positions, labels.mirrored(positions)))

    def _inside(self, bonds: Tensor, angles: Tensor, torsion: Tensor) -> Tensor:
        lengths = (bonds > 0).all(1)
        bends = ((angles > 0) & (angles < math.pi)).all(1)
        return lengths & bends & (torsion.abs() <= self.half_width).all(1)

    def _check_fitted(self) -> None:
        if not bool(self.fitted):
            raise RuntimeError("call fit_normalisation with training positions first")


def _symmetric_rotors(zmatrix: ZMatrix, rotors: Sequence[int]) -> list[SymmetricRotors]:
    place = {p.atom: i for i, p in enumerate(zmatrix.placed)}
    groups = [[place[atom] for atom in group] for group in zmatrix.symmetric_rotors]
    modules = []
    for fold in (2, 3):
        alike = [group for group in groups if len(group) == fold]
        if alike:
            modules.append(SymmetricRotors(alike, [rotors.index(group[0]) for group in alike]))
    return modules
