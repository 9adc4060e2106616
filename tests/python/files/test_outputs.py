"""Output files: one writer at a time, and nothing lost to one that comes too late."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from timewarp_openmm import pretrained
from timewarp_openmm.cli import main
from timewarp_openmm.files import open_exclusively, replace_atomically
from timewarp_openmm.simulation.systems import structure_file

SAMPLE = ["sample", "--pdb", str(structure_file("alanine-dipeptide")), "--force", "--interval", "1"]


def test_the_second_of_two_samples_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.dcd"
    words = [*SAMPLE, "--model", str(pretrained("alanine-dipeptide")), "--out", str(out)]
    code = "from timewarp_openmm.cli import main; main()"
    first = subprocess.Popen([sys.executable, "-c", code, *words, "--steps", "1000000000"])
    try:
        deadline = time.monotonic() + 100
        while not (out.exists() and out.stat().st_size > 2000) and time.monotonic() < deadline:
            time.sleep(0.05)
        written = out.stat().st_size
        assert written > 2000
        monkeypatch.setattr(sys, "argv", ["timewarp-openmm", *words, "--steps", "5"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        assert f"another process is writing to {out}" in capsys.readouterr().err
        assert out.stat().st_size >= written
    finally:
        first.kill()
        first.wait()
    # A killed run leaves no lock.
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert list(tmp_path.iterdir()) == [out]


def test_content_stays_until_the_lock_is_held(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with open_exclusively(path) as handle:
        handle.write(b"new")
        handle.flush()
        with pytest.raises(FileExistsError, match="another process"), open_exclusively(path):
            pass
        assert path.read_bytes() == b"new"
    with open_exclusively(path):
        pass
    assert path.read_bytes() == b""


def test_what_a_killed_process_left_unfinished_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    (tmp_path / ".file.partial.txt").write_text("half")

    def write(temporary: Path) -> None:
        with open(temporary, "a") as handle:
            handle.write("whole")

    replace_atomically(path, write)
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_devices_have_nothing_to_keep() -> None:
    null = Path("/dev/null")
    with open_exclusively(null) as first, open_exclusively(null) as second:
        assert first.write(b"a") == second.write(b"b") == 1
