"""Killed processes, full disks, broken files: what is written holds, what is broken is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import chains
import mdtraj
import numpy as np
import openmm
import pytest
from chains import Chain, positions_of, record, resume
from openmm import app

from timewarp_openmm import pretrained
from timewarp_openmm.simulation.systems import named_molecule, structure_file
from timewarp_openmm.training.checkpoints import (
    BestCheckpoint,
    LastCheckpoint,
    load_checkpoint,
)

PDB = str(structure_file("alanine-dipeptide"))
SHORT = ["--interval", "0.1", "--equilibration", "0.1", "--trajectories", "2", "--workers", "1"]
HERE = Path(chains.__file__).parent


def command(*arguments: object) -> list[str]:
    """Return a command line of timewarp-openmm."""
    return [sys.executable, "-m", "timewarp_openmm.cli", *(str(a) for a in arguments)]


def sample_command(out: Path, steps: int) -> list[str]:
    model = pretrained("alanine-dipeptide")
    options = ("--pdb", PDB, "--steps", steps, "--out", out, "--interval", 1, "--seed", 7)
    return command("sample", "--model", model, *options)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something is so, while the process runs."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill_when(arguments: list[str], condition: Callable[[], bool]) -> None:
    """Start a process and kill it when something is so."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=HERE
    )
    try:
        wait_for(condition, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def run_with_file_limit(arguments: list[str], kibibytes: int) -> subprocess.CompletedProcess[str]:
    """Run a command that can write no file beyond a size: how a full disk looks to it."""
    script = f'ulimit -f {kibibytes}; exec "$@"'
    return subprocess.run(
        ["bash", "-c", script, "bash", *arguments], capture_output=True, text=True, check=False
    )


def check_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One message, exit code 2, no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_killed_while_sampling(tmp_path: Path) -> None:
    out = tmp_path / "out.dcd"
    kill_when(sample_command(out, 10**7), lambda: size(out) > 20_000)
    molecule = named_molecule("alanine-dipeptide")
    found = mdtraj.load(str(out), top=mdtraj.Topology.from_openmm(molecule.topology))
    frame = 3 * (22 * 4 + 8)
    assert found.n_frames >= (20_000 - 1000) // frame
    # The frames are those of a chain that nobody killed.
    simulation = Chain("alanine-dipeptide", chains.bundled(), "Reference", 0, seed=7).simulation()
    expected = record(simulation, found.n_frames)[:, 0]
    assert np.abs(found.xyz - expected).max() < 1e-6
    again = subprocess.run(sample_command(out, 1), capture_output=True, text=True, check=False)
    check_refused(again, "exists", "--force")


def test_killed_while_writing_checkpoints(models: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "run.chk"
    chain = Chain("wells", models["lags"], "Reference", 64, seed=9)
    code = (
        "import sys; from chains import Chain; from openmm import app;"
        f"simulation = {chain!r}.simulation();"
        f"simulation.reporters.append(app.CheckpointReporter({str(file)!r}, 1));"
        "simulation.step(10**9)"
    )
    began = []

    def some_time_after_the_first() -> bool:
        if file.exists() and not began:
            began.append(time.monotonic())
        return bool(began) and time.monotonic() > began[0] + 0.3

    kill_when([sys.executable, "-c", code], some_time_after_the_first)
    resumed, whole = chain.simulation(), chain.simulation()
    resume(resumed, str(file))
    assert resumed.currentStep > 1
    whole.integrator.step(resumed.currentStep)
    assert np.array_equal(record(resumed, 20), record(whole, 20))


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and the configuration of a training run that takes some seconds."""
    folder = tmp_path_factory.mktemp("training")
    short = ("--length", 1, *SHORT)
    simulate = command("simulate", "--pdb", PDB, *short, "--out", folder / "data")
    subprocess.run(simulate, check=True, capture_output=True)
    (folder / "c.yaml").write_text(
        "flow: {coordinates: cartesian, d_model: 8, num_coupling_layers: 2,"
        " num_transformer_layers: 1, length_scales: [0.2],"
        " mlp_hidden: [8], feedforward: 8, embedding_size: 4}\n"
        f"data: {{folder: {folder / 'data'}}}\nlag_times: [0.1]\nmax_steps: 150\n"
        "batch_size: 4\nevaluation_interval: 10\nevaluation_pairs: 4\n"
    )
    return folder


def without_times(metrics: Path) -> list[dict[str, object]]:
    """Return the lines of metrics.jsonl without what is not repeatable, NaN as text."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [
        {k: str(v) if v != v else v for k, v in x.items() if k not in ("seconds", "sha256")}
        for x in lines
    ]


def test_killed_while_training(training: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train = command("train", training / "c.yaml", "--out", run)
    lines = run / "metrics.jsonl"
    kill_when(train, lambda: (run / "last.ckpt").exists() and lines.read_text().count("\n") >= 3)
    reported = without_times(lines)[:3]
    for name, schema in (("best.ckpt", BestCheckpoint), ("last.ckpt", LastCheckpoint)):
        assert not (run / name).exists() or load_checkpoint(run / name, schema)
    done = subprocess.run(train, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "150 steps" in done.stdout
    # What was measured after the last checkpoint is measured again, with the same result.
    found = without_times(lines)
    assert found[:3] == reported
    assert [line["step"] for line in found] == list(range(10, 151, 10))


def test_full_disk_while_training_and_exporting(training: Path, tmp_path: Path) -> None:
    run, model = tmp_path / "run", tmp_path / "m.pt"
    train = command("train", training / "c.yaml", "--out", run)
    check_refused(run_with_file_limit(train, 8), "File too large", ".ckpt")
    assert not list(run.glob("*.ckpt"))
    done = subprocess.run(train, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    export = command("export", run, "--out", model)
    check_refused(run_with_file_limit(export, 8), "File too large", str(model))
    assert list(tmp_path.iterdir()) == [run]


CUT_MODELS = """
import sys
from pathlib import Path
from timewarp_openmm import cli
whole, folder = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
for part in (0.0, 0.1, 0.5, 0.9, 0.999):
    (folder / 'm.pt').write_bytes(whole[:int(part * len(whole))])
    try:
        sys.argv[1:] = ['sample', '--model', str(folder / 'm.pt'), *sys.argv[-6:]]
        cli.main()
    except SystemExit as stop:
        print(part, stop.code)
"""


def test_truncated_models(tmp_path: Path) -> None:
    """In a process of its own, so that a crash is seen."""
    options = ["--pdb", PDB, "--steps", "1", "--out", str(tmp_path / "o.dcd")]
    arguments = [pretrained("alanine-dipeptide"), str(tmp_path), *options]
    done = subprocess.run(
        [sys.executable, "-c", CUT_MODELS, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0.0 2", "0.1 2", "0.5 2", "0.9 2", "0.999 2"]
    assert done.stderr.count(str(tmp_path / "m.pt")) >= 5
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o.dcd").exists()


BROKEN = """
import sys, openmm
from chains import *
chain = Chain('wells', sys.argv[1], sys.argv[2], 64, 3)
simulation = chain.simulation()
simulation.step(30)
whole = simulation.context.createCheckpoint()
accepted = []
# OpenMM reads its own part first, without looking whether it is there: on the CPU platform, whose
# part ends with the generators of all threads, it may crash over that. Ours is the end.
first = 80 if sys.argv[2] == 'Reference' else len(whole) - 100
for size in list(range(first, len(whole), 7)) + [len(whole) - 1]:
    try:
        simulation.context.loadCheckpoint(whole[:size])
        accepted.append(size)
    except (openmm.OpenMMException, ValueError) as error:
        assert str(error)
print('accepted', accepted)
simulation.context.loadCheckpoint(whole)
simulation.step(3)
"""


def test_truncated_checkpoints(models: dict[str, str], platform: str) -> None:
    """In a process of its own, so that a crash is seen."""
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, models["lags"], platform],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["accepted []"]


def test_checkpoints_of_another_system(
    models: dict[str, str], platform: str, tmp_path: Path
) -> None:
    wells = Chain("wells", models["lags"], platform, 1).simulation()
    alanine = Chain("alanine-dipeptide", chains.bundled(), platform, 1).simulation()
    langevin = Chain("wells", models["lags"], platform, 1).simulation(
        openmm.LangevinMiddleIntegrator(300, 1.0, 0.001)
    )
    for name, simulation in (("alanine", alanine), ("langevin", langevin)):
        simulation.step(2)
        simulation.saveCheckpoint(str(tmp_path / f"{name}.chk"))
        simulation.saveState(str(tmp_path / f"{name}.xml"))
        with pytest.raises(openmm.OpenMMException, match="heckpoint"):
            resume(wells, str(tmp_path / f"{name}.chk"))
    with pytest.raises(openmm.OpenMMException, match="wrong number of positions"):
        resume(wells, str(tmp_path / "alanine.xml"))


def test_a_state_of_another_integrator_is_gone_on_with(
    models: dict[str, str], platform: str, tmp_path: Path
) -> None:
    """Equilibrate with dynamics, sample with jumps: one State file for both."""
    makers: list[Callable[[], openmm.Integrator]] = [
        lambda: openmm.LangevinMiddleIntegrator(300, 1.0, 0.001),
        lambda: openmm.NoseHooverIntegrator(300, 1.0, 0.001),
        lambda: openmm.CustomIntegrator(0.001),
    ]
    chain = Chain("wells", models["lags"], platform, 1)
    for maker in makers:
        dynamics: app.Simulation = chain.simulation(maker())
        dynamics.step(3)
        dynamics.saveState(str(tmp_path / "state.xml"))
        simulation = chain.simulation()
        simulation.step(5)
        resume(simulation, str(tmp_path / "state.xml"))
        expected = positions_of(dynamics.context)
        assert np.array_equal(positions_of(simulation.context), expected)
        simulation.step(5)
        assert simulation.currentStep == 8


def test_runs_branch_from_one_state_by_their_seeds(
    models: dict[str, str], platform: str, tmp_path: Path
) -> None:
    chain = Chain("wells", models["lags"], platform, 64, seed=5)
    first = chain.simulation()
    first.step(20)
    first.saveState(str(tmp_path / "state.xml"))
    frames = []
    for seed in (0, 0, 1, 2, 2):
        simulation = chain.simulation()
        resume(simulation, str(tmp_path / "state.xml"))
        simulation.integrator.setRandomNumberSeed(seed)
        frames.append(record(simulation, 20))
    assert np.array_equal(frames[0], frames[1])
    assert np.array_equal(frames[3], frames[4])
    assert not np.array_equal(frames[0], frames[2])
    assert not np.array_equal(frames[2], frames[3])
