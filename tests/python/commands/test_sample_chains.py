"""``sample --chains``: files, going on, a cluster, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from command_line import run
from distributed import LocalCluster
from numpy.typing import NDArray

from timewarp_openmm import pretrained
from timewarp_openmm.farm.pieces import ChainTask
from timewarp_openmm.simulation.systems import MolecularSystem

PDB = Path(__file__).parents[3] / "python/timewarp_openmm/data/structures/alanine-dipeptide.pdb"
Sample = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Sample:
    """Run two chains of 40 steps into a folder, with these options besides."""
    found: list[int] = []

    def find_starts(molecule: MolecularSystem, *others: object) -> NDArray[np.float64]:
        found.append(1)
        assert len(found) == 1, "starts are found once"
        return np.stack([molecule.positions] * 2)

    monkeypatch.setattr("timewarp_openmm.ensemble.sampling.find_starts", find_starts)

    def call(*options: str, out: str = "chains", steps: int = 40) -> tuple[int, str, str]:
        words = ["sample", "--model", pretrained("alanine-dipeptide"), "--pdb", str(PDB)]
        words += ["--chains", "2", "--steps", str(steps), "--interval", "2"]
        return run([*words, "--out", str(tmp_path / out), *options], monkeypatch, capsys)

    return call


def frames_of(folder: Path) -> list[NDArray[np.float32]]:
    return [mdtraj.load(str(path)).xyz for path in sorted(folder.glob("chain-*.h5"))]


def test_a_trajectory_of_each_chain(sample: Sample, tmp_path: Path) -> None:
    code, output, error = sample("--seed", "5", "--workers", "2")
    assert code == 0, error
    assert "2 chains of 20 frames, " in output
    record = json.loads((tmp_path / "chains" / "chains.json").read_text())
    assert record["ended"] == "all steps"
    assert [chain["seed"] for chain in record["chains"]] == [5, 6]
    assert [chain["iterations"] for chain in record["chains"]] == [40, 40]
    assert record["slowest_torsion"] is not None
    first, second = frames_of(tmp_path / "chains")
    assert first.shape == second.shape == (20, 22, 3)
    assert not np.array_equal(first, second)
    # 18 frames are left of each chain.
    assert "populations are not to be trusted yet" in error


def test_the_same_call_goes_on(sample: Sample, tmp_path: Path) -> None:
    assert sample("--workers", "1")[0] == 0
    before = frames_of(tmp_path / "chains")
    seed = json.loads((tmp_path / "chains" / "chains.json").read_text())["identity"]["seed"]
    code, _, error = sample("--workers", "1", steps=60)
    assert code == 0, error
    after = frames_of(tmp_path / "chains")
    for short, long in zip(before, after, strict=True):
        assert len(long) == 30
        np.testing.assert_array_equal(long[:20], short)
    # Other chains, or fewer steps, are not what is there.
    for options, steps, named in (
        (("--seed", str(seed + 1)), 60, "seed: "),
        (("--temperature", "350"), 60, "temperature: 310.0 there, 350.0 now"),
        ((), 40, "steps: 60 there, 40 now"),
    ):
        code, _, error = sample(*options, steps=steps)
        assert code == 2
        assert named in error
        assert "--force" in error
    for kept, long in zip(frames_of(tmp_path / "chains"), after, strict=True):
        np.testing.assert_array_equal(kept, long)


def test_what_was_stopped_at_once_is_not_taken_for_other_chains(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of a chain may be there seconds before the first look at how chains agree."""
    keys: list[str] = []

    def stop(client: object, tasks: Sequence[ChainTask], *others: object, **named: object) -> None:
        keys.extend(task.key for task in tasks)
        raise ValueError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr("timewarp_openmm.farm.chains.run_chains", stop)
        for _ in range(2):
            assert "stopped" in sample("--seed", "5", "--workers", "1")[2]
    assert len(set(keys)) == 4, "chains of two commands are two"
    code, _, error = sample("--seed", "6", "--workers", "1")
    assert code == 2
    assert "seed: 5 there, 6 now" in error
    assert sample("--seed", "5", "--workers", "1")[0] == 0
    (tmp_path / "chains" / "chains.json").unlink()
    code, _, error = sample("--seed", "6", "--workers", "1")
    assert code == 2
    assert "holds chain-000.chk without chains.json" in error


def test_force_replaces_chains_and_nothing_else(sample: Sample, tmp_path: Path) -> None:
    folder = tmp_path / "chains"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for options in ((), ("--force",)):
        code, _, error = sample(*options)
        assert code == 2
        assert "notes.txt, which is no chain" in error
    assert (folder / "notes.txt").read_text() == "mine"


def test_workers_of_a_scheduler(sample: Sample, tmp_path: Path) -> None:
    """That see none of this machine's files but what they are sent."""
    assert sample("--seed", "5", "--workers", "1")[0] == 0
    here = frames_of(tmp_path / "chains")
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as cluster:
        starts = (tmp_path / "chains" / "starts.npz").read_bytes()
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "starts.npz").write_bytes(starts)
        address = cluster.scheduler_address
        code, _, error = sample("--seed", "5", "--scheduler", address, out="there")
    assert code == 0, error
    for one, other in zip(here, frames_of(tmp_path / "there"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_chains_end_at_a_target(sample: Sample, tmp_path: Path) -> None:
    code, _, error = sample("--seed", "5", "--until-ess", "20", "--workers", "1", steps=2000)
    assert code == 0, error
    record = json.loads((tmp_path / "chains" / "chains.json").read_text())
    assert record["ended"] == "target reached"
    assert record["effective_samples"] >= 20
    assert record["chains"][0]["iterations"] < 2000


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--steps", "1"), "--steps 1 are fewer than --interval 2"),
        (("--proposals", "5"), "--proposals goes with --blocks"),
        (("--until-rhat", "1"), "--until-rhat must be above 1"),
        (("--chains", "1"), "--chains must be from 2"),
    ],
)
def test_what_is_refused(
    sample: Sample, options: tuple[str, str], named: str, tmp_path: Path
) -> None:
    code, _, error = sample(*options)
    assert code == 2
    assert named in error
    assert not (tmp_path / "chains").exists()


@pytest.mark.parametrize("option", ["--workers", "--scheduler", "--until-rhat", "--until-ess"])
def test_options_of_chains_go_with_chains(
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["sample", "--model", pretrained("alanine-dipeptide"), "--pdb", str(PDB)]
    words += ["--steps", "10", "--out", str(tmp_path / "one.dcd"), option, "2"]
    code, _, error = run(words, monkeypatch, capsys)
    assert code == 2
    assert f"{option} goes with --chains" in error
