"""Proposals per second of the Cartesian flow, forward and reverse density included.

Runs the scripted and frozen module through TorchScript's plain interpreter, as the integrator does:
one `sample` from one state, and one `log_prob` of the way back, each entry from its own proposal.

    python benchmarks/flow_speed.py [--batch 64] [--threads 2] [--seconds 10]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import torch

from timewarp_openmm.flows import CartesianFlowConfig, build_flow
from timewarp_openmm.molecule import Molecule

#: Alanine dipeptide.
ELEMENTS = tuple("HCHHCONHCHCHHHCONHCHHH")


def make_model() -> tuple[torch.jit.ScriptModule, int, int]:
    """Return the model, its number of parameters and its noise size."""
    atoms = len(ELEMENTS)
    molecule = Molecule(
        ELEMENTS, ("ALA",) * atoms, (0,) * atoms, ELEMENTS, (1.0,) * atoms, bonds=()
    )
    torch.manual_seed(1)
    flow = build_flow(CartesianFlowConfig(), molecule).eval()
    for parameter in flow.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    size = sum(parameter.numel() for parameter in flow.parameters())
    model = torch.jit.freeze(
        torch.jit.script(flow), preserved_attrs=["sample", "log_prob", "invert"]
    )
    return model, size, flow.noise_size


def seconds_of(work: Callable[[], object]) -> tuple[float, float]:
    """Return the wall-clock and the processor time of one call, in s."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    model, size, noise_size = make_model()
    x = 0.2 * torch.randn(len(ELEMENTS), 3)
    noise = torch.randn(options.batch, noise_size)
    lag = torch.full((options.batch,), 2.0)
    back = x.unsqueeze(0).repeat(options.batch, 1, 1)

    def propose() -> None:
        y, w, _ = model.sample(x, noise, lag)
        model.log_prob(back, w, y, lag)

    times: list[tuple[float, float]] = []
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        end = time.perf_counter() + options.seconds
        while time.perf_counter() < end or len(times) < 3:
            times.append(seconds_of(propose))
        forward = min(seconds_of(lambda: model.sample(x, noise, lag))[0] for _ in range(10))
    wall = sorted(t[0] for t in times)
    rates = {"best": wall[0], "median": wall[len(wall) // 2]}
    print(f"{size:,} parameters, batch {options.batch}, {options.threads} threads")
    for name, value in rates.items():
        print(f"{name:>8}: {options.batch / value:,.0f} proposals/s ({1e3 * value:.1f} ms a batch)")
    print(f"forward density alone, best: {options.batch / forward:,.0f} /s")
    print(
        f"processor time, best: {1e6 * min(t[1] for t in times) / options.batch:.0f} us a proposal"
    )
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
