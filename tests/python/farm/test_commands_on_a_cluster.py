"""Commands whose work is done by a scheduler's workers: the same results, also if one is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cloudpickle
import mdtraj
import numpy as np
import pytest
from command_line import run
from distributed import Client

from timewarp_openmm import pretrained
from timewarp_openmm.benchmark.run import (
    gather_replicates,
    run_in_turns,
    run_replicates,
    speed_ratio,
)
from timewarp_openmm.benchmark.samplers import Thermostat, make_methods
from timewarp_openmm.energies.evaluated import evaluate_into
from timewarp_openmm.energies.openmm_energy import OpenMMEnergy
from timewarp_openmm.energies.reduced import ReducedEnergy
from timewarp_openmm.simulation import trajectory_files
from timewarp_openmm.simulation.explore import ExploreSettings, find_basins, read_basins
from timewarp_openmm.simulation.protocol import Protocol, preset, with_settings
from timewarp_openmm.simulation.run import simulate
from timewarp_openmm.simulation.systems import (
    MolecularSystem,
    named_molecule,
    structure_file,
    with_potential,
)
from timewarp_openmm.simulation.trajectory_pieces import TrajectoryPiece
from timewarp_openmm.workers.base import Workers
from timewarp_openmm.workers.cluster import ClusterWorkers
from timewarp_openmm.workflows import budget

PDB = str(structure_file("alanine-dipeptide"))
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module", autouse=True)
def module_by_value() -> Iterator[None]:
    """Workers do not have this module."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return named_molecule("alanine-dipeptide")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*words: object) -> tuple[int, str, str]:
        return run([str(word) for word in words], monkeypatch, capsys)

    return call


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that everything here is made of several."""
    monkeypatch.setattr(ClusterWorkers, "piece_seconds", 0.05)


def slow_dynamics(*_: object) -> float:
    return 0.25


def short_protocol(molecule: MolecularSystem, **settings: object) -> Protocol:
    protocol = Protocol(
        force_field=molecule.force_field, platform="Reference", **preset("ala2-report")
    )
    times = {"length": 6.0, "interval": 0.01, "equilibration": 0.01, "trajectories": 3}
    return with_settings(protocol, **{**times, **settings})


def frames_of(folder: Path) -> list[np.ndarray]:
    found = sorted(folder.glob("trajectory-*.h5"))
    return [mdtraj.load(str(path)).xyz for path in found]


def assert_same(first: Path, second: Path, count: int) -> None:
    one, other = frames_of(first), frames_of(second)
    assert len(one) == len(other) == count
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_simulate_gives_the_same_files(
    command: Command, address: str, short_pieces: None, tmp_path: Path
) -> None:
    """With what was explored before."""
    words = ["simulate", "--pdb", PDB, "--explore", "--explore-length", 2, "--seed", 4]
    words += ["--trajectories", 3, "--length", 2, "--interval", 0.1, "--equilibration", 0.1]
    for name, where in (
        ("one", ("--workers", 1)),
        ("two", ("--workers", 2)),
        ("there", ("--scheduler", address)),
    ):
        code, _, error = command(*words, "--out", tmp_path / name, *where)
        assert code == 0, error
    first = read_basins(tmp_path / "one" / "basins.npz").basins
    for other in ("two", "there"):
        found = read_basins(tmp_path / other / "basins.npz").basins
        for name, value in vars(first).items():
            np.testing.assert_array_equal(getattr(found, name), value)
        assert_same(tmp_path / "one", tmp_path / other, 3)
    record = json.loads((tmp_path / "there" / "run.json").read_text())
    assert record["complete"]
    assert [entry["frames"] for entry in record["trajectories"]] == [21] * 3


def test_a_worker_killed_in_the_middle_changes_nothing(
    cluster: Workers,
    address: str,
    alanine: MolecularSystem,
    short_pieces: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    protocol = short_protocol(alanine)
    simulate(alanine, protocol, tmp_path / "whole", workers=1)
    with Client(address) as client:
        processes = client.run(os.getpid)
    killed: list[int] = []
    take = trajectory_files.TrajectoryJob.take

    def take_and_kill(job: trajectory_files.TrajectoryJob, piece: TrajectoryPiece) -> None:
        take(job, piece)
        # Within the next piece of this trajectory, which has some behind it.
        if not killed and job.place and 50 < job.frames < 500:
            killed.append(processes[job.place])
            threading.Timer(0.02, os.kill, (killed[0], signal.SIGKILL)).start()

    monkeypatch.setattr(trajectory_files.TrajectoryJob, "take", take_and_kill)
    simulate(alanine, protocol, tmp_path / "killed", workers=cluster)
    assert killed
    with Client(address) as client:
        assert killed[0] not in client.run(os.getpid).values()
    assert_same(tmp_path / "whole", tmp_path / "killed", 3)


def test_what_was_begun_here_goes_on_there(
    cluster: Workers, alanine: MolecularSystem, short_pieces: None, tmp_path: Path
) -> None:
    protocol = short_protocol(alanine, trajectories=2, length=3.0)

    def stop(frames: int) -> None:
        if frames > 100:
            raise KeyboardInterrupt

    for workers in (1, cluster):
        with pytest.raises(KeyboardInterrupt):
            simulate(alanine, protocol, tmp_path / "moved", workers, report=stop)
    assert len(frames_of(tmp_path / "moved")[0]) > 100
    simulate(alanine, protocol, tmp_path / "moved", workers=cluster)
    simulate(alanine, protocol, tmp_path / "whole", workers=2)
    assert_same(tmp_path / "moved", tmp_path / "whole", 2)


def test_a_blow_up_there_is_named(
    cluster: Workers, alanine: MolecularSystem, tmp_path: Path
) -> None:
    times = {"interval": 0.5, "length": 50.0, "equilibration": 0.0, "trajectories": 1}
    protocol = short_protocol(alanine, timestep=0.02, **times)
    with pytest.raises(Exception, match=r"blew up|NaN"):
        simulate(alanine, protocol, tmp_path, workers=cluster)


def test_walkers_end_with_their_time(cluster: Workers, alanine: MolecularSystem) -> None:
    settings = ExploreSettings(length=1e5, walkers=3, max_minutes=0.5 / 60)
    seen: list[float] = []
    find_basins(alanine, settings, 1, cluster, lambda part, _: seen.append(part))
    assert seen[-1] == 1.0


@pytest.fixture(scope="module")
def states(alanine: MolecularSystem) -> np.ndarray:
    noise = np.random.default_rng(1).normal(scale=0.003, size=(600, 22, 3))
    return alanine.positions + noise


def test_energies_are_the_same(
    cluster: Workers, alanine: MolecularSystem, states: np.ndarray, tmp_path: Path
) -> None:
    expected = ReducedEnergy(alanine.system, 310.0, "Reference").evaluate(states)
    there = OpenMMEnergy(alanine.system, 310.0, "Reference", cluster).evaluate(states)
    stored = evaluate_into(tmp_path, alanine.system, states[:50], 310.0, cluster, 1e9)
    for values, all_values, few in zip(there, expected, stored, strict=True):
        np.testing.assert_array_equal(values, all_values)
        np.testing.assert_array_equal(few, all_values[:50])


def test_a_potential_is_found_there(
    cluster: Workers, alanine: MolecularSystem, states: np.ndarray, tmp_path: Path
) -> None:
    """By its name: a module that workers have, too."""
    on_target = with_potential(alanine, "potential_functions:altered")
    found = evaluate_into(tmp_path / "there", on_target.system, states[:40], 310.0, cluster, 1e9)
    here = evaluate_into(tmp_path / "here", on_target.system, states[:40], 310.0, 1, 1e9)
    plain = ReducedEnergy(alanine.system, 310.0, "Reference").evaluate(states[:40])
    for theirs, mine in zip(found, here, strict=True):
        np.testing.assert_array_equal(theirs, mine)
    assert not np.allclose(found[0], plain[0])
    protocol = short_protocol(on_target, trajectories=2, length=0.2)
    simulate(on_target, protocol, tmp_path / "run", workers=cluster)
    simulate(on_target, protocol, tmp_path / "same", workers=1)
    assert_same(tmp_path / "run", tmp_path / "same", 2)


def test_speed_is_measured_where_work_is_done(
    cluster: Workers, alanine: MolecularSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "measure_speed", slow_dynamics)
    costs = budget.measure_costs(alanine, cluster, budget.FitBudget(speed_seconds=0.1))
    assert costs.ps_per_second == 0.25


def test_each_worker_of_a_benchmark_runs_all_methods(
    cluster: Workers, alanine: MolecularSystem
) -> None:
    """Timewarp's chains are those that this process runs, as far as both have come."""
    model, thermostat = pretrained("alanine-dipeptide"), Thermostat(310.0)
    methods = make_methods(model, alanine, True, "Reference", thermostat, replica_exchange=True)
    starts = np.stack([alanine.positions] * 2)
    arguments = (methods, starts, 2.2, 1)
    replicates = run_replicates(*arguments, cluster, rounds=2)
    there, here = gather_replicates(replicates), run_in_turns(*arguments, rounds=2)
    assert list(there) == list(here)
    # Dynamics of one process share random numbers, so that theirs depend on who comes when.
    for mine, theirs in zip(here["Timewarp"], there["Timewarp"], strict=True):
        count = min(len(mine.frames), len(theirs.frames))
        assert count > 1
        np.testing.assert_array_equal(mine.frames[:count], theirs.frames[:count])
    for group in there.values():
        assert all(recording.seconds >= 0.2 for recording in group)
        assert not np.array_equal(group[0].frames[0], group[1].frames[0])
    assert [r.host for r in replicates] == [os.uname().nodename] * 2
    # Worker 1 as if it were a machine of half the speed.
    slow = replace(replicates[1], recordings=dict(replicates[1].recordings))
    slow.recordings["MD 1 fs"] = replace(
        replicates[0].recordings["MD 1 fs"],
        seconds=2 * replicates[0].recordings["MD 1 fs"].seconds,
    )
    assert speed_ratio([replicates[0], slow]) == pytest.approx(2.0)


def test_benchmark_on_a_cluster(
    command: Command, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ExploreSettings(length=2.0, interval=1.0, walkers=2)
    monkeypatch.setattr("timewarp_openmm.benchmark.run.EXPLORATION", quick)
    monkeypatch.setattr("timewarp_openmm.commands.benchmark._UNEQUAL", 0.5)
    words = ["benchmark", "--model", pretrained("alanine-dipeptide"), "--pdb", PDB]
    words += ["--minutes", 0.05, "--chains", 3, "--out", tmp_path / "b", "--scheduler", address]
    code, output, error = command(*words)
    assert code == 0, error
    assert "MD 4 fs, HBonds, HMR" in output
    assert "times as fast on one worker as on another" in error
    written = json.loads((tmp_path / "b" / "benchmark.json").read_text())
    machines = written["conditions"]["machines"]
    assert [machine["host"] for machine in machines] == [os.uname().nodename] * 3


@pytest.mark.parametrize(
    "words",
    [
        ("simulate", "--preset", "ala2"),
        ("fit", PDB),
        ("library build",),
        ("benchmark", "--model", pretrained("alanine-dipeptide"), "--pdb", PDB, "--minutes", "1"),
        (
            *("sample", "--model", pretrained("alanine-dipeptide"), "--pdb", PDB),
            *("--steps", "100", "--chains", "2"),
        ),
    ],
    ids=lambda words: words[0],
)
def test_a_scheduler_that_does_not_answer(
    command: Command, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timewarp_openmm.workers.cluster._PATIENCE", 1)
    name, *others = words
    scheduler = ("--scheduler", "tcp://127.0.0.1:9", "--out", tmp_path / "out")
    code, _, error = command(*name.split(), *others, *scheduler)
    assert code == 2
    assert "no dask scheduler answers at tcp://127.0.0.1:9" in error
    assert "Traceback" not in error
    if name != "sample":
        assert not (tmp_path / "out").exists()
