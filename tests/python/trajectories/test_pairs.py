"""Pairs from trajectories: lags, splits, weights, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import torch

from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.simulation.systems import named_molecule
from timewarp_openmm.stored import DamagedFileError
from timewarp_openmm.trajectories.pairs import (
    PairSampler,
    Trajectory,
    load_trajectories,
    load_weights,
    split_by_trajectory,
)
from timewarp_openmm.trajectories.residue_labels import residue_labels
from timewarp_openmm.trajectories.writer import TrajectoryWriter


def numbered(name: str, frames: int, first: float, interval: float = 0.5) -> Trajectory:
    """Return a trajectory of one atom whose x is the frame's number, counted from `first`."""
    positions = np.zeros((frames, 1, 3), dtype=np.float32)
    positions[:, 0, 0] = first + np.arange(frames)
    return Trajectory(name, positions, interval)


def save(path: Path, xyz: np.ndarray, **cell: np.ndarray) -> None:
    topology = mdtraj.Topology.from_openmm(named_molecule("alanine-dipeptide").topology)
    mdtraj.Trajectory(xyz, topology, time=0.5 * np.arange(len(xyz)), **cell).save_hdf5(str(path))


def still_frames(count: int) -> np.ndarray:
    return np.repeat(named_molecule("alanine-dipeptide").positions[None], count, axis=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pairs_are_one_lag_apart_and_never_cross_trajectories() -> None:
    trajectories = [numbered("a", 10, 0), numbered("b", 3, 1000), numbered("c", 8, 2000)]
    sampler = PairSampler(trajectories, [2.0])
    assert sampler.num_pairs == {2.0: 6 + 4}
    x, y, lag = sampler.draw(2000, generator())
    assert (lag == 2.0).all()
    assert (y[:, 0, 0] - x[:, 0, 0] == 4).all()
    expected = {*range(6), *range(2000, 2004)}
    assert set(x[:, 0, 0].int().tolist()) == expected


def test_a_part_is_paired_with_the_context_that_it_is_in() -> None:
    weights = [np.where(np.arange(50) < 10, 1.0, 0.0).astype(np.float32)]
    sampler = PairSampler([numbered("a", 50, 0)], [math.inf], None, weights, own_context=True)
    x, y, _ = sampler.draw(1000, generator())
    assert torch.equal(x, y)
    assert set(y[:, 0, 0].int().tolist()) == set(range(10))


def test_infinite_lag_pairs_all_frames_independently() -> None:
    sampler = PairSampler([numbered("a", 50, 0)], [math.inf])
    x, y, lag = sampler.draw(4000, generator())
    assert torch.isinf(lag).all()
    a, b = x[:, 0, 0], y[:, 0, 0]
    assert set(b.int().tolist()) == set(range(50))
    assert abs(float(torch.corrcoef(torch.stack((a, b)))[0, 1])) < 0.06


def test_lag_and_frame_weights_are_frequencies() -> None:
    trajectories = [numbered("a", 4, 0)]
    weights = [np.array([0, 3, 1, 0], dtype=np.float32)]
    sampler = PairSampler(trajectories, [0.5, math.inf], [1.0, 3.0], weights)
    x, y, lag = sampler.draw(8000, generator())
    finite = lag == 0.5
    assert float(finite.float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float((x[finite, 0, 0] == 1).float().mean()) == pytest.approx(0.75, abs=0.03)
    assert float((y[~finite, 0, 0] == 1).float().mean()) == pytest.approx(0.75, abs=0.03)
    assert not ((y[~finite, 0, 0] == 0) | (y[~finite, 0, 0] == 3)).any()


def test_draws_depend_on_the_seed_alone() -> None:
    sampler = PairSampler([numbered("a", 100, 0)], [0.5, 1.0])
    first, second = sampler.draw(64, generator(1)), sampler.draw(64, generator(1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], sampler.draw(64, generator(2))[0])


@pytest.mark.parametrize(
    ("lag", "message"), [(0.7, "multiple of the frame interval"), (50.0, "longer than every")]
)
def test_impossible_lags_are_refused(lag: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairSampler([numbered("a", 10, 0)], [lag])


def test_split_keeps_trajectories_whole() -> None:
    trajectories = [numbered(name, 5, 0) for name in "abcdefgh"]
    train, test = split_by_trajectory(trajectories, 0.25, seed=3)
    assert (len(train), len(test)) == (6, 2)
    assert {t.name for t in train} | {t.name for t in test} == set("abcdefgh")
    assert split_by_trajectory(trajectories, 0.25, seed=3) == (train, test)
    _, named = split_by_trajectory(trajectories, 0.5, 1, ["c"])
    assert [t.name for t in named] == ["c"]
    with pytest.raises(ValueError, match="no test trajectory named z"):
        split_by_trajectory(trajectories, 0.5, 1, ["z"])
    with pytest.raises(ValueError, match="cannot be split"):
        split_by_trajectory(trajectories[:1], 0.5, 1)


def test_files_are_read_with_masses_bonds_and_interval(tmp_path: Path) -> None:
    save(tmp_path / "one.h5", still_frames(4))
    save(tmp_path / "two.h5", still_frames(3))
    found = load_trajectories(tmp_path)
    assert [t.name for t in found.trajectories] == ["one", "two"]
    assert found.trajectories[0].interval == 0.5
    assert found.molecule.num_atoms == 22
    assert len(found.molecule.bonds) == 21
    assert sum(found.molecule.masses) == pytest.approx(144.17, abs=0.01)
    assert found.sha256() == load_trajectories(tmp_path).sha256()


def test_bad_files_are_named_with_their_frame(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no \.h5|holds no"):
        load_trajectories(tmp_path)
    broken = still_frames(5)
    broken[3, 20, 0] += 3.0
    save(tmp_path / "wrapped.h5", broken)
    with pytest.raises(ValueError, match=r"wrapped\.h5: in frame 3 the bond .*NME3:H2"):
        load_trajectories(tmp_path)
    jumping = still_frames(5)
    jumping[2:] += 2.5
    cell = {"unitcell_lengths": np.full((5, 3), 3.0), "unitcell_angles": np.full((5, 3), 90.0)}
    save(tmp_path / "wrapped.h5", jumping, **cell)
    with pytest.raises(ValueError, match=r"wrapped\.h5: the molecule jumps .* into frame 2"):
        load_trajectories(tmp_path)
    nan = still_frames(5)
    nan[4, 0, 0] = np.nan
    save(tmp_path / "wrapped.h5", nan)
    with pytest.raises(ValueError, match=r"wrapped\.h5: positions of frame 4 are not finite"):
        load_trajectories(tmp_path)
    (tmp_path / "wrapped.h5").write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match=r"wrapped\.h5 is not an MDTraj HDF5"):
        load_trajectories(tmp_path)


def test_other_atoms_are_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", still_frames(3))
    frames = mdtraj.load(str(tmp_path / "a.h5"))
    frames.atom_slice(np.arange(21)).save_hdf5(str(tmp_path / "b.h5"))
    with pytest.raises(ValueError, match=r"b\.h5 has 21 atoms but .*a\.h5 has 22"):
        load_trajectories(tmp_path)
    frames.topology.atom(8).name = "CX"
    frames.save_hdf5(str(tmp_path / "b.h5"))
    with pytest.raises(ValueError, match=r"b\.h5 has A:ALA2:CX .* where .*a\.h5 has A:ALA2:CA"):
        load_trajectories(tmp_path)


def test_frame_weights_are_checked(tmp_path: Path) -> None:
    trajectories = [numbered("a", 3, 0), numbered("b", 2, 0)]
    path = tmp_path / "w.npz"
    np.savez(path, a=np.ones(3), b=np.ones(2))
    assert [len(w) for w in load_weights(path, trajectories)] == [3, 2]
    np.savez(path, a=np.ones(3))
    with pytest.raises(ValueError, match="it has no b"):
        load_weights(path, trajectories)
    np.savez(path, a=np.ones(4), b=np.ones(2))
    with pytest.raises(ValueError, match=r"a is float64 \[4\] instead of float 3"):
        load_weights(path, trajectories)


def test_writer_appends_and_resumes(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    given = named_molecule("alanine-dipeptide").topology
    topology, labels = mdtraj.Topology.from_openmm(given), residue_labels(given)
    writer = TrajectoryWriter(path, topology, labels)
    digests = []
    for i in range(5):
        writer.append(np.full((22, 3), float(i + 1)), 0.5 * i)
        if i in (0, 2, 4):
            writer.flush()
            digests.append(writer.digest())
    assert mdtraj.load(str(path)).n_frames == 5
    writer = TrajectoryWriter(path, topology, labels)
    writer.resume(3, digests[1])
    content = mdtraj.load(str(path))
    assert content.xyz[:, 0, 0].tolist() == [1, 2, 3]
    assert content.time.tolist() == [0.0, 0.5, 1.0]
    for i in (3, 4):
        writer.append(np.full((22, 3), float(i + 1)), 0.5 * i)
    writer.flush()
    assert writer.digest() == digests[2]
    with pytest.raises(DamagedFileError, match="first 4 frames are not those of the checkpoint"):
        writer.resume(4, digests[2])
    assert [p.name for p in tmp_path.iterdir()] == ["t.h5"]


@pytest.mark.parametrize("resumed", [False, True])
def test_residues_are_called_as_in_the_structure(resumed: bool, tmp_path: Path) -> None:
    """Numbers that MDTraj's topology has no place for: insertion codes, and hexadecimal ones."""
    topology = named_molecule("alanine-dipeptide").topology
    numbers = [("-1", " "), ("A000", " "), ("A000", "B")]
    for residue, (number, code) in zip(topology.residues(), numbers, strict=True):
        residue.id, residue.insertionCode, residue.chain.id = number, code, "L"
    path = tmp_path / "t.h5"
    given = (path, mdtraj.Topology.from_openmm(topology), residue_labels(topology))
    writer = TrajectoryWriter(*given)
    for time in (0.0, 0.5, 1.0):
        writer.append(named_molecule("alanine-dipeptide").positions, time)
    writer.flush()
    if resumed:
        digest = writer.digest()
        writer = TrajectoryWriter(*given)
        writer.resume(3, digest)
    found = load_trajectories(tmp_path).molecule
    assert found == molecule_from_topology(topology)
    labels = list(dict.fromkeys(found.residue_label(i) for i in range(found.num_atoms)))
    assert labels == ["L:ACE-1", "L:ALAA000", "L:NMEA000B"]


@pytest.mark.parametrize(
    "labels", ["", "[]", "{}", '[["1", ""], ["2", ""]]', '[["1", ""], ["2", ""], [3, ""]]']
)
def test_labels_that_are_not_those_of_the_residues_are_named(labels: str, tmp_path: Path) -> None:
    molecule = named_molecule("alanine-dipeptide")
    path = tmp_path / "t.h5"
    writer = TrajectoryWriter(path, mdtraj.Topology.from_openmm(molecule.topology), labels)
    for time in (0.0, 0.5):
        writer.append(molecule.positions, time)
    writer.flush()
    with pytest.raises(
        ValueError, match=r"t\.h5: its residue_labels are not those of its residues"
    ):
        load_trajectories(tmp_path)
