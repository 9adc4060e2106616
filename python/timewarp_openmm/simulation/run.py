"""Molecular dynamics trajectories for training: seeded, resumable, wherever there are workers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import mdtraj
import numpy as np
import openmm
from numpy.typing import NDArray

from .. import __version__
from ..bounds import WORKERS
from ..files import exclusive_lock, refuse_existing, write_bytes_atomically
from ..machine import usable_cpus
from ..molecule.graph import molecule_from_topology
from ..molecule.in_place import Fragment
from ..potentials.serialization import serialize_system
from ..seeds import spawned_seed
from ..stages import Conflict, Done, Missing, Partial, Standing, compare, refuse
from ..trajectories.residue_labels import residue_labels
from ..workers.base import Workers
from ..workers.jobs import run_jobs
from ..workers.opening import using
from .checkpoints import Writes
from .identity import content_of, structure_digest
from .protocol import Protocol
from .record import SYSTEM_FILE, RunRecord, check_files, read_run, write_run
from .standing import new_key
from .start_checks import check_start
from .systems import MolecularSystem, make_platform
from .trajectory_files import TrajectoryJob, trajectory_path
from .trajectory_pieces import TrajectoryTask

LOCK_FILE = ".lock"
#: Seconds between checkpoints.
CHECKPOINT_SECONDS = 30.0


def simulate(
    molecule: MolecularSystem,
    protocol: Protocol,
    folder: str | Path,
    workers: int | Workers | None = None,
    force: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    report: Callable[[int], None] | None = None,
    starts: NDArray[np.float64] | None = None,
    max_minutes: float = math.inf,
    fragment: Fragment | None = None,
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
    workers : int or Workers, optional
        Who runs the trajectories, or so many processes of one thread each; by default as many as
        this process may use CPUs.
    force : bool
        Replace the run that `folder` holds.
    checkpoint_seconds : float
        At most so much work of each trajectory is lost when the run is killed, or more where
        trajectories are so long that writing them would take much of the time.
    report : callable, optional
        Called every second or so with the number of frames recorded in all.
    starts : array [K, N, 3], optional
        nm; conformations that the trajectories start from in turn, instead of the molecule's own
        (see `explore`).
    max_minutes : float
        Wall time, shared evenly among the trajectories; those that the machine is too slow for
        end early, with at least two frames.
    fragment : Fragment, optional
        Only its own stereochemistry is looked after.

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
    if isinstance(workers, int):
        WORKERS.check("workers", workers)
    if starts is None:
        starts = molecule.positions[None]
    for start in starts:
        check_start(molecule.topology, molecule.system, start)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        exclusive_lock(folder / LOCK_FILE),
        using(usable_cpus() if workers is None else workers) as where,
    ):
        run = _open_run(folder, molecule, protocol, starts, force)
        done = {entry["file"] for entry in run["trajectories"]}
        tasks = [
            task
            for task in _make_tasks(molecule, protocol, starts, fragment)
            if trajectory_path(folder, task.index).name not in done
        ]
        max_seconds = 60 * max_minutes * where.count() / protocol.trajectories
        topology = mdtraj.Topology.from_openmm(molecule.topology)
        labels = residue_labels(molecule.topology)
        jobs = [
            TrajectoryJob(
                folder,
                task,
                topology,
                labels,
                Writes(checkpoint_seconds, min(where.count(), len(tasks))),
                checkpoint_seconds,
                max_seconds,
            )
            for task in tasks
        ]
        _run(folder, run, jobs, where, report)
    return run


def _run(
    folder: Path,
    run: RunRecord,
    jobs: list[TrajectoryJob],
    workers: Workers,
    report: Callable[[int], None] | None,
) -> None:
    """Run trajectories to their ends, and record each."""
    began, earlier = time.monotonic(), run["wall_seconds"]
    before = sum(entry["frames"] for entry in run["trajectories"])
    unrecorded = list(jobs)

    def look() -> None:
        for job in [job for job in unrecorded if job.is_done()]:
            unrecorded.remove(job)
            entry = job.record()
            run["trajectories"] = sorted([*run["trajectories"], entry], key=lambda e: e["file"])
            run["dropped_starts"] += entry["dropped_starts"]
            run["wall_seconds"] = round(earlier + time.monotonic() - began, 1)
            run["complete"] = len(run["trajectories"]) == run["protocol"]["trajectories"]
            write_run(folder, run)
        if report is not None:
            report(before + sum(job.frames for job in jobs))

    try:
        # What was finished when the last call was interrupted is only recorded.
        look()
        run_jobs(workers, jobs, look)
    finally:
        # Checkpoints stay: with them the trajectories can be made longer.
        for job in jobs:
            job.flush()


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
    molecule: MolecularSystem,
    protocol: Protocol,
    starts: NDArray[np.float64],
    fragment: Fragment | None = None,
) -> list[TrajectoryTask]:
    system = serialize_system(molecule.system)
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    return [
        TrajectoryTask(
            new_key(),
            index,
            spawned_seed(protocol.seed, index),
            protocol,
            system,
            atoms,
            molecule.positions,
            starts[index % len(starts)],
            fragment,
        )
        for index in range(protocol.trajectories)
    ]
