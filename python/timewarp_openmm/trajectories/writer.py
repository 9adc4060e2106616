"""Growing an MDTraj HDF5 trajectory so that a killed run leaves a readable file."""

from __future__ import annotations

import shutil
from errno import EIO
from pathlib import Path

import mdtraj
import numpy as np
from mdtraj.formats import HDF5TrajectoryFile
from numpy.typing import NDArray
from tables.exceptions import HDF5ExtError, NoSuchNodeError

from ..files import replace_atomically


class TrajectoryWriter:
    """Collects frames and appends them to a file in one step at each `flush`.

    Appending works on a copy that then replaces the file: HDF5 keeps no journal, and a process
    killed within a write would leave a file that nothing can open.

    Parameters
    ----------
    path : Path
        Ends in ``.h5``.
    topology : mdtraj.Topology
    """

    def __init__(self, path: Path, topology: mdtraj.Topology) -> None:
        self.path = path
        self._topology = topology
        self._positions: list[NDArray[np.float32]] = []
        self._times: list[float] = []

    def append(self, positions: NDArray[np.floating], time: float) -> None:
        """Add a frame: positions [N, 3] in nm, time in ps."""
        self._positions.append(np.asarray(positions, dtype=np.float32))
        self._times.append(time)

    def flush(self) -> None:
        """Bring the collected frames to disk."""
        if self._positions:
            replace_atomically(self.path, self._write)
            self._positions.clear()
            self._times.clear()

    def truncate(self, frames: int) -> None:
        """Keep the first `frames` frames of the file, and none that were collected since.

        Raises
        ------
        ValueError
            If the file has fewer.
        """
        self._positions.clear()
        self._times.clear()
        present = count_frames(self.path)
        if present < frames:
            raise ValueError(
                f"{self.path} has {present} frames but its checkpoint says {frames}; the files "
                "are not of one run: start again with --force"
            )
        if present > frames:
            replace_atomically(self.path, lambda path: self._copy_truncated(path, frames))

    def _write(self, temporary: Path) -> None:
        if self.path.exists():
            shutil.copyfile(self.path, temporary)
        with HDF5TrajectoryFile(str(temporary), "a") as file:
            if not self.path.exists():
                file.topology = self._topology
            file.write(np.stack(self._positions), time=np.array(self._times))
        self._check_whole(temporary, count_frames(self.path) + len(self._positions))

    def _check_whole(self, temporary: Path, frames: int) -> None:
        """Refuse a file that the HDF5 library could not finish: it does not say so itself.

        Raises
        ------
        OSError
            If it cannot be read or has other than `frames` frames.
        """
        try:
            if count_frames(temporary) == frames:
                return
        except (HDF5ExtError, NoSuchNodeError):
            pass
        raise OSError(EIO, "the file could not be written whole; is the disk full?", str(self.path))

    def _copy_truncated(self, temporary: Path, frames: int) -> None:
        shutil.copyfile(self.path, temporary)
        with HDF5TrajectoryFile(str(temporary), "a") as file:
            file.root.coordinates.truncate(frames)
            file.root.time.truncate(frames)
        self._check_whole(temporary, frames)


def count_frames(path: Path) -> int:
    """Return how many frames a trajectory file has, 0 if there is none."""
    if not path.exists():
        return 0
    with HDF5TrajectoryFile(str(path)) as file:
        return len(file)
