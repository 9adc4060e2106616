"""Build, test and measure the plugin on a GPU, in one go, and print one table.

    python benchmarks/gpu_check.py --out gpu.md

It needs no network, only a C++ compiler and what is in the Python environment it runs in: openmm
with its CUDA platform, torch (a CUDA build), pybind11, nlohmann-json, cmake, ninja, pytest,
pytest-xdist, openmmtools, scipy, pymbar and the package's dependencies with the extra ``analysis``.
``--platform OpenCL`` does the same with OpenCL, with or without a GPU.

At the end three Systems are sampled beside LangevinMiddleIntegrator, in turns, for --minutes each:
alanine dipeptide (effective samples), capped valine in water (changes of chi1) and T4 lysozyme
(changes of rotamers). ``--measure-only --seconds 0.7 --memory-steps 10000`` takes less than ten
minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openmm

    from timewarp_openmm import TimewarpMCMCIntegrator
    from timewarp_openmm.simulation.systems import MolecularSystem

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "gpu"
BATCH_SIZES = (1, 4, 16, 64, 256, 1024)
#: Of the Langevin dynamics that is measured for comparison / ps.
LANGEVIN_STEP = 0.002
#: Steps over which device memory must not grow by more than so much / MB, after others to warm up.
MEMORY_STEPS = 100_000
MEMORY_WARM_UP = 5_000
MEMORY_GROWTH = 8.0


def run(title: str, command: list[str], environment: dict[str, str]) -> str:
    """Run a command and return one line for the table; go on if it fails."""
    print(f"== {title}: {' '.join(command)}", flush=True)
    began = time.perf_counter()
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    result = "passed" if status == 0 else f"FAILED ({status})"
    return f"| {title} | {result}, {time.perf_counter() - began:.0f} s |"


def build_and_test(platform: str, jobs: int, environment: dict[str, str]) -> list[str]:
    """Build the plugin into the source tree and run the tests of one platform, some at a time."""
    names = {"CUDA": "TestCuda", "OpenCL": "TestOpenCL"}
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DTIMEWARP_BUILD_TESTS=ON"]
    options += ["-DTIMEWARP_BUILD_BENCHMARKS=ON", f"-DTIMEWARP_TEST_{platform.upper()}=ON"]
    configure = ["cmake", "-S", ".", "-B", str(BUILD), "-G", "Ninja", *options]
    tests = ["ctest", "--test-dir", str(BUILD), "--output-on-failure", "--parallel", str(jobs)]
    python_tests = [sys.executable, "-m", "pytest", "tests/python", "-q", "-n", str(jobs)]
    python_tests += ["-k", platform]
    return [
        run("configure", [*configure, f"-DPython_EXECUTABLE={sys.executable}"], environment),
        run("build", ["cmake", "--build", str(BUILD)], environment),
        run("install", ["cmake", "--install", str(BUILD), "--prefix", "python"], environment),
        run("C++ tests", [*tests, "-R", f"models|{names[platform]}"], environment),
        run("Python tests", python_tests, {**environment, "TIMEWARP_TEST_PLATFORMS": platform}),
    ]


def rate(work: Callable[[int], None], seconds: float) -> float:
    """Return how often a second something is done, after a first call that warms up."""
    work(10)
    count = 10
    while True:
        began = time.perf_counter()
        work(count)
        took = time.perf_counter() - began
        if took > seconds:
            return count / took
        count = int(count * min(10.0, 1.2 * seconds / max(took, 1e-6))) + 1


def flow_rate(model: Path, device: str, batch: int, seconds: float) -> float:
    """Return proposals with both densities per second, computed by torch alone."""
    import torch

    from timewarp_openmm import read_metadata

    metadata = read_metadata(model)
    flow = torch.jit.load(str(model), map_location=device)
    x = torch.tensor(metadata.reference_positions, dtype=torch.float32, device=device)
    lag = torch.full((batch,), metadata.lag_times[0], device=device)

    def propose(count: int) -> None:
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            for _ in range(count):
                noise = torch.randn(batch, metadata.noise_size, device=device)
                y, w, log_q = flow.sample(x, noise, lag)
                if torch.isfinite(lag[0]):
                    flow.log_prob(x.expand_as(y), w, y, lag)
                log_q.cpu()

    return batch * rate(propose, seconds)


@dataclass(frozen=True)
class Bench:
    """Alanine dipeptide with the bundled flow on one platform."""

    molecule: MolecularSystem
    platform: openmm.Platform
    precision: str
    seconds: float

    def context(self, integrator: openmm.Integrator) -> openmm.Context:
        import openmm

        properties = {"Precision": self.precision}
        made = openmm.Context(self.molecule.system, integrator, self.platform, properties)
        made.setPositions(self.molecule.positions)
        return made

    def iterations_per_second(self, batch: int, graphs: bool) -> tuple[float, str]:
        """Return the integrator's speed, and where the flow runs."""
        integrator = sampler(batch, graphs)
        kept = self.context(integrator)
        speed, device = rate(integrator.step, self.seconds), integrator.getModelDevice()
        del kept
        return speed, device

    def device_memory(self, graphs: bool, steps: int) -> str:
        """Return a line for the table: by how much device memory grows in many steps."""
        import torch

        which = " with CUDA graphs" if graphs else ""
        title = f"| device memory over {steps:,} steps{which} |"
        if not torch.cuda.is_available():
            return f"{title} not measured: torch has no CUDA here |"
        integrator = sampler(64, graphs)
        kept = self.context(integrator)
        integrator.step(MEMORY_WARM_UP)
        before = torch.cuda.mem_get_info()[0]
        integrator.step(steps)
        after = torch.cuda.mem_get_info()[0]
        del kept
        result = "passed" if before - after <= 1e6 * MEMORY_GROWTH else "FAILED"
        return (
            f"{title} {result}: free {before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB after; "
            f"{MEMORY_GROWTH:g} MB allowed |"
        )


def sampler(batch: int, graphs: bool) -> TimewarpMCMCIntegrator:
    from timewarp_openmm import TimewarpMCMCIntegrator, pretrained

    made = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    made.setBatchSize(batch)
    made.setRandomNumberSeed(1)
    made.setUseCudaGraphs(graphs)
    return made


def md_and_energies(bench: Bench) -> tuple[list[str], float]:
    """Return lines on the device and OpenMM's own speeds, and energies per second."""
    import openmm
    import torch
    from openmm import unit

    langevin = openmm.LangevinMiddleIntegrator(
        300 * unit.kelvin, 1 / unit.picosecond, LANGEVIN_STEP * unit.picoseconds
    )
    dynamics = bench.context(langevin)
    steps = rate(langevin.step, bench.seconds)

    def energies(count: int) -> None:
        for _ in range(count):
            dynamics.getState(energy=True).getPotentialEnergy()

    energy_rate = rate(energies, bench.seconds)
    device = bench.platform.getPropertyValue(dynamics, "DeviceName")
    lines = [
        f"| device | {device}, {bench.platform.getName()}, {bench.precision} |",
        f"| OpenMM, torch | {openmm.__version__}, {torch.__version__} |",
        f"| LangevinMiddleIntegrator, steps/s | {steps:,.0f} |",
        f"| energies/s (from Python) | {energy_rate:,.0f} |",
    ]
    return lines, energy_rate


def row_of_batch(bench: Bench, batch: int, energy_rate: float) -> str:
    """Return a line on one batch size, with the shares of flow, energy and all else."""
    from openmm import OpenMMException

    from timewarp_openmm import pretrained

    iterations, device = bench.iterations_per_second(batch, False)
    flow = flow_rate(Path(pretrained("alanine-dipeptide")), device, batch, bench.seconds)
    with_graphs = "-"
    if device != "cpu":
        try:
            with_graphs = f"{bench.iterations_per_second(batch, True)[0]:,.0f}"
        except OpenMMException as error:
            print(error)
            with_graphs = "FAILED"
    flow_share, energy_share = iterations / flow, iterations / energy_rate
    return (
        f"| {batch} | {iterations:,.0f} | {with_graphs} | {flow:,.0f} | {flow_share:.0%} "
        f"| {energy_share:.0%} | {1 - flow_share - energy_share:.0%} | {device} |"
    )


def measure(arguments: argparse.Namespace) -> Iterator[str]:
    """Measure alanine dipeptide with the bundled flow, and then with surrogate energies."""
    import many_energies
    import openmm

    from timewarp_openmm import pretrained
    from timewarp_openmm.simulation.systems import make_platform, named_molecule

    name, precision = arguments.platform, arguments.precision
    make_platform(name)
    molecule = named_molecule("alanine-dipeptide")
    platform = openmm.Platform.getPlatformByName(name)
    bench = Bench(molecule, platform, precision, arguments.seconds)
    lines, energy_rate = md_and_energies(bench)
    yield from lines
    yield ""
    yield (
        "| batch | iterations/s | with CUDA graphs | flow alone, proposals/s | flow | energy "
        "| rest | flow on |"
    )
    yield "| --- " * 8 + "|"
    rows = []
    for batch in BATCH_SIZES:
        rows.append(row_of_batch(bench, batch, energy_rate))
        yield rows[-1]
    yield ""
    model = Path(pretrained("alanine-dipeptide"))
    largest = BATCH_SIZES[-1] if "cuda" in rows[-1] else 64
    yield from many_energies.tables(
        name, precision, list(molecule.force_field), model, largest, arguments.seconds
    )
    yield ""
    graphs_work = "cuda" in rows[0] and "FAILED" not in rows[0]
    for graphs in (False, True) if graphs_work else (False,):
        yield bench.device_memory(graphs, arguments.memory_steps)


def beside_dynamics(
    platform: str, minutes: float, environment: dict[str, str], folder: Path
) -> Iterator[str]:
    """Sample three Systems beside LangevinMiddleIntegrator, and say what each makes a second."""
    from timewarp_openmm import pretrained
    from timewarp_openmm.library import open_library
    from timewarp_openmm.simulation.systems import structure_file

    def completed(title: str, command: list[object]) -> str | None:
        row = run(title, [str(part) for part in command], environment)
        return None if "passed" in row else row

    yield f"| beside LangevinMiddle, {minutes:g} min each, on {platform} | |"
    python, on = sys.executable, ("--platform", platform, "--minutes", minutes)
    title, out = "alanine dipeptide", folder / "alanine"
    command: list[object] = [python, "-m", "timewarp_openmm.cli", "benchmark", *on, "--out", out]
    command += ["--model", pretrained("alanine-dipeptide"), "--chains", 2]
    failed = completed(title, [*command, "--pdb", structure_file("alanine-dipeptide")])
    yield failed or f"| {title} | the table below |"
    tables = [] if failed else ["", *(out / "benchmark.md").read_text().splitlines()]
    title, out = "capped valine in water", folder / "valine.json"
    (entry,) = (e for e in open_library("amber14").entries if e.residue == "VAL")
    shutil.copy(entry.model, folder / "valine-dipeptide-sidechain.pt")
    command = [python, "benchmarks/moves.py", folder, *on, "--out", out, "--turn", 7]
    failed = completed(title, [*command, "--parts", "transitions", "--molecules", "valine"])
    yield failed or f"| {title} | {changes_of(out)} |"
    title, out = "T4 lysozyme in OBC2", folder / "lysozyme.json"
    command = [python, "benchmarks/protein_rotamers.py", "t4-lysozyme", *on, "--out", out]
    failed = completed(title, command)
    yield failed or f"| {title} | {rotamers_of(out)} |"
    yield from tables


def changes_of(path: Path) -> str:
    """Return changes of chi1 by each method in a file of moves.py."""
    rows = json.loads(path.read_text())["rows"]
    return "; ".join(f"{r['method']}: {r['changes']} in {r['seconds']:.0f} s" for r in rows)


def rotamers_of(path: Path) -> str:
    """Return changes of exposed rotamers by both methods in a file of protein_rotamers.py."""
    record = json.loads(path.read_text())
    seconds, exposed = record["seconds"], record["exposed"]
    error = "at least" if exposed["error"] is None else f"+- {exposed['error']:.2g},"
    theirs, own = exposed["changes of dynamics"], exposed["changes of blocks"]
    return (
        f"{exposed['residues']} exposed residues; LangevinMiddle: {theirs} in {seconds[0]:.0f} s; "
        f"with blocks: {own} in {seconds[1]:.0f} s; ratio {exposed['ratio']:.2g} ({error})"
    )


def main() -> None:
    """Do it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--platform", default="CUDA", choices=("CUDA", "OpenCL"))
    parser.add_argument("--precision", default="mixed", choices=("single", "mixed", "double"))
    parser.add_argument("--measure-only", action="store_true", help="neither build nor test")
    parser.add_argument("--jobs", type=int, default=4, help="tests at a time")
    parser.add_argument("--memory-steps", type=int, default=MEMORY_STEPS)
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=1.5, help="of each System beside dynamics")
    arguments = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    lines: list[str] = []

    def report(line: str) -> None:
        # At once, so that what is known is not lost with what fails.
        lines.append(line)
        print(line, flush=True)
        if arguments.out is not None:
            arguments.out.write_text("\n".join(lines) + "\n")

    report("| what | result |")
    report("| --- | --- |")
    if not arguments.measure_only:
        for line in build_and_test(arguments.platform, arguments.jobs, environment):
            report(line)
    sys.path.insert(0, str(ROOT / "python"))
    for line in measure(arguments):
        report(line)
    with tempfile.TemporaryDirectory() as folder:
        found = beside_dynamics(arguments.platform, arguments.minutes, environment, Path(folder))
        for line in found:
            report(line)
    if any("FAILED" in line for line in lines):
        raise SystemExit("something above has failed")


if __name__ == "__main__":
    main()
