"""Chains in pieces: the same frames, whoever runs them and whatever happens to who does."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from numpy.typing import NDArray

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.analysis.torsions import proper_torsions, true_torsions
from timewarp_openmm.farm import chains as farm_chains
from timewarp_openmm.farm.chains import Progress, run_chains
from timewarp_openmm.farm.files import ChainFiles, Layout
from timewarp_openmm.farm.pieces import ChainPiece, ChainTask, run_piece
from timewarp_openmm.farm.quality import Target, slowest
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.simulation.standing import Standing
from timewarp_openmm.simulation.systems import load_molecule
from timewarp_openmm.stored import DamagedFileError
from timewarp_openmm.trajectories.residue_labels import residue_labels
from timewarp_openmm.workers.base import Workers
from timewarp_openmm.workers.here import Here
from timewarp_openmm.workers.local import LocalWorkers

PDB = Path(__file__).parents[3] / "python/timewarp_openmm/data/structures/alanine-dipeptide.pdb"
INTERVAL = 2
NO_TARGET = Target()


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some ten frames each, so that there are many."""
    monkeypatch.setattr(Workers, "piece_seconds", 0.02)


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    """Two processes."""
    with LocalWorkers(2) as workers:
        yield workers


@pytest.fixture(scope="module")
def alone() -> Workers:
    """This process."""
    return Here()


@dataclasses.dataclass(frozen=True)
class Subject:
    """Alanine dipeptide: its chains by seed, and what their files are made of."""

    system: str
    start: NDArray[np.float64]
    integrators: dict[int, str]
    layout: Layout

    def tasks(self, run: str, count: int = 2) -> list[ChainTask]:
        return [
            ChainTask(
                f"{run}-{i}", self.system, self.integrators[i], self.start, "Reference", INTERVAL
            )
            for i in range(count)
        ]

    def files(self, folder: Path, count: int = 2) -> list[ChainFiles]:
        folder.mkdir(exist_ok=True)
        return [ChainFiles(folder, i, self.layout) for i in range(count)]


@pytest.fixture(scope="module")
def subject() -> Subject:
    molecule = load_molecule(PDB, ["amber99sbildn.xml", "amber99_obc.xml"])
    torsions = true_torsions(
        proper_torsions(molecule_from_topology(molecule.topology, molecule.system))
    )
    integrators = {}
    for number in range(3):
        integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
        integrator.setEmbedModel(True)
        integrator.setRandomNumberSeed(10 + number)
        integrators[number] = openmm.XmlSerializer.serialize(integrator)
    layout = Layout(
        mdtraj.Topology.from_openmm(molecule.topology),
        residue_labels(molecule.topology),
        1.0,
        [torsion.atoms for torsion in torsions],
    )
    system = openmm.XmlSerializer.serialize(molecule.system)
    return Subject(system, molecule.positions, integrators, layout)


def frames_of(folder: Path, count: int = 2) -> list[NDArray[np.float32]]:
    return [mdtraj.load(str(folder / f"chain-{i:03d}.h5")).xyz for i in range(count)]


@pytest.fixture(scope="module")
def undisturbed(
    subject: Subject, alone: Workers, tmp_path_factory: pytest.TempPathFactory
) -> list[NDArray[np.float32]]:
    """The frames of two chains, run by one worker without interruption."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_chains(alone, subject.tasks("alone"), subject.files(folder), 60, NO_TARGET)
    frames = frames_of(folder)
    assert all(chain.shape == (60, 22, 3) for chain in frames)
    assert not np.array_equal(*frames), "chains of two seeds are two chains"
    return frames


def test_the_number_of_workers_does_not_matter(
    two: Workers, subject: Subject, undisturbed: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    progress = run_chains(two, subject.tasks("two"), subject.files(tmp_path), 60, NO_TARGET)
    np.testing.assert_array_equal(frames_of(tmp_path), undisturbed)
    assert progress.frames == 120
    assert 0.5 < progress.acceptance < 1
    # The integrator's own numbers, whoever counted them.
    again = subject.files(tmp_path)
    assert [file.proposed for file in again] == [60 * INTERVAL] * 2
    assert sum(file.accepted for file in again) == progress.acceptance * 120 * INTERVAL


def test_chains_are_those_of_the_integrator(
    subject: Subject, undisturbed: list[NDArray[np.float32]]
) -> None:
    integrator = openmm.XmlSerializer.deserialize(subject.integrators[1])
    context = openmm.Context(
        openmm.XmlSerializer.deserialize(subject.system),
        integrator,
        openmm.Platform.getPlatform("Reference"),
    )
    context.setPositions(subject.start)
    for frame in undisturbed[1]:
        integrator.step(INTERVAL)
        positions = context.getState(positions=True).getPositions(asNumpy=True)._value
        np.testing.assert_array_equal(frame, positions.astype(np.float32))


def test_a_killed_worker_loses_its_piece_only(
    two: Workers, subject: Subject, undisturbed: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    victim = two.submit(os.getpid, name="who is there")
    pid = victim.result()
    killed = threading.Event()

    def kill() -> None:
        os.kill(pid, signal.SIGKILL)
        killed.set()

    timer: list[threading.Timer] = []
    places: set[str] = set()
    take = farm_chains._ChainJob.take

    def take_and_kill(self: farm_chains._ChainJob, piece: ChainPiece) -> None:
        take(self, piece)
        # In the middle of the next piece of this very worker.
        if self.end > 10 and not timer and self.place == victim.where:
            timer.append(threading.Timer(0.02, kill))
            timer[0].start()
        places.add(self.place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(farm_chains._ChainJob, "take", take_and_kill)
        run_chains(two, subject.tasks("killed"), subject.files(tmp_path), 60, NO_TARGET)
    timer[0].join()
    assert killed.is_set()
    assert len(places - {""}) == 2
    np.testing.assert_array_equal(frames_of(tmp_path), undisturbed)


def test_a_piece_that_is_run_again_is_the_same(
    subject: Subject, undisturbed: list[NDArray[np.float32]]
) -> None:
    """As after a result that was lost on its way: the worker's own chain is ahead by then."""
    (task,) = subject.tasks("again-and-again", 1)
    first = run_piece(task, Standing(), 10, math.inf)
    for _ in range(2):
        piece = run_piece(task, first.standing, 10, math.inf)
        np.testing.assert_array_equal(piece.positions, undisturbed[0][10:20])
        assert piece.proposed == 20 * INTERVAL


def test_a_piece_ends_in_time(subject: Subject, undisturbed: list[NDArray[np.float32]]) -> None:
    (task,) = subject.tasks("short", 1)
    standing, found = Standing(), []
    for _ in range(3):
        piece = run_piece(task, standing, 10, 0.0)
        assert len(piece.positions) == 1, "a frame, however little time there is"
        found.append(piece.positions[0])
        standing = piece.standing
    np.testing.assert_array_equal(found, undisturbed[0][:3])


def test_what_was_interrupted_goes_on(
    two: Workers, subject: Subject, undisturbed: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    """By this process's end, after some frames of each chain, on disk or not."""
    seen: list[int] = []

    def stop(progress: Progress) -> None:
        seen.append(progress.frames)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(farm_chains, "_REPORT_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            run_chains(two, subject.tasks("stopped"), subject.files(tmp_path), 60, NO_TARGET, stop)
    files = subject.files(tmp_path)
    assert 0 < sum(file.standing.frames for file in files) < 120
    run_chains(two, subject.tasks("again"), files, 60, NO_TARGET)
    np.testing.assert_array_equal(frames_of(tmp_path), undisturbed)


def test_longer_chains_begin_as_shorter_ones(
    alone: Workers, subject: Subject, undisturbed: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    for frames in (17, 60):
        run_chains(alone, subject.tasks("longer"), subject.files(tmp_path), frames, NO_TARGET)
        assert [len(chain) for chain in frames_of(tmp_path)] == [frames] * 2
    np.testing.assert_array_equal(frames_of(tmp_path), undisturbed)


@pytest.mark.parametrize("target", [Target(rhat=1.2), Target(ess=30.0), Target(1.2, 30.0)])
def test_chains_end_once_they_are_enough(
    two: Workers, alone: Workers, subject: Subject, target: Target, tmp_path: Path
) -> None:
    lengths = {}
    for name, workers in (("two", two), ("one", alone)):
        folder = tmp_path / name
        progress = run_chains(
            workers, subject.tasks(f"{name}-{target}"), subject.files(folder), 500, target
        )
        assert progress.slowest is not None
        assert target.is_met(progress.slowest[1])
        frames = frames_of(folder)
        lengths[name] = [len(chain) for chain in frames]
        files = subject.files(folder)
        before = slowest([file.angles[: len(frames[0]) - 10] for file in files])
        assert not target.is_met(before[1] if before else None), "it could have ended before"
    assert lengths["one"] == lengths["two"]
    assert lengths["one"][0] == lengths["one"][1] < 500


def test_no_target_is_never_met_by_what_is_not_known() -> None:
    assert not Target(rhat=1.5).is_met(None)
    still = np.zeros((100, 1))
    assert slowest([still, still]) is None
    assert slowest([np.zeros((3, 1))] * 2) is None


def test_damage_is_named(alone: Workers, subject: Subject, tmp_path: Path) -> None:
    run_chains(alone, subject.tasks("damaged"), subject.files(tmp_path), 10, NO_TARGET)
    path = tmp_path / "chain-001.chk"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match=r"chain-001\.chk.*--force"):
        subject.files(tmp_path)


def test_pieces_that_do_not_fit_are_refused(subject: Subject, tmp_path: Path) -> None:
    (file,) = subject.files(tmp_path, 1)
    late = ChainPiece(np.zeros((5, 22, 3), np.float32), Standing(15, b"x"), 5, 5, 0)
    with pytest.raises(ValueError, match="begins at frame 10, not 0"):
        file.add(late)
