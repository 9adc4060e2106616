"""Batches for training: pairs, put through the molecule's symmetries, with auxiliary velocities."""

from __future__ import annotations

import torch

from ..losses.batch import Batch
from ..molecule.graph import Molecule
from ..molecule.superposition import superpose
from ..trajectories.pairs import PairSampler
from .augmentation import HydrogenPermutation, permute_atoms, random_rotations
from .config import AugmentationConfig
from .rigid_motion import small_rigid_motion


class BatchSource:
    """Draws batches.

    Parameters
    ----------
    pairs : PairSampler
    molecule : Molecule
    augmentation : AugmentationConfig
    rigid_motion : bool
        Whether the flow feels rigid motion; others get the pairs as they lie.
    part : tuple of int, optional
        The atoms that the flow moves, if it sees others as context.
    """

    def __init__(
        self,
        pairs: PairSampler,
        molecule: Molecule,
        augmentation: AugmentationConfig,
        rigid_motion: bool,
        part: tuple[int, ...] | None = None,
    ) -> None:
        self._pairs = pairs
        self._augmentation = augmentation
        self._rigid_motion = rigid_motion
        self._permutation = HydrogenPermutation(molecule)
        moved = set(range(molecule.num_atoms) if part is None else part)
        self._context = [i for i in range(molecule.num_atoms) if i not in moved]

    def frames(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all frames [F, N, 3] / nm and their weights [F] as of an infinite lag."""
        return self._pairs.frames, self._pairs.frame_weights

    def leave_out(self, frames: torch.Tensor) -> None:
        """Draw no pair of which one state is among these frames [F], bool."""
        self._pairs.leave_out(frames)

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return a batch of `count` pairs; all randomness comes from `generator`."""
        x, y, lag = self._pairs.draw(count, generator)
        if self._augmentation.permute_hydrogens and self._permutation.groups:
            # The same for both states: within a lag a hydrogen need not have changed places.
            order = self._permutation.draw(count, generator)
            x, y = permute_atoms(x, order), permute_atoms(y, order)
        centre = x.mean(1, keepdim=True)
        x, y = x - centre, y - centre
        if self._rigid_motion:
            x, y = self._move(x, y, generator)
        w = torch.randn(y.shape, generator=generator)
        w[:, self._context] = 0.0
        return Batch(x, y, w, lag)

    def _move(
        self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._augmentation.rigid_motion == "remove":
            # Which of many equally probable orientations of y the flow is asked to learn.
            laid = torch.from_numpy(superpose(y.numpy(), x.numpy())).to(y.dtype)
            y = small_rigid_motion(laid, self._augmentation.rigid_noise, generator)
        if self._augmentation.rotate:
            rotation = random_rotations(len(x), generator)
            x, y = x @ rotation, y @ rotation
        return x, y
