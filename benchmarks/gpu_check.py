"""Build, test and measure the plugin on a GPU, in one go, and print one table.

    python benchmarks/gpu_check.py --out gpu.md

It needs no network, only a C++ compiler and what is in the Python environment it runs in: openmm
with its CUDA platform, torch (a CUDA build), pybind11, nlohmann-json, cmake, ninja, pytest and the
package's dependencies. ``--platform OpenCL`` does the same with OpenCL, with or without a GPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "gpu"
BATCH_SIZES = (1, 4, 16, 64, 256)
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


def build_and_test(platform: str, environment: dict[str, str]) -> list[str]:
    """Build the plugin into the source tree and run the tests of one platform."""
    names = {"CUDA": "TestCuda", "OpenCL": "TestOpenCL"}
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DTIMEWARP_BUILD_TESTS=ON"]
    options += ["-DTIMEWARP_BUILD_BENCHMARKS=ON", f"-DTIMEWARP_TEST_{platform.upper()}=ON"]
    configure = ["cmake", "-S", ".", "-B", str(BUILD), "-G", "Ninja", *options]
    tests = ["ctest", "--test-dir", str(BUILD), "--output-on-failure"]
    python_tests = [sys.executable, "-m", "pytest", "tests/python", "-q", "-k", platform]
    return [
        run("configure", [*configure, f"-DPython_EXECUTABLE={sys.executable}"], environment),
        run("build", ["cmake", "--build", str(BUILD)], environment),
        run("install", ["cmake", "--install", str(BUILD), "--prefix", "python"], environment),
        run("C++ tests", [*tests, "-R", f"models|{names[platform]}"], environment),
        run("Python tests", python_tests, {**environment, "TIMEWARP_TEST_PLATFORMS": platform}),
    ]


def rate(work: Callable[[int], None], seconds: float = 2.0) -> float:
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


def flow_rate(model: Path, device: str, batch: int) -> float:
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

    return batch * rate(propose)


def device_memory(work: Callable[[int], None], graphs: bool) -> str:
    """Return a line for the table: by how much device memory grows in many steps."""
    import torch

    which = " with CUDA graphs" if graphs else ""
    title = f"| device memory over {MEMORY_STEPS:,} steps{which} |"
    if not torch.cuda.is_available():
        return f"{title} not measured: torch has no CUDA here |"
    work(MEMORY_WARM_UP)
    before = torch.cuda.mem_get_info()[0]
    work(MEMORY_STEPS)
    after = torch.cuda.mem_get_info()[0]
    growth = (before - after) / 1e6
    result = "passed" if growth <= MEMORY_GROWTH else "FAILED"
    return (
        f"{title} {result}: free {before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB after; "
        f"{MEMORY_GROWTH:g} MB allowed |"
    )


def measure(platform: str, precision: str) -> list[str]:
    """Measure alanine dipeptide with the bundled flow."""
    import openmm
    import torch
    from openmm import unit

    from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
    from timewarp_openmm.data.systems import named_molecule

    alanine = named_molecule("alanine-dipeptide")
    chosen = openmm.Platform.getPlatformByName(platform)
    properties = {"Precision": precision}

    def context(integrator: openmm.Integrator) -> openmm.Context:
        made = openmm.Context(alanine.system, integrator, chosen, properties)
        made.setPositions(alanine.positions)
        return made

    langevin = openmm.LangevinMiddleIntegrator(
        300 * unit.kelvin, 1 / unit.picosecond, LANGEVIN_STEP * unit.picoseconds
    )
    dynamics = context(langevin)
    steps = rate(langevin.step)

    def energies(count: int) -> None:
        for _ in range(count):
            dynamics.getState(energy=True).getPotentialEnergy()

    energy_rate = rate(energies)
    lines = [
        f"| device | {chosen.getPropertyValue(dynamics, 'DeviceName')}, {platform}, {precision} |",
        f"| OpenMM, torch | {openmm.__version__}, {torch.__version__} |",
        f"| LangevinMiddleIntegrator, steps/s | {steps:,.0f} |",
        f"| energies/s (from Python) | {energy_rate:,.0f} |",
    ]

    def sampler(batch: int, graphs: bool) -> TimewarpMCMCIntegrator:
        made = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
        made.setBatchSize(batch)
        made.setRandomNumberSeed(1)
        made.setUseCudaGraphs(graphs)
        return made

    def measured(batch: int) -> str:
        integrator = sampler(batch, False)
        kept = context(integrator)
        iterations = rate(integrator.step)
        device = integrator.getModelDevice()
        flow = flow_rate(Path(integrator.getModelPath()), device, batch)
        del kept
        flow_share, energy_share = iterations / flow, iterations / energy_rate
        rest = 1 - flow_share - energy_share
        return (
            f"| {batch} | {iterations:,.0f} | {with_graphs(batch, device)} | {flow:,.0f} "
            f"| {flow_share:.0%} | {energy_share:.0%} | {rest:.0%} | {device} |"
        )

    def with_graphs(batch: int, device: str) -> str:
        if device == "cpu":
            return "-"
        integrator = sampler(batch, True)
        kept = context(integrator)
        try:
            return f"{rate(integrator.step):,.0f}"
        except openmm.OpenMMException as error:
            print(error)
            return "FAILED"
        finally:
            del kept

    table = [measured(batch) for batch in BATCH_SIZES]
    graphs_work = "cuda" in table[0] and "FAILED" not in table[0]
    for graphs in (False, True) if graphs_work else (False,):
        integrator = sampler(64, graphs)
        kept = context(integrator)
        lines.append(device_memory(integrator.step, graphs))
        del kept
    return [
        *lines,
        "",
        "| batch | iterations/s | with CUDA graphs | flow alone, proposals/s | flow | energy "
        "| rest | flow on |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *table,
    ]


def main() -> None:
    """Do it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--platform", default="CUDA", choices=("CUDA", "OpenCL"))
    parser.add_argument("--precision", default="mixed", choices=("single", "mixed", "double"))
    parser.add_argument("--measure-only", action="store_true", help="neither build nor test")
    parser.add_argument("--out", type=Path, help="file for the table")
    arguments = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    lines = ["| what | result |", "| --- | --- |"]
    if not arguments.measure_only:
        lines += build_and_test(arguments.platform, environment)
    sys.path.insert(0, str(ROOT / "python"))
    lines += measure(arguments.platform, arguments.precision)
    table = "\n".join(lines)
    print(table)
    if arguments.out is not None:
        arguments.out.write_text(table + "\n")
    if "FAILED" in table:
        raise SystemExit("something above has failed")


if __name__ == "__main__":
    main()
