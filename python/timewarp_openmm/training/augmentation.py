"""Symmetries of the data, applied at random to every batch."""

from __future__ import annotations

import torch

from ..molecule.equivalent_atoms import equivalent_leaves
from ..molecule.graph import Molecule


def random_rotations(count: int, generator: torch.Generator) -> torch.Tensor:
    """Return uniform random rotation matrices [count, 3, 3], from normalised quaternions."""
    q = torch.randn(count, 4, generator=generator)
    w, x, y, z = (q / q.norm(dim=1, keepdim=True)).unbind(1)
    rows = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)), 1),
        torch.stack((2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)), 1),
        torch.stack((2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)), 1),
    )
    return torch.stack(rows, 1)


def equivalent_hydrogens(molecule: Molecule) -> list[tuple[int, int, int]]:
    """Return the hydrogens of each methyl or ammonium group, whose labels real time exchanges.

    Examples
    --------
    >>> from timewarp_openmm.molecule.graph import Molecule
    >>> methyl = Molecule(("C", "H1", "H2", "H3", "F"), ("X",) * 5, (0,) * 5,
    ...                   ("C", "H", "H", "H", "F"), (12.0, 1.0, 1.0, 1.0, 19.0),
    ...                   ((0, 1), (0, 2), (0, 3), (0, 4)))
    >>> equivalent_hydrogens(methyl)
    [(1, 2, 3)]
    """
    graph = molecule.graph()
    return [
        (group[0], group[1], group[2])
        for group in equivalent_leaves(molecule)
        if len(group) == 3
        and molecule.elements[group[0]] == "H"
        and len(graph[next(iter(graph[group[0]]))]) == 4
    ]


class HydrogenPermutation:
    """Turns the labels of equivalent hydrogens at random.

    Only cyclic permutations, which a rotation of the group by 120 degrees also brings about: an
    odd permutation would change the chirality of the group.

    Parameters
    ----------
    molecule : Molecule
    """

    def __init__(self, molecule: Molecule) -> None:
        self.groups = equivalent_hydrogens(molecule)
        self._identity = torch.arange(molecule.num_atoms)

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return random atom orders [count, N], uniform over the symmetry group."""
        order = self._identity.repeat(count, 1)
        for group in self.groups:
            atoms = torch.tensor(group)
            turns = torch.randint(3, (count, 1), generator=generator)
            order[:, atoms] = atoms[(torch.arange(3) + turns) % 3]
        return order


def permute_atoms(positions: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return positions [B, N, 3] with atom i taken from ``order[:, i]`` [B, N]."""
    return positions.gather(1, order[:, :, None].expand(-1, -1, 3))
