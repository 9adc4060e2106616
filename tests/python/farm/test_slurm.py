"""The recipe for SLURM, with commands of the same names that run jobs here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mdtraj
import numpy as np
import pytest

from timewarp_openmm import pretrained
from timewarp_openmm.farm.record import STARTS_FILE
from timewarp_openmm.simulation.systems import load_molecule, structure_file
from timewarp_openmm.stored import write_arrays

ROOT = Path(__file__).parents[3]
#: Keeps the job's script, which is removed soon, runs it, and prints what sbatch does.
SBATCH = """#!/bin/bash
cp "$1" "$JOBS/script"
setsid bash "$JOBS/script" > "$JOBS/log" 2>&1 < /dev/null &
echo $! > "$JOBS/pid"
echo "Submitted batch job 1"
"""
SCANCEL = """#!/bin/bash
kill -- -$(cat "$JOBS/pid")
"""


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a machine with SLURM."""
    tools, jobs = tmp_path / "bin", tmp_path / "jobs"
    jobs.mkdir()
    tools.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    yield {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "JOBS": str(jobs)}
    if (jobs / "pid").exists():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int((jobs / "pid").read_text()), signal.SIGKILL)


def test_chains_on_workers_that_slurm_started(slurm: dict[str, str], tmp_path: Path) -> None:
    recipe = subprocess.Popen(
        [
            sys.executable,
            ROOT / "examples" / "slurm_workers.py",
            "--jobs",
            "1",
            "--walltime",
            "1:00",
        ],
        env=slurm,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert recipe.stdout is not None
    try:
        address = recipe.stdout.readline().removeprefix("scheduler: ").strip()
        assert "worker" in recipe.stdout.readline()
        script = (tmp_path / "jobs" / "script").read_text()
        assert "#SBATCH -t 1:00" in script
        assert "--nthreads 1" in script
        pdb = structure_file("alanine-dipeptide")
        out = tmp_path / "chains"
        out.mkdir()
        molecule = load_molecule(pdb, ["amber99sbildn.xml", "amber99_obc.xml"])
        write_arrays(out / STARTS_FILE, {"positions": np.stack([molecule.positions] * 2)})
        words = ["--model", pretrained("alanine-dipeptide"), "--pdb", pdb, "--out", out]
        words += ["--steps", "20", "--interval", "2", "--chains", "2", "--scheduler", address]
        program = [sys.executable, "-m", "timewarp_openmm.cli", "sample"]
        done = subprocess.run([*program, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for number in range(2):
            assert mdtraj.load(str(out / f"chain-{number:03d}.h5")).n_frames == 10
    finally:
        recipe.communicate("\n", timeout=60)
