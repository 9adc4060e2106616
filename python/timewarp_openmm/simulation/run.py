"""Molecular dynamics trajectories for training: seeded, resumable, one process each."""

from __future__ import annotations

import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import openmm
from numpy.typing import NDArray
from pydantic import PositiveInt, with_config

from .. import __version__
from ..bounds import WORKERS
from ..files import exclusive_lock, refuse_existing, sha256_of, write_bytes_atomically
from ..machine import usable_cpus
from ..molecule.graph import Molecule, molecule_from_topology
from ..molecule.torsions import backbone_torsions, torsion
from ..potentials.serialization import deserialize_system, serialize_system
from ..seeds import spawned_seed
from ..stages import Conflict, Done, Missing, Partial, Standing, compare, refuse
from ..stored import RECORD, Count
from ..trajectories.residue_labels import residue_labels
from ..trajectories.writer import TrajectoryWriter
from .checkpoints import CheckpointHeader, read_checkpoint, write_checkpoint
from .identity import content_of, structure_digest
from .langevin import get_positions
from .protocol import Protocol
from .record import (
    SYSTEM_FILE,
    RunRecord,
    TrajectoryRecord,
    check_files,
    read_run,
    write_run,
)
from .start_checks import check_start
from .starts import equilibrated_start
from .systems import MolecularSystem, make_platform

LOCK_FILE = ".lock"
#: nm; no molecule diffuses so far, and float32 still holds it. NaN is not less than this either.
FARTHEST = 1e6
#: Seconds between checkpoints.
CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class TrajectoryTask:
    """All that a worker process needs for one trajectory."""

    folder: Path
    index: int
    protocol: Protocol
    system_xml: str
    topology: mdtraj.Topology
    residue_labels: str
    molecule: Molecule
    reference: NDArray[np.float64]
    start: NDArray[np.float64]
    checkpoint_seconds: float
    max_seconds: float

    @property
    def path(self) -> Path:
        return trajectory_path(self.folder, self.index)

    @property
    def seed(self) -> int:
        """The trajectory's own seed."""
        return spawned_seed(self.protocol.seed, self.index)


def trajectory_path(folder: Path, index: int) -> Path:
    """Return where trajectory `index` of a run lies."""
    return folder / f"trajectory-{index:03d}.h5"


def simulate(
    molecule: MolecularSystem,
    protocol: Protocol,
    folder: str | Path,
    workers: int | None = None,
    force: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    report: Callable[[int], None] | None = None,
    starts: NDArray[np.float64] | None = None,
    max_minutes: float = math.inf,
) -> RunRecord:
    """Run a protocol into `folder`, or finish a run that was interrupted there.

    A run that differs in nothing but a smaller length is gone on with: its trajectories become
    longer, and are what they would be had they been so long from the start.

    Parameters
    ----------
    molecule : MolecularSystem
    protocol : Protocol
    folder : path
        Gets ``trajectory-NNN.h5`` (MDTraj HDF5, nm and ps), ``system.xml`` and ``run.json``.
    workers : int, optional
        Processes, each with one thread; by default as many as this process may use CPUs.
    force : bool
        Replace the run that `folder` holds.
    checkpoint_seconds : float
        At most so much work of each trajectory is lost when the run is killed.
    report : callable, optional
        Called every second or so with the number of frames recorded in all.
    starts : array [K, N, 3], optional
        nm; conformations that the trajectories start from in turn, instead of the molecule's own
        (see `explore`).
    max_minutes : float
        Wall time, shared evenly among the trajectories; those that the machine is too slow for
        end early, with at least two frames.

    Returns
    -------
    run : RunRecord
        The content of ``run.json``.

    Raises
    ------
    FileExistsError
        If `folder` holds a complete run, a run of another protocol, or another process works in it.
    ValueError
        If nothing can start from the positions, the simulation blows up or no start can be found.
    """
    make_platform(protocol.platform)
    if workers is not None:
        WORKERS.check("workers", workers)
    if starts is None:
        starts = molecule.positions[None]
    for start in starts:
        check_start(molecule.topology, molecule.system, start)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder / LOCK_FILE):
        run = _open_run(folder, molecule, protocol, starts, force)
        count = workers or usable_cpus()
        max_seconds = 60 * max_minutes * count / protocol.trajectories
        tasks = _make_tasks(folder, molecule, protocol, starts, checkpoint_seconds, max_seconds)
        began = time.monotonic()
        earlier = run["wall_seconds"]

        def record(result: TrajectoryRecord) -> None:
            run["trajectories"] = sorted(
                [*run["trajectories"], result], key=lambda entry: entry["file"]
            )
            run["dropped_starts"] += result["dropped_starts"]
            run["wall_seconds"] = round(earlier + time.monotonic() - began, 1)
            run["complete"] = len(run["trajectories"]) == protocol.trajectories
            write_run(folder, run)

        done = {entry["file"] for entry in run["trajectories"]}
        pending = [task for task in tasks if task.path.name not in done]
        count = min(count, len(pending))
        finished = protocol.frames * len(done)
        if count <= 1:
            _run_here(pending, record, report, finished)
        else:
            _run_in_processes(pending, count, record, report, finished)
        # Checkpoints stay: with them the trajectories can be made longer.
        for leftover in folder.glob("trajectory-*.lock"):
            leftover.unlink()
    return run


def run_standing(
    folder: Path,
    molecule: MolecularSystem,
    protocol: Protocol,
    starts: NDArray[np.float64] | None = None,
) -> Standing:
    """Tell whether `folder` holds this run: of this System and these starts, by this protocol."""
    run = read_run(folder)
    if run is None:
        return Missing()
    there = {**Protocol.identity_of(run["protocol"]), **run["inputs"]}
    differences = compare(there, {**protocol.identity(), **_inputs(molecule, starts)})
    length = float(run["protocol"]["length"])
    if length > protocol.length:
        differences += (f"length: {length:g} ps there, {protocol.length:g} ps now",)
    if differences:
        return Conflict(differences)
    if length == protocol.length and run["complete"]:
        return Done()
    return Partial(float(run["wall_seconds"]))


def _inputs(molecule: MolecularSystem, starts: NDArray[np.float64] | None) -> dict[str, object]:
    if starts is None:
        starts = molecule.positions[None]
    return {**content_of(molecule), "starts": structure_digest(molecule.topology, starts)}


def _open_run(
    folder: Path,
    molecule: MolecularSystem,
    protocol: Protocol,
    starts: NDArray[np.float64],
    force: bool,
) -> RunRecord:
    """Return the run of `folder`, made new where there is none (or `force`)."""
    standing: Standing = Missing() if force else run_standing(folder, molecule, protocol, starts)
    match standing:
        case Conflict(differences):
            raise refuse(folder, "a run of another protocol or of other inputs", differences)
        case Done():
            raise FileExistsError(f"{folder} holds a complete run; pass --force to replace it")
        case Partial():
            run = read_run(folder)
            assert run is not None
            return _go_on(folder, run, protocol)
        case Missing():
            return _new_run(folder, molecule, protocol, starts, force)


def _go_on(folder: Path, run: RunRecord, protocol: Protocol) -> RunRecord:
    """Return an interrupted run, or a shorter one with all its trajectories open again."""
    check_files(folder, run)
    if run["protocol"]["length"] == protocol.length:
        return run
    lost = [e["file"] for e in run["trajectories"] if not _has_checkpoint(folder, e["file"])]
    if lost:
        raise FileExistsError(
            f"{folder} holds a run of {run['protocol']['length']:g} ps that cannot be made longer, "
            f"since the checkpoint of {lost[0]} is missing; name another folder, or pass --force "
            "to replace it"
        )
    run |= {"complete": False, "trajectories": [], "dropped_starts": 0}
    run["protocol"]["length"] = protocol.length
    write_run(folder, run)
    return run


def _has_checkpoint(folder: Path, trajectory: str) -> bool:
    return (folder / trajectory).with_suffix(".chk").exists()


def _new_run(
    folder: Path,
    molecule: MolecularSystem,
    protocol: Protocol,
    starts: NDArray[np.float64],
    force: bool,
) -> RunRecord:
    old = sorted(folder.glob("trajectory-*"))
    for file in old:
        refuse_existing(file, force)
    for file in old:
        file.unlink()
    system_xml = serialize_system(molecule.system)
    write_bytes_atomically(folder / SYSTEM_FILE, system_xml.encode())
    run: RunRecord = {
        "protocol": protocol.to_dict(),
        "inputs": _inputs(molecule, starts),
        "system_file_sha256": sha256(system_xml.encode()).hexdigest(),
        "versions": {
            "timewarp_openmm": __version__,
            "openmm": openmm.__version__,
            "mdtraj": mdtraj.__version__,
        },
        "complete": False,
        "wall_seconds": 0.0,
        "dropped_starts": 0,
        "trajectories": [],
    }
    write_run(folder, run)
    return run


def _make_tasks(
    folder: Path,
    molecule: MolecularSystem,
    protocol: Protocol,
    starts: NDArray[np.float64],
    checkpoint_seconds: float,
    max_seconds: float,
) -> list[TrajectoryTask]:
    system_xml = serialize_system(molecule.system)
    topology = mdtraj.Topology.from_openmm(molecule.topology)
    labels = residue_labels(molecule.topology)
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    return [
        TrajectoryTask(
            folder,
            index,
            protocol,
            system_xml,
            topology,
            labels,
            atoms,
            molecule.positions,
            starts[index % len(starts)],
            checkpoint_seconds,
            max_seconds,
        )
        for index in range(protocol.trajectories)
    ]


def _run_here(
    tasks: list[TrajectoryTask],
    record: Callable[[TrajectoryRecord], None],
    report: Callable[[int], None] | None,
    finished: int,
) -> None:
    for task in tasks:
        before = finished

        def progress(frames: int, before: int = before) -> None:
            if report is not None:
                report(before + frames)

        record(run_trajectory(task, progress))
        finished += task.protocol.frames


def _run_in_processes(
    tasks: list[TrajectoryTask],
    workers: int,
    record: Callable[[TrajectoryRecord], None],
    report: Callable[[int], None] | None,
    finished: int,
) -> None:
    # Fresh interpreters: a forked copy of a process that has used OpenMM's threads may hang.
    context = multiprocessing.get_context("spawn")
    frames = context.Array("q", max(task.index for task in tasks) + 1)
    stop = context.Event()
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(frames, stop)
    ) as pool:
        try:
            waiting = {pool.submit(_run_in_worker, task) for task in tasks}
            while waiting:
                done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    record(future.result())
                if report is not None:
                    report(finished + sum(frames[:]))
        except BaseException:
            # The others leave at their next frame; their last checkpoints stay.
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_worker_frames: SynchronizedArray[int] | None = None
_worker_stop: Event | None = None


def _start_worker(frames: SynchronizedArray[int], stop: Event) -> None:
    global _worker_frames, _worker_stop
    _worker_frames, _worker_stop = frames, stop
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this process when the one that started it has gone, for instance by kill -9.

    Whatever it writes, it writes so that being killed itself does no harm.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_in_worker(task: TrajectoryTask) -> TrajectoryRecord:
    frames, stop = _worker_frames, _worker_stop
    assert frames is not None
    assert stop is not None

    def progress(count: int) -> None:
        frames[task.index] = count
        if stop.is_set():
            raise SystemExit(f"{task.path.name} was stopped")

    return run_trajectory(task, progress)


def run_trajectory(task: TrajectoryTask, progress: Callable[[int], None]) -> TrajectoryRecord:
    """Run, or finish, one trajectory.

    Returns
    -------
    entry : TrajectoryRecord
        The trajectory's entry in ``run.json``.

    Raises
    ------
    ValueError
        If positions stop being finite.
    """
    protocol = task.protocol
    system = deserialize_system(task.system_xml, trusted=True)
    context = protocol.dynamics.context(system, protocol.platform, task.seed)
    writer = TrajectoryWriter(task.path, task.topology, task.residue_labels)
    checkpoint = task.path.with_suffix(".chk")
    with exclusive_lock(task.path.with_suffix(".lock")):
        if checkpoint.exists():
            state = _load_checkpoint(checkpoint, context)
            writer.resume(state["frames"], state["digest"])
        else:
            task.path.unlink(missing_ok=True)
            state = _start(task, context)
            writer.append(get_positions(context), 0.0)
            writer.flush()
            _save_checkpoint(checkpoint, context, state, writer)
        _record_frames(task, context, writer, state, progress)
    return {
        "file": task.path.name,
        "sha256": sha256_of(task.path),
        "frames": state["frames"],
        "seed": task.seed,
        "start": state["start"],
        "dropped_starts": state["dropped_starts"],
    }


def _start(task: TrajectoryTask, context: openmm.Context) -> dict[str, Any]:
    dropped = equilibrated_start(
        context, task.molecule, task.reference, task.protocol, task.index, task.seed, task.start
    )
    positions = get_positions(context)
    torsions = {
        name: round(float(np.degrees(torsion(positions, atoms))), 1)
        for name, atoms in backbone_torsions(task.molecule).items()
    }
    return {"frames": 1, "dropped_starts": dropped, "start": torsions}


def _record_frames(
    task: TrajectoryTask,
    context: openmm.Context,
    writer: TrajectoryWriter,
    state: dict[str, Any],
    progress: Callable[[int], None],
) -> None:
    protocol = task.protocol
    checkpoint = task.path.with_suffix(".chk")
    began = last = time.monotonic()
    while not _is_finished(task, state["frames"], time.monotonic() - began):
        context.getIntegrator().step(protocol.steps_per_frame)
        positions = get_positions(context)
        now = state["frames"] * protocol.interval
        if not (np.abs(positions) < FARTHEST).all():
            raise ValueError(
                f"the simulation blew up: positions of {task.path.name} are out of bounds at "
                f"{now:g} ps; use a shorter time step or a better starting structure"
            )
        writer.append(positions, now)
        state["frames"] += 1
        progress(state["frames"])
        if time.monotonic() - last >= task.checkpoint_seconds:
            writer.flush()
            _save_checkpoint(checkpoint, context, state, writer)
            last = time.monotonic()
    writer.flush()
    _save_checkpoint(checkpoint, context, state, writer)


def _is_finished(task: TrajectoryTask, frames: int, seconds: float) -> bool:
    return frames >= task.protocol.frames or (frames >= 2 and seconds >= task.max_seconds)


@with_config(RECORD)
class _Checkpoint(CheckpointHeader):
    """Where a trajectory stands, and what it goes on from.

    ``digest`` is that of the frames (`TrajectoryWriter.digest`).
    """

    frames: PositiveInt
    dropped_starts: Count
    start: dict[str, float]
    digest: str


def _save_checkpoint(
    path: Path, context: openmm.Context, state: dict[str, Any], writer: TrajectoryWriter
) -> None:
    state["digest"] = writer.digest()
    write_checkpoint(path, state, context.createCheckpoint())


def _load_checkpoint(path: Path, context: openmm.Context) -> dict[str, Any]:
    remedy = "remove the folder of the run, or start again with --force"
    header, content = read_checkpoint(path, _Checkpoint, remedy)
    context.loadCheckpoint(content)
    names = ("frames", "dropped_starts", "start", "digest")
    return {name: value for name, value in header.items() if name in names}
