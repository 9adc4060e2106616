"""Workers of every kind: results, errors, those that are killed, and what they are asked for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

import cloudpickle
import dask
import pieces_of_work
import pytest
from distributed import LocalCluster
from pieces_of_work import double, end, end_once, refuse, wait_for, who_is_there

from timewarp_openmm.commands import options as options_module
from timewarp_openmm.commands.options import chosen_workers
from timewarp_openmm.workers.base import Kept, LostPieceError, Workers
from timewarp_openmm.workers.cluster import open_cluster
from timewarp_openmm.workers.here import Here
from timewarp_openmm.workers.local import TRIES, LocalWorkers
from timewarp_openmm.workers.opening import using


@pytest.fixture(scope="module", autouse=True)
def functions_are_sent() -> Iterator[None]:
    """Other processes do not have the module of the tests."""
    cloudpickle.register_pickle_by_value(pieces_of_work)
    yield
    cloudpickle.unregister_pickle_by_value(pieces_of_work)


@pytest.fixture(scope="module")
def local() -> Iterator[Workers]:
    with LocalWorkers(2) as workers:
        yield workers


@pytest.fixture(params=["here", "local", "cluster"])
def workers(request: pytest.FixtureRequest) -> Workers:
    return Here() if request.param == "here" else request.getfixturevalue(request.param)


def test_results_and_errors_come_back(workers: Workers) -> None:
    assert workers.count() == (1 if isinstance(workers, Here) else 2)
    assert not workers.is_empty()
    pieces = [workers.submit(double, number, name="a") for number in range(20)]
    assert [piece.result(60) for piece in pieces] == list(range(0, 40, 2))
    refused = workers.submit(refuse, 3, name="b")
    with pytest.raises(ValueError, match=r"^3 is refused$"):
        refused.result(60)
    assert workers.submit(double, 4, name="c").result(60) == 8


@pytest.mark.parametrize("kind", ["local", "cluster"])
def test_pieces_are_run_side_by_side_and_near(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    workers = request.getfixturevalue(kind)
    pieces = [workers.submit(wait_for, tmp_path / "go", name="a") for _ in range(2)]
    time.sleep(0.3)
    (tmp_path / "go").write_text("")
    processes = [piece.result(60) for piece in pieces]
    assert len(set(processes)) == 2
    for piece, process in [*zip(pieces, processes, strict=True)] * 2:
        near = workers.submit(who_is_there, name="b", near=piece.where)
        assert near.result(60) == process
        assert near.where == piece.where


@pytest.mark.parametrize("kind", ["local", "cluster"])
def test_a_killed_process_is_replaced_and_its_piece_run_again(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    workers = request.getfixturevalue(kind)
    other = workers.submit(wait_for, tmp_path / "go", name="a")
    again = workers.submit(end_once, tmp_path / "ended", name="b")
    assert again.result(60) > 0
    assert not other.done(), "it goes on"
    (tmp_path / "go").write_text("")
    assert other.result(60) > 0
    # While it has nothing to do, too.
    idle = workers.submit(who_is_there, name="c")
    os.kill(idle.result(60), signal.SIGKILL)
    time.sleep(0.2)
    assert workers.submit(double, 1, name="d", near=idle.where).result(60) == 2


def test_a_piece_that_ends_every_process_is_named() -> None:
    with LocalWorkers(2) as workers:
        deadly = workers.submit(end, 0, name="walker 3")
        after = [workers.submit(double, number, name="a") for number in range(3)]
        with pytest.raises(LostPieceError, match="ended one after the other while they ran walk"):
            deadly.result(60)
        assert [piece.result(60) for piece in after] == [0, 2, 4]
    assert TRIES > 1


def test_a_piece_that_ends_every_worker_of_a_cluster_is_named() -> None:
    with (
        # The first one is enough.
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        open_cluster(cluster.scheduler_address) as workers,
        pytest.raises(LostPieceError, match="while they ran walker 3"),
    ):
        workers.submit(end, 0, name="walker 3").result(60)


def test_workers_that_are_closed_take_nothing_more(tmp_path: Path) -> None:
    with LocalWorkers(1) as workers:
        process = workers.submit(who_is_there, name="a").result(60)
        running = workers.submit(wait_for, tmp_path / "never", name="b")
        waiting = workers.submit(double, 1, name="c")
    deadline = time.monotonic() + 20
    while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{process}").exists()
    # Who waits for them is told, in whatever words.
    assert running.exception(20) is not None
    assert "closed" in str(waiting.exception(20))
    with pytest.raises(RuntimeError, match="closed"):
        workers.submit(double, 1, name="d")


def test_workers_of_another_release(cluster: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timewarp_openmm.workers.cluster.__version__", "0.0.1")
    with pytest.raises(RuntimeError, match=r"this worker has .*0\.0\.1.*same release"):
        cluster.submit(double, 1, name="old").result(60)


def test_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timewarp_openmm.workers.cluster._PATIENCE", 1)
    with (
        pytest.raises(ConnectionError, match=r"no dask scheduler answers at tcp://127.0.0.1:9"),
        open_cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_a_scheduler_that_goes_away_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timewarp_openmm.workers.cluster._PATIENCE", 1)
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    )
    address = cluster.scheduler_address
    with open_cluster(address) as far:
        piece = far.submit(wait_for, tmp_path / "go", name="a")
        time.sleep(0.2)
        (tmp_path / "go").write_text("")
        assert piece.result(60) > 0
        cluster.close()
        # At once, and after it has been tried to reach it again.
        for _ in range(2):
            with pytest.raises(ConnectionError, match=rf"scheduler at {address} is gone"):
                far.submit(double, 1, name="b").result(60)
            time.sleep(2.0)


def test_a_scheduler_without_workers_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        chosen_workers("fit", None, cluster.scheduler_address) as workers,
    ):
        assert workers.is_empty()
        assert workers.count() == 1
        piece = workers.submit(double, 2, name="a")
        assert not wait([piece], 0.2).done
        cluster.scale(1)
        assert piece.result(60) == 4
    assert "has no workers yet" in capsys.readouterr().err


def test_one_of_workers_and_scheduler() -> None:
    with (
        pytest.raises(ValueError, match="leave out one of the two"),
        chosen_workers("fit", 2, "tcp://127.0.0.1:9"),
    ):
        pass
    with chosen_workers("fit", 3, None) as workers:
        assert workers.count() == 3
    with chosen_workers("fit", 8, None, most=2) as workers:
        assert workers.count() == 2


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timewarp_openmm.commands.find_spec", lambda _: None)
    with (
        pytest.raises(ValueError, match=r"fit --scheduler needs dask.*timewarp-openmm\[farm\]"),
        options_module.chosen_workers("fit", None, "tcp://127.0.0.1:9"),
    ):
        pass
    # Nobody needs it for this machine.
    with chosen_workers("fit", 1, None) as workers:
        assert workers.submit(double, 2, name="a").result(60) == 4


def test_workers_by_number_or_as_they_are(local: Workers) -> None:
    with using(local) as same:
        assert same is local
    assert local.submit(double, 1, name="a").result(60) == 2
    with using(1) as one:
        assert one.submit(os.getpid, name="a").result() == os.getpid()
    with using(3) as three:
        assert three.count() == 3


def test_what_is_kept_is_bounded_and_used_once() -> None:
    kept: Kept[str] = Kept(2)
    for key in "abc":
        kept.put(key, key.upper())
    assert kept.take("a") is None
    assert kept.take("b") == "B"
    assert kept.take("b") is None
    assert kept.take("c") == "C"
