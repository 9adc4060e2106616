"""The files of one trajectory: its frames, and a checkpoint to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mdtraj
from pydantic import PositiveInt, with_config

from ..files import sha256_of
from ..stored import RECORD, Count
from ..trajectories.writer import TrajectoryWriter
from ..workers.base import Piece, Workers
from ..workers.jobs import Job
from .checkpoints import CheckpointHeader, Writes, read_checkpoint, write_checkpoint
from .record import TrajectoryRecord
from .standing import Standing
from .trajectory_pieces import Beginning, TrajectoryPiece, TrajectoryTask, run_on

_REMEDY = "remove the folder of the run, or start again with --force"


def trajectory_path(folder: Path, index: int) -> Path:
    """Return where trajectory `index` of a run lies."""
    return folder / f"trajectory-{index:03d}.h5"


@with_config(RECORD)
class _Header(CheckpointHeader):
    """Where a trajectory stands, and what it goes on from.

    ``digest`` is that of the frames (`TrajectoryWriter.digest`).
    """

    frames: PositiveInt
    dropped_starts: Count
    start: dict[str, float]
    digest: str


class TrajectoryJob(Job):
    """A trajectory that is run piece by piece into its files, from where they end.

    Parameters
    ----------
    folder : Path
    task : TrajectoryTask
    topology, labels : mdtraj.Topology, str
        Of the file (see `TrajectoryWriter`).
    writes : Writes
        When the files are written.
    checkpoint_seconds : float
        That a piece may take at most.
    max_seconds : float
        Of dynamics, after which the trajectory ends, with two frames at least.
    """

    def __init__(
        self,
        folder: Path,
        task: TrajectoryTask,
        topology: mdtraj.Topology,
        labels: str,
        writes: Writes,
        checkpoint_seconds: float,
        max_seconds: float,
    ) -> None:
        self.path = trajectory_path(folder, task.index)
        self.name = self.path.stem
        self.frames = 0
        self._task = task
        self._checkpoint = self.path.with_suffix(".chk")
        self._writer = TrajectoryWriter(self.path, topology, labels)
        self._writes, self._checkpoint_seconds = writes, checkpoint_seconds
        self._max_seconds = max_seconds
        self._standing, self._beginning = Standing(), Beginning({}, 0)
        self._seconds, self._on_disk = 0.0, 0
        if self._checkpoint.exists():
            self._resume()
        else:
            self.path.unlink(missing_ok=True)

    def is_done(self) -> bool:
        frames = self._standing.frames
        whole = frames >= self._task.protocol.frames
        return whole or (frames >= 2 and self._seconds >= self._max_seconds)

    def submit(self, workers: Workers) -> Piece[TrajectoryPiece]:
        left = self._max_seconds - self._seconds
        seconds = min(workers.piece_seconds, self._checkpoint_seconds, left)
        return workers.submit(
            run_on, self._task, self._standing, seconds, name=self.name, near=self.place
        )

    def take(self, result: TrajectoryPiece) -> None:
        first = result.standing.frames - len(result.positions)
        for number, frame in enumerate(result.positions, first):
            self._writer.append(frame, number * self._task.protocol.interval)
        self._standing = result.standing
        self._seconds += result.seconds
        self.frames = result.standing.frames
        if result.beginning is not None:
            self._beginning = result.beginning
        # At once after the first piece: a start may have taken long.
        if self._on_disk == 0 or self._writes.is_due() or self.is_done():
            self._writes.write(self.flush)

    def rank(self) -> float:
        # One after the other: what another worker takes over is made anew there.
        return -self._standing.frames

    def flush(self) -> None:
        """Bring frames and a checkpoint to disk. A kill between the two loses the frames."""
        if self._standing.frames == self._on_disk:
            return
        self._writer.flush()
        header: dict[str, Any] = {
            "frames": self._standing.frames,
            "dropped_starts": self._beginning.dropped,
            "start": self._beginning.torsions,
            "digest": self._writer.digest(),
        }
        write_checkpoint(self._checkpoint, header, self._standing.checkpoint)
        self._on_disk = self._standing.frames

    def record(self) -> TrajectoryRecord:
        """Return the trajectory's entry in ``run.json``."""
        return {
            "file": self.path.name,
            "sha256": sha256_of(self.path),
            "frames": self._standing.frames,
            "seed": self._task.seed,
            "start": self._beginning.torsions,
            "dropped_starts": self._beginning.dropped,
        }

    def _resume(self) -> None:
        header, content = read_checkpoint(self._checkpoint, _Header, _REMEDY)
        self._writer.resume(header["frames"], header["digest"])
        self._standing = Standing(header["frames"], content)
        self._beginning = Beginning(header["start"], header["dropped_starts"])
        self._on_disk = self.frames = header["frames"]
