"""Growing an MDTraj HDF5 trajectory so that a killed run or a full disk leaves a readable file."""

from __future__ import annotations

import shutil
from errno import EIO
from hashlib import sha256
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
from mdtraj.formats import HDF5TrajectoryFile
from numpy.typing import NDArray

from ..files import replace_atomically
from ..stored import DamagedFileError
from .reading import UnreadableError, read_whole
from .residue_labels import write_labels


class TrajectoryWriter:
    """Collects frames and appends them to a file in one step at each `flush`.

    Appending works on a copy, which is read back and then replaces the file. HDF5 keeps no journal:
    a process killed within a write would leave a file that nothing can open. And on a full disk it
    gives no error, but a file in which frames are zeros.

    Parameters
    ----------
    path : Path
        Ends in ``.h5``.
    topology : mdtraj.Topology
    labels : str
        Of its residues; see `residue_labels`.
    """

    def __init__(self, path: Path, topology: mdtraj.Topology, labels: str) -> None:
        self.path = path
        self._topology, self._labels = topology, labels
        self._positions: list[NDArray[np.float32]] = []
        self._times: list[float] = []
        #: Of the frames in the file.
        self._digest = sha256()

    def append(self, positions: NDArray[np.floating], time: float) -> None:
        """Add a frame: positions [N, 3] in nm, time in ps."""
        self._positions.append(np.asarray(positions, dtype=np.float32))
        self._times.append(time)

    def digest(self) -> str:
        """Return the SHA-256 of the frames in the file: their positions and times."""
        return self._digest.hexdigest()

    def flush(self) -> None:
        """Bring the collected frames to disk.

        Raises
        ------
        OSError
            Naming the file, if what is on the disk is not what was to be written.
        """
        if not self._positions:
            return
        positions, times = np.stack(self._positions), np.array(self._times, dtype=np.float32)
        digest = self._digest.copy()
        update_digest(digest, positions, times)

        def write(temporary: Path) -> None:
            if self.path.exists():
                shutil.copyfile(self.path, temporary)
            self._write(temporary, positions, times, digest.hexdigest())

        replace_atomically(self.path, write)
        self._digest = digest
        self._positions.clear()
        self._times.clear()

    def resume(self, frames: int, digest: str) -> None:
        """Keep the first `frames` frames of the file, and none that were collected since.

        Parameters
        ----------
        digest : str
            Of these frames (see `digest`).

        Raises
        ------
        DamagedFileError
            If they are not what they were.
        """
        self._positions.clear()
        self._times.clear()
        remedy = "remove the folder of the run, or start again with --force"
        try:
            content = read_whole(self.path)
        except UnreadableError as error:
            raise DamagedFileError(self.path, str(error), remedy) from error
        positions = np.asarray(content.positions)[:frames]
        times = np.asarray(content.times, dtype=np.float32)[:frames]
        found = sha256()
        update_digest(found, positions, times)
        if found.hexdigest() != digest:
            raise DamagedFileError(
                self.path, f"its first {frames} frames are not those of the checkpoint", remedy
            )
        # Made anew, even if nothing is cut off: what is not a frame may be damaged, too.
        replace_atomically(self.path, lambda path: self._write(path, positions, times, digest))
        self._digest = found

    def _write(
        self,
        path: Path,
        positions: NDArray[np.float32],
        times: NDArray[np.float32],
        digest: str,
    ) -> None:
        """Append frames to an unfinished file, and compare all of it with `digest`."""
        new = not path.exists()
        try:
            with HDF5TrajectoryFile(str(path), "a") as file:
                if new:
                    file.topology = self._topology
                    write_labels(file, self._labels)
                file.write(positions, time=times)
            whole = _digest_of(path) == digest
        except OSError:
            raise
        except Exception:  # PyTables raises its own kinds where the disk is full, or none
            whole = False
        if not whole:
            raise OSError(EIO, "the file could not be written whole; is the disk full?", str(path))


def update_digest(digest: Any, positions: NDArray[np.float32], times: NDArray[np.float32]) -> None:
    """Add frames to a SHA-256, so that it does not matter in which portions they come."""
    for frame, time in zip(positions, times, strict=True):
        digest.update(np.ascontiguousarray(frame))
        digest.update(time.tobytes())


def _digest_of(path: Path) -> str:
    # In this process: the file is its own, and it has just been written.
    digest = sha256()
    with HDF5TrajectoryFile(str(path)) as file:
        positions, times = file.root.coordinates, file.root.time
        for first in range(0, len(positions), 1000):
            portion = slice(first, first + 1000)
            update_digest(digest, positions[portion], times[portion])
    return digest.hexdigest()
