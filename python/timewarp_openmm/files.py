"""Writing files so that a killed process leaves either the old content or the new, never half."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EINVAL, ENOLCK, ENOSYS, ENOTSUP, EOPNOTSUPP
from pathlib import Path
from typing import BinaryIO

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

#: How long to wait for another process that holds a lock.
LOCK_SECONDS = 10.0
#: What flock says on disks that have none.
_NO_FLOCK = (ENOSYS, ENOTSUP, EOPNOTSUPP, ENOLCK, EINVAL)


def replace_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step.

    The temporary name keeps the suffix of `path`, which some formats insist on.

    Raises
    ------
    OSError
        Naming `path`, if it cannot be written, for instance because the disk is full.
    """
    temporary = _temporary(path)
    try:
        with naming(path, instead_of=temporary):
            # A killed process may have left its own.
            temporary.unlink(missing_ok=True)
            write(temporary)
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.stem}.partial{path.suffix}") if path.name else path


@contextmanager
def naming(path: Path, instead_of: Path | None = None) -> Iterator[None]:
    """Let an OSError say which file it is about: that of a write to a full disk does not.

    Parameters
    ----------
    path : Path
    instead_of : Path, optional
        An unfinished file, of which nobody outside needs to know.

    Raises
    ------
    OSError
        The one that occurs within, with `path` as its file name if it has none.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(instead_of)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step."""
    replace_atomically(path, lambda temporary: _write_bytes(temporary, content))


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def check_utf8(path: str | os.PathLike[str]) -> None:
    """Refuse a file name that is no text: OpenMM, HDF5 and XML cannot hold it.

    Raises
    ------
    ValueError
        Naming the file by its bytes.
    """
    name = os.fsencode(path)
    try:
        name.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the file name {name!r} is not UTF-8, which OpenMM and HDF5 need; rename the file or "
            "its folder, or make a link to it"
        ) from error


def refuse_existing(path: Path, force: bool) -> None:
    """Refuse to overwrite `path` unless `force`.

    Raises
    ------
    FileExistsError
        If it exists and `force` is false.
    """
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists; name another output or pass --force to replace it")


def check_output_path(path: Path) -> None:
    """Refuse a path that nothing can be written to, before time is spent on what is written.

    Raises
    ------
    OSError
        As the operating system says it: a loop of links, a name that is too long, a file where a
        folder is needed.
    """
    for place in (path, _temporary(path)):
        with suppress(FileNotFoundError):
            place.stat()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def open_exclusively(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is written in place, and keep other processes from doing so meanwhile.

    What the file holds is gone only once nobody else writes to it.

    Raises
    ------
    FileExistsError
        If another process writes to it.
    OSError
        Naming `path`, if it cannot be written, for instance because the disk is full.
    """
    with naming(path), open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as handle:
        # Of devices, such as /dev/null, there is nothing to keep.
        if stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            _lock_output(path, handle)
            handle.truncate(0)
        yield handle


def _lock_output(path: Path, handle: BinaryIO) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileExistsError(
            f"another process is writing to {path}; wait for it, stop it, or name another output"
        ) from error
    except OSError as error:
        warnings.warn(
            f"{path} is on a disk without locks ({error.strerror}): let nothing else write to it "
            "while this runs",
            stacklevel=4,
        )


@contextmanager
def exclusive_lock(path: Path, wait: float | None = None) -> Iterator[None]:
    """Hold a lock on `path`, waiting at most `wait` seconds (10) for another process to let go.

    The lock goes with the process that holds it, so a killed run leaves none behind. On a disk
    without flock (some NFS, Lustre and FUSE mounts) it is a file that names the process, and a
    process of this computer that no longer exists does not hold it; a warning says so.

    Raises
    ------
    FileExistsError
        If another process still holds it.
    """
    lock = _acquire(path, LOCK_SECONDS if wait is None else wait)
    try:
        yield
    finally:
        lock.release()


def _acquire(path: Path, wait: float) -> BaseFileLock:
    lock: BaseFileLock = FileLock(path, timeout=wait, fallback_to_soft=False)
    try:
        with naming(path):
            lock.acquire()
    except Timeout as error:
        raise FileExistsError(
            f"another process is writing to {path.parent}; wait for it or stop it"
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_FLOCK:
            raise
        return _acquire_without_flock(path.with_name(f"{path.name}.held"), wait)
    return lock


def _acquire_without_flock(path: Path, wait: float) -> BaseFileLock:
    lock = SoftFileLock(path, timeout=wait)
    try:
        lock.acquire()
    except Timeout as error:
        raise FileExistsError(
            f"another process is writing to {path.parent}; wait for it or stop it. If there is "
            f"none, on any computer that shares the disk, remove {path}"
        ) from error
    warnings.warn(
        f"the disk of {path.parent} has no file locks (flock); {path.name} stands in for one. "
        "Do not write to this folder from two computers at once",
        stacklevel=4,
    )
    return lock
