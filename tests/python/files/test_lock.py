"""Locks: one process at a time, on disks without flock too, and none left behind by a kill."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from filelock import FileLock

from timewarp_openmm.files import exclusive_lock

HOLDING = """
import errno, os, sys, time
from pathlib import Path
from timewarp_openmm import files
number = int(sys.argv[2])
if number:
    def refuse(*_):
        raise OSError(number, os.strerror(number))
    import fcntl
    fcntl.flock = refuse
with files.exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [0, errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_one_process_at_a_time_and_a_killed_one_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / ".lock"
    command = [sys.executable, "-c", HOLDING, str(path), str(number)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    if number:
        without_flock(monkeypatch, number)
    with pytest.raises(FileExistsError, match="another process is writing to"):
        enter(path)
    process.send_signal(signal.SIGKILL)
    _, error = process.communicate()
    assert ("has no file locks" in error) == bool(number)
    enter(path)
    enter(path)


def enter(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with exclusive_lock(path, wait=0.3):
            pass


def without_flock(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let FileLock fail as it does where the operating system's flock fails."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", refuse)


def test_a_disk_without_flock_is_told_and_what_to_do_about_a_lock_of_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_flock(monkeypatch, errno.ENOSYS)
    path = tmp_path / ".lock"
    with (
        pytest.warns(UserWarning, match=r"has no file locks \(flock\)"),
        exclusive_lock(path),
        pytest.raises(FileExistsError, match=r"on any computer .* remove .*\.lock\.held"),
    ):
        enter(path)


def test_other_failures_are_not_taken_for_a_missing_flock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_flock(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        enter(tmp_path / ".lock")
