"""Labels of atoms that are alike: a methyl group whose hydrogens are numbered the other way round.

Two hydrogens (or other atoms) on one centre are alike, so which of them bears which label is
arbitrary, and structures from different sources differ in it. Dynamics keeps the labels' hand, and
so must a proposal. A flow learns one hand; conformations with the other are relabelled before it
sees them, and its proposals from there are relabelled back.
"""

import torch
from torch import Tensor, nn

from ...molecule.graph import Molecule
from .conditioners import may_hold
from .coordinates import dot


class LabelHands(nn.Module):
    """The hand of the labels around each of G centres that have two atoms alike.

    Parameters
    ----------
    molecule : Molecule

    Attributes
    ----------
    num_centres : int
        G.
    """

    neighbours: Tensor
    pair: Tensor
    learned: Tensor

    def __init__(self, molecule: Molecule) -> None:
        super().__init__()
        neighbours, pairs = _centres(molecule)
        self.num_centres = len(pairs)
        self.register_buffer(
            "neighbours", torch.tensor(neighbours, dtype=torch.long).view(-1, 4), persistent=False
        )
        self.register_buffer(
            "pair", torch.tensor(pairs, dtype=torch.long).view(-1, 2), persistent=False
        )
        self.register_buffer("learned", torch.ones(self.num_centres, dtype=torch.bool))

    @torch.no_grad()
    def fit(self, positions: Tensor) -> None:
        """Take the hands of the first of the positions [F, N, 3] as those that the flow learns."""
        self.learned.copy_(self._hands(positions[:1])[0])

    def mirrored(self, positions: Tensor) -> Tensor:
        """Return which centres [B, G] of positions [B, N, 3] have the other hand."""
        return self._hands(positions) != self.learned

    def relabel(self, positions: Tensor, mirrored: Tensor) -> Tensor:
        """Exchange the two atoms alike of each mirrored centre; doing it twice undoes it.

        Parameters
        ----------
        positions : Tensor [B, N, 3]
        mirrored : Tensor [B or 1, G], bool
        """
        if self.num_centres == 0 or not may_hold(mirrored):
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
        return positions.gather(1, order.unsqueeze(2).expand(-1, -1, 3))

    def _hands(self, positions: Tensor) -> Tensor:
        corners = positions.index_select(1, self.neighbours.flatten())
        corners = corners.view(positions.size(0), self.num_centres, 4, 3)
        edges = corners[:, :, 1:] - corners[:, :, :1]
        normal = torch.linalg.cross(edges[:, :, 0], edges[:, :, 1], dim=-1)
        return torch.gt(dot(normal, edges[:, :, 2]), 0)


def _centres(molecule: Molecule) -> tuple[list[list[int]], list[list[int]]]:
    """Return the four neighbours of each centre with two leaves alike, and two such leaves."""
    graph = molecule.graph()
    neighbours, pairs = [], []
    for centre in sorted(graph.nodes):
        around = sorted(graph.neighbors(centre))
        if len(around) != 4:
            continue
        leaves = [atom for atom in around if graph.degree(atom) == 1]
        alike = [
            [a, b]
            for i, a in enumerate(leaves)
            for b in leaves[i + 1 :]
            if molecule.elements[a] == molecule.elements[b]
        ]
        if alike:
            neighbours.append(around)
            pairs.append(alike[0])
    return neighbours, pairs
