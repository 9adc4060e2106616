"""Mirror images of a molecule that an inverting atom makes achiral.

Where an amine inverts, each conformation has a mirror image of the same energy, which dynamics
visits as often. A flow learns one of the two, that in which a certain torsion at the inverting atom
is positive, and draws which it is to be. As for equivalent atoms that turn together, the angle in
its half of the circle, doubled, is the coordinate that the flow sees, so that the factor 2 and the
probability 1/2 of each image cancel.

Nothing is lost where the energy does tell mirror images apart: the density is that of what is
proposed all the same.
"""

import math

import torch
from torch import Tensor, nn

from ...molecule.geometry import dot
from ...molecule.zmatrix import CoordinateKind, ZMatrix
from .conditioners import may_hold
from .coordinates import InternalCoordinates

#: rad from where the halves of the circle meet, and the weight of frames that may be so near.
_BORDER = 0.35
_LARGEST_BORDER_SHARE = 0.02
#: Mean square of the stiff coordinates of either image, which is 1 for both together.
_LARGEST_SPREAD = 2.0


class MirrorImages(nn.Module):
    """The torsion whose sign tells mirror images apart, if the molecule has one.

    Parameters
    ----------
    zmatrix : ZMatrix
    relabelled : set of int
        Atoms that may exchange labels; none of them may be one of the torsion's, or a root.

    Attributes
    ----------
    place : int
        Of the torsion, in the Z-matrix's order; -1 if there is none.
    used : bool Tensor
        Whether the flow learns one image only.
    """

    corners: Tensor
    roots: Tensor
    used: Tensor

    def __init__(self, zmatrix: ZMatrix, relabelled: set[int]) -> None:
        super().__init__()
        self.place = -1
        corners = (0, 0, 0, 0)
        # A part's surroundings have no mirror image.
        whole = () if zmatrix.context else zmatrix.placed
        for place, placed in enumerate(whole):
            if placed.kind is not CoordinateKind.INVERSION:
                continue
            centre, axis, third = placed.references
            # Offsets are measured from a sibling, or from the third root.
            other = third if placed.sibling is None else placed.sibling
            if not relabelled & {centre, placed.atom, axis, other, *zmatrix.roots}:
                self.place, corners = place, (centre, placed.atom, axis, other)
                break
        self.register_buffer("corners", torch.tensor(corners), persistent=False)
        self.register_buffer("roots", torch.tensor(zmatrix.roots), persistent=False)
        self.register_buffer("used", torch.tensor(False))

    def is_image(self, positions: Tensor) -> Tensor:
        """Return which of positions [B, N, 3] are the image that the flow does not see [B]."""
        centre, atom, axis, other = positions.index_select(1, self.corners).unbind(1)
        product = dot(torch.linalg.cross(axis - centre, other - centre, dim=-1), atom - centre)
        return self.used & torch.gt(product, 0)

    def reflect(self, positions: Tensor, which: Tensor) -> Tensor:
        """Reflect some of the positions [B, N, 3] in the plane of the roots, which stay in place.

        Parameters
        ----------
        which : Tensor [B], bool
        """
        if not may_hold(which):
            return positions
        a, b, c = positions.index_select(1, self.roots).unbind(1)
        normal = torch.linalg.cross(b - a, c - a, dim=-1)
        normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
        height = dot(positions - a.unsqueeze(1), normal.unsqueeze(1)).unsqueeze(2)
        reflected = positions - 2 * height * normal.unsqueeze(1)
        return torch.where(which.view(-1, 1, 1), reflected, positions)

    def to_circle(self, torsions: Tensor) -> Tensor:
        """Return torsions [B, T] with that of the image doubled, from (0, pi) to the circle."""
        if self.place < 0:
            return torsions
        angle = torsions[:, self.place]
        doubled = torch.where(self.used, 2 * angle - math.pi, angle)
        return torsions.index_copy(1, self._index(torsions), doubled.unsqueeze(1))

    def from_circle(self, torsions: Tensor) -> Tensor:
        """Undo `to_circle`."""
        if self.place < 0:
            return torsions
        angle = torsions[:, self.place]
        halved = torch.where(self.used, 0.5 * (angle + math.pi), angle)
        return torsions.index_copy(1, self._index(torsions), halved.unsqueeze(1))

    def _index(self, torsions: Tensor) -> Tensor:
        return torch.tensor([self.place], device=torsions.device)

    @torch.jit.unused
    def suits(self, internal: InternalCoordinates, positions: Tensor, weights: Tensor) -> bool:
        """Return whether frames [F, N, 3] of weights [F] keep away from where the images meet."""
        if self.place < 0:
            return False
        angle = internal.to_internal(positions)[2][:, self.place].abs()
        border = (angle < _BORDER) | (angle > math.pi - _BORDER)
        return float(weights[border].sum() / weights.sum()) < _LARGEST_BORDER_SHARE

    @torch.jit.unused
    def are_alike(self, stiff: Tensor, image: Tensor, weights: Tensor) -> bool:
        """Return whether frames and images of frames have stiff coordinates [F, M] in one place."""
        for part in (image, ~image):
            total = weights[part].sum()
            if float(total) <= 0:
                return False
            spread = (weights[part][:, None] * stiff[part].square()).sum(0) / total
            if float(spread.mean()) > _LARGEST_SPREAD:
                return False
        return True
