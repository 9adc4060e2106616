"""Trajectory files are read by another process, so that a damaged file cannot take this one down.

The C libraries below MDTraj (HDF5, XTC, TRR, DCD) may crash, or never end, on a file in which bits
have flipped. Here that is an error like any other. What they print goes nowhere.
"""

from __future__ import annotations

import atexit
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

#: Seconds for a request; the largest pieces take less on the slowest of disks.
PATIENCE = 600.0


class UnreadableError(ValueError):
    """A file that cannot be read, and why."""


@dataclass(frozen=True)
class Content:
    """A whole trajectory, as it is in the file.

    Attributes
    ----------
    topology : mdtraj.Topology or None
    labels : str or None
        Of its residues; see `residue_labels`.
    positions : float32 array [F, N, 3], nm
    times : array [F] or None, ps
    cell_lengths : array [F, 3] or None, nm
    """

    topology: Any
    labels: str | None
    positions: Any
    times: Any
    cell_lengths: Any


def read_whole(path: Path) -> Content:
    """Read an MDTraj HDF5 trajectory.

    Raises
    ------
    UnreadableError
    """
    content: Content = _READER.ask("whole", str(path))
    return content


def read_topology(path: Path) -> Any:
    """Return the mdtraj.Topology that a file holds itself (HDF5, PDB), None in other formats.

    Raises
    ------
    UnreadableError
    """
    return _READER.ask("topology", str(path))


def count_atoms(path: Path) -> int | None:
    """Return the atoms of the first frame, None if the file cannot say it.

    Raises
    ------
    UnreadableError
    """
    count: int | None = _READER.ask("atoms", str(path))
    return count


def read_pieces(path: Path, topology: Any, size: int) -> Iterator[Any]:
    """Yield positions [up to `size`, N, 3] in nm, in order.

    Parameters
    ----------
    topology : mdtraj.Topology or None
        None for formats that carry their own.

    Raises
    ------
    UnreadableError
    """
    number = _READER.ask("open", str(path), topology, size)
    try:
        while (piece := _READER.ask("next", number)) is not None:
            yield piece
    finally:
        _READER.forget(number)


class _Reader:
    """The other process: started when first needed, and again when it has gone."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def ask(self, request: str, *arguments: Any) -> Any:
        """Have a request answered; see `_ANSWERS`."""
        with self._lock:
            process = self._running()
            try:
                _send(process.stdin, (request, arguments))
                assert process.stdout is not None
                if not select.select([process.stdout], [], [], PATIENCE)[0]:
                    raise UnreadableError(f"reading it takes longer than {PATIENCE:g} s")
                failed, answer = pickle.load(process.stdout)
            except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
                self.stop()
                raise UnreadableError(_describe_end(process)) from error
            except BaseException:
                # Its answer would be taken for that to the next request.
                self.stop()
                raise
        if failed:
            raise UnreadableError(answer)
        return answer

    def forget(self, number: int) -> None:
        """Close a file that is being read in pieces, unless it went with its process."""
        with self._lock:
            alive = self._process is not None and self._owner == os.getpid()
        if alive:
            self.ask("close", number)

    def _running(self) -> subprocess.Popen[bytes]:
        # A fork of this process must not share its pipes.
        if self._process is None or self._owner != os.getpid():
            # -P: modules of the current folder are none of its business.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            self._owner = os.getpid()
        return self._process

    def stop(self) -> None:
        """End the other process."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()


def _describe_end(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code is not None and code < 0 and code != -signal.SIGKILL:
        return f"the library that reads it crashed ({signal.Signals(-code).name})"
    return "the process that reads it was ended, perhaps for want of memory"


def _send(stream: IO[bytes] | None, content: Any) -> None:
    assert stream is not None
    pickle.dump(content, stream, protocol=5)
    stream.flush()


_READER = _Reader()
atexit.register(_READER.stop)


# What follows runs in the other process.


def _own_topology(path: str) -> Any:
    import mdtraj
    from mdtraj.formats import HDF5TrajectoryFile

    if path.endswith(".h5"):
        with HDF5TrajectoryFile(path) as file:
            return file.topology
    return mdtraj.load_topology(path) if path.endswith(".pdb") else None


def _whole(path: str) -> Content:
    import numpy as np
    from mdtraj.formats import HDF5TrajectoryFile

    from .residue_labels import read_labels

    with HDF5TrajectoryFile(path) as file:
        content, labels = file.read(), read_labels(file)
        positions = np.asarray(content.coordinates, dtype=np.float32)
        return Content(file.topology, labels, positions, content.time, content.cell_lengths)


def _atoms(path: str) -> int | None:
    import mdtraj

    with mdtraj.open(path) as file:
        content = file.read(1)
    positions = content[0] if isinstance(content, tuple) else content
    return int(positions.shape[1]) if positions.ndim == 3 else None


_open: dict[int, Iterator[Any]] = {}


def _begin(path: str, topology: Any, size: int) -> int:
    import mdtraj

    number = max(_open, default=0) + 1
    keywords = {} if topology is None else {"top": topology}
    _open[number] = mdtraj.iterload(path, chunk=size, **keywords)
    return number


def _next(number: int) -> Any:
    import numpy as np

    piece = next(_open[number], None)
    return None if piece is None else np.asarray(piece.xyz, dtype=np.float32)


def _close(number: int) -> None:
    _open.pop(number, None)


_ANSWERS: dict[str, Any] = {
    "topology": _own_topology,
    "whole": _whole,
    "atoms": _atoms,
    "open": _begin,
    "next": _next,
    "close": _close,
}


def _serve() -> None:
    """Answer requests on standard input until it is closed."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    # An interrupt is for the process that asked.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.RLIM_INFINITY))
    while True:
        try:
            request, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = (False, _ANSWERS[request](*arguments))
        except Exception as error:  # whatever the readers meet
            # HDF5 puts its whole way there in front of what has happened.
            answer = (True, (str(error).strip() or type(error).__name__).splitlines()[-1])
        _send(answers, answer)


if __name__ == "__main__":
    # Under the name by which the other side knows `Content`.
    from timewarp_openmm.trajectories import reading

    reading._serve()
