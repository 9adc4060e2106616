"""Time and memory of `timewarp-openmm analyze` on long trajectories of alanine dipeptide.

    python benchmarks/analysis_speed.py [--frames 10000 100000 400000]

Each length is analysed in a process of its own, against a reference of the same length; prints
processor and wall seconds and the most memory it held. The trajectories are 2,000 frames of MD in
random order with a little noise: as many different frames as asked for, made in a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mdtraj
import numpy as np
import openmm

from timewarp_openmm.simulation.systems import named_molecule, structure_file

PDB = str(structure_file("alanine-dipeptide"))


def md_frames(frames: int = 2000) -> np.ndarray:
    """Return frames [F, 22, 3] / nm of MD at 310 K, 0.2 ps apart."""
    molecule = named_molecule("alanine-dipeptide")
    integrator = openmm.LangevinMiddleIntegrator(310, 1.0, 0.002)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(molecule.system, integrator, platform)
    context.setPositions(molecule.positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    kept = []
    for _ in range(frames):
        integrator.step(100)
        kept.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    return np.array(kept, dtype=np.float32)


def write(source: np.ndarray, frames: int, path: Path, seed: int) -> None:
    """Write so many frames in pieces."""
    rng = np.random.default_rng(seed)
    with mdtraj.formats.DCDTrajectoryFile(str(path), "w") as file:
        for start in range(0, frames, 10_000):
            rows = rng.integers(len(source), size=min(10_000, frames - start))
            noise = rng.normal(0, 0.0005, (len(rows), *source.shape[1:]))
            file.write((10 * (source[rows] + noise)).astype(np.float32))


def analyze(folder: Path, frames: int) -> dict[str, float]:
    """Run the command in a process of its own and return what it took."""
    arguments = [
        "analyze", "--topology", PDB, "--traj", str(folder / "chain.dcd"),
        "--reference", str(folder / "md.dcd"), "--out", str(folder / f"report-{frames}"),
        "--force-field", "amber99sbildn.xml", "--force-field", "amber99_obc.xml",
    ]  # fmt: skip
    code = f"import sys; sys.argv[1:] = {arguments!r}; from timewarp_openmm.cli import main; main()"
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError("analyze failed")
    return {
        "frames": frames,
        "wall_seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "memory_mb": round(usage.ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[10_000, 100_000, 400_000])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    source = md_frames()
    results = []
    for frames in options.frames:
        with tempfile.TemporaryDirectory() as name:
            write(source, frames, Path(name) / "chain.dcd", seed=1)
            write(source, frames, Path(name) / "md.dcd", seed=2)
            results.append(analyze(Path(name), frames))
        print(json.dumps(results[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
