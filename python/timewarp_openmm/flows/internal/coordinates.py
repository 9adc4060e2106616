"""Positions to bond lengths, angles and torsions of a Z-matrix, and back.

The volume element of the shape coordinates, with b and c bonded to the root a, is

    J = r_ab^2 r_ac^2 sin(bac) prod_i r_i^2 sin(theta_i)

(each atom is in spherical coordinates about its references; offsets between siblings shear the
torsions and do not change the volume). Where a part is placed from context atoms, which stay, there
are no roots: the product over the atoms placed is the volume element of their Cartesian
coordinates.
"""

import math

import torch
from torch import Tensor, nn

from ...molecule.geometry import angle_between, bend_and_torsion, dot
from ...molecule.zmatrix import CoordinateKind, ZMatrix


def wrap(angle: Tensor) -> Tensor:
    """Return the angle / rad in [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


class InternalCoordinates(nn.Module):
    """The chart of one Z-matrix, in float64 whatever comes in.

    Coordinates of B conformations are three tensors: bonds [B, N-1] / nm (r_ab, r_ac, then the
    placed atoms), angles [B, N-2] / rad (bac, then the placed atoms) and torsions [B, N-3] / rad in
    [-pi, pi), offsets from the sibling where there is one. Of a part of M atoms all three are
    [B, M]. Absent atoms have none; N does not count them here.

    Attributes
    ----------
    root_bonds, root_angles : int
        How many bonds and angles come before those of the placed atoms: 2 and 1, or none.
    num_bonds, num_angles, num_torsions : int
    """

    order: Tensor
    rank: Tensor
    bond_reference: Tensor
    angle_reference: Tensor
    torsion_reference: Tensor
    base: Tensor
    absent: Tensor
    is_offset: Tensor

    def __init__(self, zmatrix: ZMatrix) -> None:
        super().__init__()
        given = zmatrix.context or zmatrix.roots
        self.num_given = len(given)
        self.root_bonds, self.root_angles = (0, 0) if zmatrix.context else (2, 1)
        self.num_torsions = len(zmatrix.placed)
        self.num_bonds = self.num_torsions + self.root_bonds
        self.num_angles = self.num_torsions + self.root_angles
        order = [*given, *(p.atom for p in zmatrix.placed)]
        rank = {atom: i for i, atom in enumerate(order)}
        references = [[rank[i] for i in p.references] for p in zmatrix.placed]
        base = [
            rank[p.atom if p.sibling is None else p.sibling] - len(given) for p in zmatrix.placed
        ]
        levels = [p.level for p in zmatrix.placed]
        self.level_ends = [
            sum(level <= last for level in levels) for last in range(1, zmatrix.num_levels + 1)
        ]
        self.num_atoms = zmatrix.num_atoms
        for name, indices in (
            ("bond_reference", [entry[0] for entry in references]),
            ("angle_reference", [entry[1] for entry in references]),
            ("torsion_reference", [entry[2] for entry in references]),
            ("base", base),
        ):
            self.register_buffer(name, torch.tensor(indices, dtype=torch.long), persistent=False)
        absent = torch.tensor(zmatrix.absent, dtype=torch.long)
        self.register_buffer("absent", absent, persistent=False)
        # Which atom is placed where depends on the data in octahedra, so these are kept with them.
        self.register_buffer("order", torch.tensor(order, dtype=torch.long))
        self.register_buffer("rank", self._find_ranks())
        # Kept, too, so that weights that were learned of rings placed in another way do not fit.
        puckers = [
            [p.atom, *p.references] for p in zmatrix.placed if p.kind is CoordinateKind.PUCKER
        ]
        if puckers:
            self.register_buffer("puckers", torch.tensor(puckers, dtype=torch.long))
        self._octahedra = zmatrix.octahedra
        is_offset = torch.tensor([p.sibling is not None for p in zmatrix.placed])
        self.register_buffer("is_offset", is_offset, persistent=False)

    @torch.no_grad()
    def fit_octahedra(self, positions: Tensor) -> None:
        """Place that atom of each octahedron as the opposite one which is it in positions
        [F, N, 3]."""
        for octahedron in self._octahedra:
            atoms = torch.tensor([*octahedron.around, octahedron.opposite])
            centre = positions[:, octahedron.centre, None]
            towards = positions[:, octahedron.sixth, None] - centre
            along = dot(positions[:, atoms] - centre, towards).mean(0)
            found = self.order == atoms[along.argmin()]
            opposite = torch.nonzero(torch.isin(self.order, atoms)).flatten()[-1]
            self.order[found], self.order[opposite] = (
                self.order[opposite].clone(),
                self.order[found].clone(),
            )
        self.rank.copy_(self._find_ranks())

    def _find_ranks(self) -> Tensor:
        """Return where each atom is among those in order and the absent ones behind them [N]."""
        return torch.cat([self.order, self.absent]).argsort()

    @torch.jit.export
    def to_internal(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return bonds, angles and torsions of positions [B, N, 3] / nm."""
        placed = positions.double().index_select(1, self.order)
        atom = placed[:, self.num_given :]
        p = placed.index_select(1, self.bond_reference)
        q = placed.index_select(1, self.angle_reference)
        r = placed.index_select(1, self.torsion_reference)
        bond, axis, third = atom - p, q - p, r - q
        bonds = torch.linalg.vector_norm(bond, dim=-1)
        angles, torsion = bend_and_torsion(bond, axis, third)
        if self.root_bonds > 0:
            towards_b = placed[:, 1] - placed[:, 0]
            towards_c = placed[:, 2] - placed[:, 0]
            bonds = torch.cat(
                [
                    torch.linalg.vector_norm(towards_b, dim=-1, keepdim=True),
                    torch.linalg.vector_norm(towards_c, dim=-1, keepdim=True),
                    bonds,
                ],
                dim=1,
            )
            angles = torch.cat([angle_between(towards_b, towards_c).unsqueeze(1), angles], dim=1)
        reference = torsion.index_select(1, self.base)
        torsions = wrap(torch.where(self.is_offset, torsion - reference, torsion))
        return bonds, angles, torsions

    @torch.jit.export
    def to_positions(
        self, bonds: Tensor, angles: Tensor, torsions: Tensor, frame: Tensor
    ) -> Tensor:
        """Place all atoms, the roots in the frame that the roots of `frame` span.

        Parameters
        ----------
        bonds, angles, torsions : Tensor [B, N-1], [B, N-2], [B, N-3]
        frame : Tensor [B or 1, N, 3], nm
            Context atoms are where they are there, and so are absent ones. Without context, atom a
            goes where it is there, b in the direction and c in the half plane that they have there,
            so that `frame` and the result span the very same frame.

        Returns
        -------
        Tensor [B, N, 3], nm, float64
        """
        bonds, angles, torsions = bonds.double(), angles.double(), torsions.double()
        reference = torsions.index_select(1, self.base)
        torsions = torch.where(self.is_offset, torsions + reference, torsions)
        if self.root_bonds > 0:
            placed = self._place_roots(bonds, angles, frame.double())
        else:
            placed = frame.double().index_select(1, self.order[: self.num_given])
            placed = placed.expand(bonds.size(0), self.num_given, 3)
        start = 0
        for end in self.level_ends:
            p = placed.index_select(1, self.bond_reference[start:end])
            q = placed.index_select(1, self.angle_reference[start:end])
            r = placed.index_select(1, self.torsion_reference[start:end])
            atoms = place(
                p,
                q,
                r,
                bonds[:, self.root_bonds + start : self.root_bonds + end],
                angles[:, self.root_angles + start : self.root_angles + end],
                torsions[:, start:end],
            )
            placed = torch.cat([placed, atoms], dim=1)
            start = end
        if len(self.absent) > 0:
            nowhere = frame.double().index_select(1, self.absent)
            placed = torch.cat([placed, nowhere.expand(placed.size(0), -1, 3)], dim=1)
        return placed.index_select(1, self.rank)

    @torch.jit.export
    def axes(self, frame: Tensor) -> Tensor:
        """Return the unit vectors, rows of [B, 3, 3], of the frame that the roots of positions
        [B, N, 3] span: along a-b, across it in the plane of the roots, and normal to that."""
        roots = frame.double().index_select(1, self.order[:3])
        along = _unit(roots[:, 1] - roots[:, 0])
        normal = _unit(torch.linalg.cross(along, roots[:, 2] - roots[:, 0], dim=-1))
        return torch.stack([along, torch.linalg.cross(normal, along, dim=-1), normal], dim=1)

    def _place_roots(self, bonds: Tensor, angles: Tensor, frame: Tensor) -> Tensor:
        a = frame.index_select(1, self.order[:1])[:, 0]
        along, across, _ = self.axes(frame).unbind(1)
        b = a + bonds[:, 0:1] * along
        c = a + bonds[:, 1:2] * (
            torch.cos(angles[:, 0:1]) * along + torch.sin(angles[:, 0:1]) * across
        )
        return torch.stack([a.expand_as(b), b, c], dim=1)

    @torch.jit.export
    def log_volume(self, bonds: Tensor, angles: Tensor) -> Tensor:
        """Return log J [B], in logs of nm; -inf or NaN outside the chart."""
        return 2 * torch.log(bonds).sum(1) + torch.log(torch.sin(angles)).sum(1)


def _unit(vector: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return vector / length


def place(p: Tensor, q: Tensor, r: Tensor, bond: Tensor, angle: Tensor, torsion: Tensor) -> Tensor:
    """Return the atoms [..., 3] at the given bond to p, angle at p towards q and torsion about p-q.

    This is the placement of Parsons et al., J. Comput. Chem. 26, 1063 (2005) (NeRF).
    """
    along = _unit(p - q)
    normal = _unit(torch.linalg.cross(q - r, along, dim=-1))
    across = torch.linalg.cross(normal, along, dim=-1)
    sine = torch.sin(angle)
    placed: Tensor = p + bond.unsqueeze(-1) * (
        -torch.cos(angle).unsqueeze(-1) * along
        + (sine * torch.cos(torsion)).unsqueeze(-1) * across
        + (sine * torch.sin(torsion)).unsqueeze(-1) * normal
    )
    return placed
