"""What a Markov chain did frame by frame: moves, stays, the longest stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..molecule.superposition import pairwise_rmsd
from .series import BlockMeans, ThinnedSeries


class ChainWatch:
    """Follows successive frames of one chain.

    A rejected proposal leaves the positions bitwise as they were. Where frames are n iterations
    apart, `moved` counts frames in whose n iterations anything was accepted.

    Parameters
    ----------
    heavy : int array
        Atoms for the deviation between successive frames.
    most : int
        Deviations that are kept.
    """

    def __init__(self, heavy: NDArray[np.int64], most: int = 20_000) -> None:
        self._heavy = heavy
        self._last: NDArray[np.float32] | None = None
        self.frames = 0
        self.moved = 0
        self.over_time = BlockMeans()
        self.longest_stay = 0
        self.longest_at = 0
        self._stay = 0
        self.steps = ThinnedSeries(most)

    def append(self, positions: NDArray[np.float32]) -> None:
        """Look at more frames [n, N, 3] / nm."""
        if len(positions) == 0:
            return
        first = positions[:1] if self._last is None else self._last
        before = np.concatenate([first, positions[:-1]])
        if self._last is None:
            positions, before = positions[1:], before[1:]
            self.frames = 1
        self._last = positions[-1:].copy() if len(positions) else first.copy()
        moved = (positions != before).any(axis=(1, 2))
        self.over_time.append(moved.astype(float))
        self.moved += int(moved.sum())
        self._count_stays(moved)
        self.frames += len(positions)
        if len(positions):
            step = np.zeros(len(positions))
            step[moved] = pairwise_rmsd(
                positions[moved][:, self._heavy], before[moved][:, self._heavy]
            )
            self.steps.append(step)

    def _count_stays(self, moved: NDArray[np.bool_]) -> None:
        ends = np.flatnonzero(moved)
        edges = np.concatenate([[-1 - self._stay], ends])
        stays = np.diff(edges) - 1
        if len(stays) and stays.max() > self.longest_stay:
            self.longest_stay = int(stays.max())
            self.longest_at = self.frames + int(ends[stays.argmax()]) - self.longest_stay - 1
        self._stay = len(moved) - 1 - int(ends[-1]) if len(ends) else self._stay + len(moved)
        if self._stay > self.longest_stay:
            self.longest_stay = self._stay
            self.longest_at = self.frames + len(moved) - self._stay - 1

    @property
    def moved_share(self) -> float:
        """Share of frames that differ from the frame before; NaN for one frame."""
        return self.moved / (self.frames - 1) if self.frames > 1 else float("nan")
