"""Accumulators of bounded size: what is kept of a trajectory that is read in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


class ThinnedSeries:
    """Keeps every s-th row of a series, s doubling whenever more than `most` rows are held.

    Parameters
    ----------
    most : int
        Rows held at the end are at most so many, and at least half of it if so many came.

    Examples
    --------
    >>> series = ThinnedSeries(4)
    >>> for start in range(0, 10, 5):
    ...     series.append(np.arange(start, start + 5.0))
    >>> series.stride, series.values.tolist(), series.count
    (4, [0.0, 4.0, 8.0], 10)
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: list[NDArray[np.floating]] = []
        self._held = 0
        self.stride = 1
        self.count = 0

    def append(self, rows: NDArray[np.floating]) -> None:
        """Add rows [n, ...]."""
        first = -self.count % self.stride
        piece = np.array(rows[first :: self.stride])
        self.count += len(rows)
        self._pieces.append(piece)
        self._held += len(piece)
        while self._held > self._most:
            self._pieces = [np.concatenate(self._pieces)[::2].copy()]
            self._held = len(self._pieces[0])
            self.stride *= 2

    @property
    def values(self) -> NDArray[np.floating]:
        """The rows held, in order; row i is frame i * stride."""
        if len(self._pieces) > 1:
            self._pieces = [np.concatenate(self._pieces)]
        return self._pieces[0] if self._pieces else np.zeros(0)


class BlockHistograms:
    """Histograms of K coordinates over consecutive blocks of frames.

    Neighbouring blocks are merged when there are too many, so that the size is bounded.

    Parameters
    ----------
    low, high : array [K]
        Range of each coordinate; what falls outside is counted in two more bins at the ends.
    bins : int
        Within the range.
    most : int
        Blocks, even.
    first : int
        Frames in a block before any merging.
    """

    def __init__(
        self,
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        bins: int = 60,
        most: int = 64,
        first: int = 50,
    ) -> None:
        self.low, self.high, self.bins = low, high, bins
        self._most, self._size = most, first
        self._counts: NDArray[np.int64] = np.zeros((0, len(low), bins + 2), dtype=np.int64)
        self._filled = first  # of the last block: full, so that the first frame opens one

    def append(self, values: NDArray[np.floating]) -> None:
        """Add frames [n, K]."""
        width = (self.high - self.low) / self.bins
        index = np.floor((values - self.low) / width).astype(np.int64) + 1
        index = np.clip(index, 0, self.bins + 1)
        done = 0
        while done < len(index):
            if self._filled == self._size:
                self._open_block()
            take = min(self._size - self._filled, len(index) - done)
            self._counts[-1] += self._count(index[done : done + take])
            self._filled += take
            done += take

    def _open_block(self) -> None:
        if len(self._counts) == self._most:
            self._counts = self._counts[::2] + self._counts[1::2]
            self._size *= 2
        empty = np.zeros((1, *self._counts.shape[1:]), dtype=np.int64)
        self._counts = np.concatenate([self._counts, empty])
        self._filled = 0

    def _count(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        shape = self._counts.shape[1:]
        flat = index + np.arange(shape[0]) * shape[1]
        counts = np.bincount(flat.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
        return counts.astype(np.int64)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Counts [B, K, bins + 2]; the last block may hold fewer frames."""
        return self._counts


class BlockMeans:
    """Means of a quantity over consecutive blocks of equal size; blocks merge when too many.

    Examples
    --------
    >>> means = BlockMeans(most=2)
    >>> means.append(np.array([1.0, 0.0, 1.0, 1.0]))
    >>> means.size, means.values.tolist()
    (2, [0.5, 1.0])
    """

    def __init__(self, most: int = 200) -> None:
        self._most = most
        self.size = 1
        self._sums: list[float] = []
        self._numbers: list[int] = []

    def append(self, values: NDArray[np.floating]) -> None:
        """Add values [n]."""
        for value in _block_sums(values, self.size, self._numbers):
            self._add(*value)
            while len(self._sums) > self._most:
                self._sums = _merge(self._sums)
                self._numbers = [int(n) for n in _merge(self._numbers)]
                self.size *= 2

    def _add(self, total: float, number: int) -> None:
        if self._numbers and self._numbers[-1] + number <= self.size:
            self._sums[-1] += total
            self._numbers[-1] += number
        else:
            self._sums.append(total)
            self._numbers.append(number)

    @property
    def values(self) -> NDArray[np.float64]:
        """The means, in order; the last block may hold fewer values."""
        return np.array(self._sums) / np.maximum(self._numbers, 1)


def _block_sums(
    values: NDArray[np.floating], size: int, numbers: list[int]
) -> list[tuple[float, int]]:
    """Cut values so that no piece crosses the border of a block of `size`."""
    room = (size - numbers[-1]) % size if numbers else 0
    cuts = [0, *range(room or size, len(values), size), len(values)]
    pieces = [values[a:b] for a, b in pairwise(cuts)]
    return [(float(p.sum()), len(p)) for p in pieces if len(p)]


def _merge(entries: Sequence[float]) -> list[float]:
    return [sum(entries[i : i + 2]) for i in range(0, len(entries), 2)]
