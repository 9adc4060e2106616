"""A full disk ends a simulation with a message, and what is left is right and can be gone on with.

HDF5 extends a file that has no room, and gives no error: the frames are zeros. A small file system
needs a namespace of its own; where that is not allowed, a limit on the size of files stands in.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from timewarp_openmm import pretrained
from timewarp_openmm.simulation.record import check_files, read_run
from timewarp_openmm.simulation.systems import structure_file
from timewarp_openmm.trajectories.frames import refuse_zeros
from timewarp_openmm.trajectories.pairs import load_trajectories
from timewarp_openmm.trajectories.reading import read_whole

FRAMES = 601
SIMULATE = [
    *("simulate", "--preset", "ala2-report", "--trajectories", "2", "--equilibration", "0"),
    *("--interval", "0.002", "--length", "1.2", "--out"),
]
PDB = str(structure_file("alanine-dipeptide"))
LIMITED = """
import resource, sys
size = int(sys.argv.pop(1))
if size:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
from timewarp_openmm.cli import main
main()
"""


def command(arguments: list[str], largest_file: int = 0) -> list[str]:
    return [sys.executable, "-c", LIMITED, str(largest_file), *arguments]


def on_small_disk(arguments: list[str], size: int, copy: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with ``{disk}`` in its arguments, and keep what it left on the disk."""
    disk = copy.with_name("disk")
    disk.mkdir()
    words = command([word.replace("{disk}", str(disk)) for word in arguments])
    script = (
        f"mount -t tmpfs -o size={size} tmpfs {disk} || exit 77; {shlex.join(words)}; code=$?; "
        f"cp -r {disk} {copy}; exit $code"
    )
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to make a small file system with")
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    return done


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "data"
    subprocess.run(command([*SIMULATE, str(folder), "--workers", "1"]), check=True)
    return folder


@pytest.mark.parametrize(
    ("kind", "size", "workers"),
    [
        ("file", 60_000, 1),
        ("disk", 100_000, 1),
        ("disk", 200_000, 1),
        ("disk", 250_000, 2),
    ],
)
def test_simulate_says_so_and_goes_on_later(
    kind: str, size: int, workers: int, whole: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    options = ["--workers", str(workers)]
    if kind == "file":
        words = command([*SIMULATE, str(data), *options], size)
        done = subprocess.run(words, capture_output=True, text=True)
    else:
        done = on_small_disk([*SIMULATE, "{disk}", *options], size, data)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert any(
        words in done.stderr
        for words in ("No space left on device: /", "File too large: /", "is the disk full?: /")
    ), done.stderr
    _check_what_is_left(data)
    if kind == "file":
        again = command([*SIMULATE, str(data), *options])
        subprocess.run(again, check=True, capture_output=True)
        for after, expected in zip(
            load_trajectories(data).trajectories, load_trajectories(whole).trajectories, strict=True
        ):
            np.testing.assert_array_equal(after.positions, expected.positions)


def _check_what_is_left(data: Path) -> None:
    run = read_run(data)
    if run is not None:
        assert not run["complete"]
        check_files(data, run)
        for entry in run["trajectories"]:
            assert len(read_whole(data / entry["file"]).positions) == entry["frames"] == FRAMES
    for path in data.glob("trajectory-*.h5"):
        refuse_zeros(path, read_whole(path).positions)
    # No unfinished files.
    assert list(data.glob(".*.partial*")) == []


@pytest.mark.parametrize("kind", ["file", "disk"])
def test_sample_says_so(kind: str, tmp_path: Path) -> None:
    model = str(pretrained("alanine-dipeptide"))
    arguments = ["sample", "--model", model, "--pdb", PDB, "--steps", "2000", "--interval", "1"]
    if kind == "file":
        words = command([*arguments, "--out", str(tmp_path / "t.dcd")], 40_000)
        done = subprocess.run(words, capture_output=True, text=True)
    else:
        done = on_small_disk([*arguments, "--out", "{disk}/t.dcd"], 40_960, tmp_path / "copy")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "t.dcd" in done.stderr
