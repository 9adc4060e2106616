"""Damaged trajectory files, whole or not, are an error that names the file: never a crash."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

import mdtraj
import numpy as np
import pytest

from timewarp_openmm.simulation.systems import named_molecule
from timewarp_openmm.trajectories import reading
from timewarp_openmm.trajectories.frames import open_frames
from timewarp_openmm.trajectories.pairs import load_trajectories

FRAMES = 40
FORMATS = ["h5", "xtc", "trr", "dcd"]


@cache
def moved_frames() -> mdtraj.Trajectory:
    molecule = named_molecule("alanine-dipeptide")
    noise = np.random.default_rng(1).normal(0, 0.005, (FRAMES, 22, 3))
    topology = mdtraj.Topology.from_openmm(molecule.topology)
    return mdtraj.Trajectory(molecule.positions + noise, topology, np.arange(FRAMES) * 0.5)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    for ending in FORMATS:
        moved_frames().save(str(folder / f"t.{ending}"))
    return {ending: folder / f"t.{ending}" for ending in FORMATS}


def read(path: Path) -> int:
    """Return the frames that a file gives; it may give fewer than it had, or an error."""
    reader = open_frames(path, moved_frames().topology)
    return sum(len(piece) for piece in reader.chunks(16))


def flip_bits(seed: int) -> Callable[[bytes], bytes]:
    """Flip one bit among the first few hundred bytes and three anywhere."""

    def damage(content: bytes) -> bytes:
        rng = np.random.default_rng(seed)
        changed = bytearray(content)
        places = [rng.integers(min(400, len(content))), *rng.integers(0, len(content), 3)]
        for place in places:
            changed[place] ^= 1 << int(rng.integers(8))
        return bytes(changed)

    return damage


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "cut in the header": lambda content: content[:30],
    "ones": lambda content: b"\xff" * len(content),
    "other type": lambda content: b"PK\x03\x04 no trajectory\n" * 50,
    "no frames' end": lambda content: content[:-7],
    "huge number": lambda content: content[:8] + b"\x7f\xff\xff\xff" * 4 + content[24:],
    **{f"bits {seed}": flip_bits(seed) for seed in range(4)},
}

UNREADABLE = ("empty", "cut in the header", "ones", "other type")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("ending", FORMATS)
def test_damaged_files_are_named(
    ending: str, damage: str, files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / f"damaged.{ending}"
    path.write_bytes(DAMAGES[damage](files[ending].read_bytes()))
    message = None
    try:
        frames = read(path)
    except ValueError as error:
        message = str(error)
    if message is None:
        # Formats without checksums may hide a flipped bit, and give what was before the damage.
        assert frames <= FRAMES
        assert damage not in UNREADABLE
    else:
        assert str(path) in message


@pytest.mark.parametrize("ending", FORMATS)
def test_whole_files_are_read(ending: str, files: dict[str, Path]) -> None:
    assert read(files[ending]) == FRAMES


def test_a_crash_of_the_library_is_a_message(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = reading._Reader()
    assert reader.ask("atoms", str(files["dcd"])) == 22
    assert reader._process is not None
    os.kill(reader._process.pid, signal.SIGSEGV)
    with pytest.raises(reading.UnreadableError, match=r"crashed \(SIGSEGV\)"):
        reader.ask("atoms", str(files["dcd"]))
    # The next file gets a new process.
    assert reader.ask("atoms", str(files["dcd"])) == 22
    os.kill(reader._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(reading, "PATIENCE", 0.2)
    with pytest.raises(reading.UnreadableError, match=r"takes longer than 0.2 s"):
        reader.ask("atoms", str(files["dcd"]))
    reader.stop()


def test_readers_print_nothing(files: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    reader = open_frames(files["dcd"], moved_frames().topology)
    assert len(list(reader.chunks(10))) == 4
    assert capfd.readouterr() == ("", "")


def test_two_files_are_read_in_turns(files: dict[str, Path]) -> None:
    topology = moved_frames().topology
    pair = [open_frames(files[ending], topology).chunks(7) for ending in ("xtc", "h5")]
    for first, second in zip(*pair, strict=True):
        np.testing.assert_allclose(first, second, atol=2e-3)


def test_frames_of_zeros_are_refused(tmp_path: Path) -> None:
    frames = moved_frames()[:]
    frames.xyz[17] = 0
    frames.xyz[30, 5:] = 0
    for ending in ("h5", "dcd", "xtc", "trr"):
        path = tmp_path / f"zeros.{ending}"
        frames.save(str(path))
        with pytest.raises(ValueError, match=rf"{path}: positions of frame 17 are zeros"):
            read(path)
    for path in tmp_path.glob("zeros.[!h]*"):
        path.unlink()
    with pytest.raises(ValueError, match="positions of frame 17 are zeros, as in 2 frames"):
        load_trajectories(tmp_path)
