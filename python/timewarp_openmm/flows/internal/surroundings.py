"""What a flow that moves a part of a molecule sees of the atoms around it.

The moved atoms lie differently wherever the chain that they hang on is bent otherwise. So the
couplings are given bond lengths, angles and torsions among the context atoms near the moved ones:
numbers that rigid motion does not change. Bonds to hydrogen are left out, since a System may
constrain them, and equivalent atoms, whose labels mean nothing.

Where what moves hangs on several context atoms, how these lie to each other matters as much. Those
that no short way through the context joins are taken as bonded, so that their distance, and the
angles and torsions about that line, are among the features.
"""

from collections.abc import Collection
from itertools import combinations, pairwise

import networkx as nx
import torch
from torch import Tensor

from ...molecule.equivalent_atoms import equivalent_leaves
from ...molecule.geometry import angle_between, bend_and_torsion
from ...molecule.graph import Molecule
from .shape import Float64Buffers

#: Bonds from the atoms that the moved ones hang on, within which angles and bonds are looked at,
#: and the ends of bonds that turn.
_NEAR, _NEAR_TORSIONS = 2, 3
#: Bonds through the context that say how their ends lie to each other: a torsion's.
_JOINED = 3


class Surroundings(Float64Buffers):
    """Features of context atoms.

    Parameters
    ----------
    molecule : Molecule
    moved : set of int
    absent : collection of int
        Atoms that are made later.

    Attributes
    ----------
    atoms : list of int
        That they are about.
    size : int
        F: lengths and angles, standardised, and the cosine and sine of each torsion.
    """

    bonds: Tensor
    angles: Tensor
    torsions: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, molecule: Molecule, moved: set[int], absent: Collection[int] = ()) -> None:
        super().__init__()
        graph = molecule.graph()
        graph.remove_nodes_from(absent)
        starts = {n for atom in moved for n in graph[atom]} - moved
        alike = {atom for group in equivalent_leaves(molecule) for atom in group}
        context = nx.Graph(graph.subgraph([i for i in graph if i not in moved | alike]))
        starts -= alike
        context.add_edges_from(_ties(graph, moved, context, starts))
        depth = nx.multi_source_dijkstra_path_length(context, starts) if starts else {}
        bonds, angles, torsions = _coordinates(molecule, context, depth)
        self.atoms = sorted({atom for atoms in (*bonds, *angles, *torsions) for atom in atoms})
        self.size = len(bonds) + len(angles) + 2 * len(torsions)
        for name, indices, width in (
            ("bonds", bonds, 2),
            ("angles", angles, 3),
            ("torsions", torsions, 4),
        ):
            index = torch.tensor(indices, dtype=torch.long).view(-1, width)
            self.register_buffer(name, index, persistent=False)
        stiff = len(bonds) + len(angles)
        self.register_buffer("mean", torch.zeros(stiff, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(stiff, dtype=torch.float64))

    @torch.no_grad()
    def fit(self, positions: Tensor, weights: Tensor) -> None:
        """Measure means and variations in frames [F, N, 3] / nm of weights [F], sum 1."""
        stiff = self._stiff(positions.double())
        self.mean.copy_(weights.double() @ stiff)
        variance = weights.double() @ (stiff - self.mean).square()
        # What does not vary here may vary a little elsewhere, and must not be blown up there.
        self.scale.copy_(variance.sqrt().clamp(min=1e-3))

    def _stiff(self, x: Tensor) -> Tensor:
        first, second = x.index_select(1, self.bonds.t().flatten()).chunk(2, dim=1)
        lengths = torch.linalg.vector_norm(first - second, dim=-1)
        a, b, c = x.index_select(1, self.angles.t().flatten()).chunk(3, dim=1)
        return torch.cat([lengths, angle_between(a - b, c - b)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features [B, F], float64, of states [B, N, 3] / nm."""
        x = x.double()
        a, b, c, d = x.index_select(1, self.torsions.t().flatten()).chunk(4, dim=1)
        _, torsion = bend_and_torsion(a - b, c - b, d - c)
        stiff = (self._stiff(x) - self.mean) / self.scale
        return torch.cat([stiff, torch.cos(torsion), torch.sin(torsion)], dim=1)


def _ties(
    graph: nx.Graph, moved: set[int], context: nx.Graph, starts: set[int]
) -> list[tuple[int, int]]:
    """Return pairs of context atoms that join what one moved group hangs on."""
    joined, ties = context.copy(), []
    for group in nx.connected_components(graph.subgraph(moved)):
        around = sorted(starts & {n for atom in group for n in graph[atom]})
        for i, j in pairwise(around):
            near = nx.single_source_shortest_path_length(joined, i, _JOINED)
            if j not in near:
                joined.add_edge(i, j)
                ties.append((i, j))
    return ties


def _coordinates(
    molecule: Molecule, context: nx.Graph, depth: dict[int, int]
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Return the bonds, angles and torsions among context atoms of small depth."""

    def is_heavy(atom: int) -> bool:
        return molecule.elements[atom] != "H"

    def end(atom: int, without: int) -> int | None:
        around = [n for n in context[atom] if n != without and is_heavy(n)]
        return min(around, default=None)

    heavy_bonds = [
        (i, j) for i, j in sorted(map(sorted, context.edges)) if is_heavy(i) and is_heavy(j)
    ]
    bonds: list[tuple[int, ...]] = [
        bond for bond in heavy_bonds if min(depth.get(i, 99) for i in bond) <= _NEAR
    ]
    angles: list[tuple[int, ...]] = [
        (i, centre, j)
        for centre in sorted(context)
        if depth.get(centre, 99) <= _NEAR
        for i, j in combinations(sorted(context[centre]), 2)
    ]
    torsions: list[tuple[int, ...]] = []
    for b, c in heavy_bonds:
        a, d = end(b, c), end(c, b)
        near = max(depth.get(i, 99) for i in (b, c)) <= _NEAR_TORSIONS
        if near and a is not None and d is not None and a != d:
            torsions.append((a, b, c, d))
    return bonds, angles, torsions
