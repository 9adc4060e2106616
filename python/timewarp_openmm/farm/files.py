"""What a chain leaves on disk: its frames, and a checkpoint to go on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mdtraj
import numpy as np
from numpy.typing import NDArray
from pydantic import with_config

from ..molecule.torsions import TorsionAtoms, measure_torsions
from ..simulation.checkpoints import CheckpointHeader, read_checkpoint, write_checkpoint
from ..simulation.standing import Standing
from ..stored import RECORD, Count
from ..trajectories.reading import read_whole
from ..trajectories.writer import TrajectoryWriter
from .pieces import ChainPiece

REMEDY = "remove the folder of the chains, or start again with --force"


@with_config(RECORD)
class _Header(CheckpointHeader):
    """Where a chain stands; ``digest`` is that of the frames in its trajectory."""

    frames: Count
    digest: str
    proposed: Count
    accepted: Count
    non_finite: Count


@dataclass(frozen=True)
class Layout:
    """What trajectories are made of.

    Attributes
    ----------
    topology : mdtraj.Topology
    labels : str
        See `residue_labels`.
    frame_time : float
        ps between frames, in the file.
    torsions : sequence of TorsionAtoms
        That are followed.
    """

    topology: mdtraj.Topology
    labels: str
    frame_time: float
    torsions: Sequence[TorsionAtoms]


class ChainFiles:
    """The files of one chain: ``chain-NNN.h5`` and ``chain-NNN.chk``, and what is known of it.

    Attributes
    ----------
    path : Path
        Of the trajectory.
    standing : Standing
        Of the chain, with frames that are not on disk yet.
    proposed, accepted, non_finite : int
    angles : float array [F, T], rad
        The torsions in each frame so far.
    """

    def __init__(self, folder: Path, number: int, layout: Layout) -> None:
        self.path = folder / f"chain-{number:03d}.h5"
        self.standing = Standing()
        self.proposed = self.accepted = self.non_finite = 0
        self._checkpoint = self.path.with_suffix(".chk")
        self._layout = layout
        self._writer = TrajectoryWriter(self.path, layout.topology, layout.labels)
        self._angles = [np.empty((0, len(layout.torsions)))]
        self._on_disk = 0
        if self._checkpoint.exists():
            self._resume()
        else:
            self.path.unlink(missing_ok=True)

    @property
    def angles(self) -> NDArray[np.float64]:
        if len(self._angles) > 1:
            self._angles = [np.concatenate(self._angles)]
        return self._angles[0]

    def add(self, piece: ChainPiece) -> None:
        """Take the frames of the next piece; they are on disk after `flush`."""
        first = piece.standing.frames - len(piece.positions)
        if first != self.standing.frames:
            raise ValueError(f"a piece begins at frame {first}, not {self.standing.frames}")
        for number, frame in enumerate(piece.positions, first + 1):
            self._writer.append(frame, number * self._layout.frame_time)
        self._angles.append(measure_torsions(piece.positions, list(self._layout.torsions)))
        self.standing = piece.standing
        self.proposed, self.accepted = piece.proposed, piece.accepted
        self.non_finite = piece.non_finite

    def flush(self) -> None:
        """Bring frames and a checkpoint to disk. A kill between the two loses the frames."""
        if self.standing.frames == self._on_disk:
            return
        self._writer.flush()
        header = {
            "frames": self.standing.frames,
            "digest": self._writer.digest(),
            "proposed": self.proposed,
            "accepted": self.accepted,
            "non_finite": self.non_finite,
        }
        write_checkpoint(self._checkpoint, header, self.standing.checkpoint)
        self._on_disk = self.standing.frames

    def _resume(self) -> None:
        header, content = read_checkpoint(self._checkpoint, _Header, REMEDY)
        self._writer.resume(header["frames"], header["digest"])
        positions = np.asarray(read_whole(self.path).positions)
        self._angles = [measure_torsions(positions, list(self._layout.torsions))]
        self.standing = Standing(header["frames"], content)
        self.proposed, self.accepted = header["proposed"], header["accepted"]
        self.non_finite = header["non_finite"]
        self._on_disk = header["frames"]
