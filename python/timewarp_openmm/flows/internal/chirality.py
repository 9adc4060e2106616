"""Chirality: kept by every proposal, and learned once for all labellings of equivalent atoms.

Which of two equivalent atoms on one centre (the hydrogens of a CH2 group) bears which label is
arbitrary, and structures from different sources differ in it. Dynamics keeps it, and so must a
proposal. A flow learns one labelling; conformations with the other are relabelled before it sees
them, and its proposals from there are relabelled back.

A centre without two equivalent atoms has one chirality in all the data, and conformations with the
other lie outside of the chart.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from ...molecule.equivalent_atoms import equivalent_pairs
from ...molecule.geometry import dot
from ...molecule.graph import Molecule
from ...molecule.stereochemistry import chirality_centres
from .conditioners import may_hold


class Chirality(nn.Module):
    """The signs of the triple products at the centres of a molecule.

    Parameters
    ----------
    molecule : Molecule
    moved : set of int
        Atoms that proposals move. Centres of which no corner moves do not count, and only moved
        atoms are relabelled.
    absent : collection of int
        Atoms that are made later: centres with such a corner do not count.

    Attributes
    ----------
    num_relabelled : int
        G, the centres that have two equivalent atoms.
    num_fixed : int
        K, the other centres.
    fixed_centres : list of int
        The atoms at these.
    atoms : list of int
        All centres, and the atoms that tell their chirality.
    """

    corners: Tensor
    pair: Tensor
    fixed_corners: Tensor
    learned: Tensor
    fixed: Tensor

    def __init__(self, molecule: Molecule, moved: set[int], absent: Collection[int] = ()) -> None:
        super().__init__()
        pairs = equivalent_pairs(molecule, moved)
        centres = [
            centre
            for centre in chirality_centres(molecule)
            if moved.intersection(centre.corners) and set(absent).isdisjoint(centre.corners)
        ]
        relabelled = [centre for centre in centres if centre.atom in pairs]
        kept = [centre for centre in centres if centre.atom not in pairs]
        self.num_relabelled = len(relabelled)
        self.num_fixed = len(kept)
        self.fixed_centres = [centre.atom for centre in kept]
        self.atoms = sorted({atom for c in centres for atom in (c.atom, *c.corners)})
        for name, indices in (
            ("corners", [centre.corners for centre in relabelled]),
            ("fixed_corners", [centre.corners for centre in kept]),
            ("pair", [pairs[centre.atom] for centre in relabelled]),
        ):
            width = 2 if name == "pair" else 4
            index = torch.tensor(indices, dtype=torch.long).view(-1, width)
            self.register_buffer(name, index, persistent=False)
        self.register_buffer("learned", torch.ones(len(relabelled), dtype=torch.bool))
        self.register_buffer("fixed", torch.ones(len(kept), dtype=torch.bool))

    @torch.no_grad()
    def fit(self, positions: Tensor, weights: Tensor) -> None:
        """Take the labelling of the first of the positions [F, N, 3] and the chirality that most of
        them have, by their weights [F], as those that the flow learns."""
        self.learned.copy_(_positive(positions[:1], self.corners)[0])
        share = (weights[:, None] * _positive(positions, self.fixed_corners)).sum(0)
        self.fixed.copy_(share > 0.5 * weights.sum())

    def mirrored(self, positions: Tensor) -> Tensor:
        """Return which centres [B, G] of positions [B, N, 3] have the other labelling."""
        return _positive(positions, self.corners) != self.learned

    def inverted(self, positions: Tensor) -> Tensor:
        """Return which fixed centres [B, K] of positions [B, N, 3] have turned inside out."""
        return _positive(positions, self.fixed_corners) != self.fixed

    def relabel(self, positions: Tensor, mirrored: Tensor) -> Tensor:
        """Exchange the two equivalent atoms of each mirrored centre; doing it twice undoes it.

        Parameters
        ----------
        positions : Tensor [B, N, C]
            Or other numbers of each atom.
        mirrored : Tensor [B or 1, G], bool
        """
        if self.num_relabelled == 0 or not may_hold(mirrored):
            return positions
        order = torch.arange(positions.size(1), device=positions.device)
        order = order.expand(positions.size(0), positions.size(1))
        first, second = self.pair[:, 0], self.pair[:, 1]
        order = order.index_copy(
            1, first, torch.where(mirrored, second, first).expand(len(order), -1)
        )
        order = order.index_copy(
            1, second, torch.where(mirrored, first, second).expand(len(order), -1)
        )
        return positions.gather(1, order.unsqueeze(2).expand(-1, -1, positions.size(2)))


def _positive(positions: Tensor, corners: Tensor) -> Tensor:
    """Return whether the triple products [B, C] at corners [C, 4] are positive."""
    found = positions.index_select(1, corners.flatten())
    found = found.view(positions.size(0), corners.size(0), 4, 3)
    edges = found[:, :, 1:] - found[:, :, :1]
    normal = torch.linalg.cross(edges[:, :, 0], edges[:, :, 1], dim=-1)
    return torch.gt(dot(normal, edges[:, :, 2]), 0)
