"""Which conditioner, with or without auxiliary velocities, and which loss: the same data and time.

    python benchmarks/conditioner_comparison.py DATA [--minutes 4] [--lag 10] [--out FOLDER]
        [--populations-from MODEL] [--only NAME ...]

DATA is a folder of ``timewarp-openmm simulate``. Each flow is trained for the same *processor*
time: the time of a step is measured first, which tells how many steps that is, so that it does not
matter what else the machine does. Then acceptance is measured with the integrator in chains from
held-out states, for independent draws and for the finite lag, each alone. What is already in FOLDER
is not done again.

A first table compares conditioners and velocities, trained by likelihood for both lags. A second
one compares losses with which a flow of independent draws is trained on.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch

from timewarp_openmm import TimewarpMCMCIntegrator, read_metadata
from timewarp_openmm.energies.openmm_energy import OpenMMEnergy
from timewarp_openmm.flows import build_flow, export_model
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.losses.likelihood import Likelihood
from timewarp_openmm.losses.registry import LossConfig, losses
from timewarp_openmm.simulation.langevin import default_platform
from timewarp_openmm.simulation.run import SYSTEM_FILE
from timewarp_openmm.simulation.systems import load_system_xml
from timewarp_openmm.training.checkpoints import load_trained
from timewarp_openmm.training.config import (
    AugmentationConfig,
    DataConfig,
    TrainingConfig,
)
from timewarp_openmm.training.export import make_metadata
from timewarp_openmm.training.independence import draw
from timewarp_openmm.training.loop import Progress, train
from timewarp_openmm.trajectories.pairs import Trajectory, load_trajectories, split_by_trajectory
from timewarp_openmm.trajectories.weights import BasinMap, frame_weights, save_weights

INF = math.inf
CHAINS, ITERATIONS = 8, 500
#: Steps by which the time per step is measured.
CALIBRATION = 25
SEED = 1
LIKELIHOOD = losses(likelihood=1.0)


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is trained.

    Attributes
    ----------
    name : str
    flow : dict
        What differs from the default flow.
    loss : LossConfig
    finite : bool
        Whether it is trained for the finite lag as well as for independent draws.
    after : str, optional
        Name of the variant whose weights it starts from.
    """

    name: str
    flow: dict[str, Any]
    loss: LossConfig = LIKELIHOOD
    finite: bool = True
    after: str | None = None


VARIANTS = (
    Variant("mlp", {}),
    Variant("mlp, velocities", {"velocities": True}),
    Variant("attention", {"conditioner": "attention"}),
    Variant("attention, velocities", {"conditioner": "attention", "velocities": True}),
    Variant("independent", {}, finite=False),
    Variant("then likelihood", {}, finite=False, after="independent"),
    Variant(
        "then density regression",
        {},
        losses(regression=1.0),
        finite=False,
        after="independent",
    ),
    Variant(
        "then acceptance + entropy",
        {},
        losses(
            acceptance={"weight": 1.0, "proposals": 64},
            entropy={"weight": 1.0, "proposals": 64},
        ),
        finite=False,
        after="independent",
    ),
    Variant(
        "then likelihood + acceptance + entropy",
        {},
        losses(
            likelihood=1.0,
            acceptance={"weight": 0.3, "proposals": 32},
            entropy={"weight": 0.3, "proposals": 32},
        ),
        finite=False,
        after="independent",
    ),
)


def processor_seconds() -> float:
    """Return the processor time of this process and of its children, which may compute energies."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = time.process_time()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            if int(fields[1]) == os.getpid():
                total += (int(fields[11]) + int(fields[12])) / ticks
    return total


class Comparison:
    """Trains and measures the variants.

    Parameters
    ----------
    data, out : Path
    lag : float
        ps
    minutes : float
        Of processor time for each training.
    weights : Path, optional
        Of the frames.
    """

    def __init__(
        self, data: Path, out: Path, lag: float, minutes: float, weights: Path | None
    ) -> None:
        self._data, self._out, self._lag, self._minutes = data, out, lag, minutes
        self._weights = weights
        trajectories = load_trajectories(data).trajectories
        _, test = split_by_trajectory(trajectories, 0.2, SEED, None)
        self._starts = starts(test, CHAINS)
        self._system = load_system_xml(data / SYSTEM_FILE)

    def config(self, variant: Variant, steps: int) -> TrainingConfig:
        lags = (self._lag, INF) if variant.finite else (INF,)
        own = not any(isinstance(loss, Likelihood) for loss in variant.loss.used())
        return TrainingConfig(
            flow=InternalFlowConfig(lag_times=lags, **variant.flow),
            data=DataConfig(folder=self._data, frame_weights=self._weights),
            augmentation=AugmentationConfig(permute_hydrogens=False),
            loss=variant.loss,
            lag_times=lags,
            batch_size=512,
            max_steps=steps,
            learning_rate=1e-3 if variant.after is None else 5e-4,
            gradient_clip=10.0,
            # Test likelihood picks the weights, but of a flow that learns from the energy it says
            # nothing.
            evaluation_interval=steps if own else max(1, steps // 8),
            patience=0,
            seed=SEED,
        )

    def seconds_per_step(self, variant: Variant) -> float:
        """Return the processor time of one step."""
        times: list[float] = []

        def report(done: float, progress: Progress) -> None:
            times.append(processor_seconds())

        config = self.config(variant, CALIBRATION)
        train(config, self._out / "calibration", True, report=report, initial=self._first(variant))
        return statistics.median(b - a for a, b in itertools.pairwise(times))

    def _first(self, variant: Variant) -> Any:
        return None if variant.after is None else load_trained(self._run(variant.after)).weights

    def _run(self, name: str) -> Path:
        return self._out / name.replace(" ", "-").replace(",", "").replace("+", "and")

    def do(self, variant: Variant) -> dict[str, Any]:
        """Train and measure one variant, unless that has been done."""
        run = self._run(variant.name)
        result = run / "result.json"
        if result.exists():
            return dict(json.loads(result.read_text()))
        seconds = self.seconds_per_step(variant)
        steps = max(1, round(60 * self._minutes / seconds))
        train(self.config(variant, steps), run, True, initial=self._first(variant))
        trained = load_trained(run)
        flow = build_flow(trained.config.flow, trained.provenance.molecule)
        flow.load_state_dict(trained.weights)
        found: dict[str, Any] = {
            "name": variant.name,
            "parameters": sum(p.numel() for p in flow.parameters() if p.requires_grad),
            "steps": steps,
            "ms_per_step": 1e3 * seconds,
            "test_log_likelihood": trained.test_log_likelihood,
        }
        metadata = make_metadata(trained, flow, "MIT")
        for lag in trained.config.lag_times:
            alone = dataclasses.replace(metadata, lag_times=[lag], lag_weights=[1.0])
            path = export_model(flow, alone, run / f"lag-{lag:g}.pt", overwrite=True)
            found[f"{lag:g}"] = self.measure(path)
        result.write_text(json.dumps(found, indent=1) + "\n")
        return found

    def measure(self, model: Path) -> dict[str, float]:
        """Return acceptance, its error, and processor time per iteration / us in chains."""
        platform = openmm.Platform.getPlatformByName(default_platform(len(self._starts[0])))
        rates, used = [], 0.0
        for chain, start in enumerate(self._starts):
            integrator = TimewarpMCMCIntegrator(model)
            integrator.setRandomNumberSeed(SEED + chain)
            context = openmm.Context(self._system, integrator, platform)
            context.setPositions(start)
            integrator.step(1)
            began = time.process_time()
            integrator.step(ITERATIONS)
            used += time.process_time() - began
            rates.append(integrator.getAcceptanceRate())
        return {
            "acceptance": float(np.mean(rates)),
            "error": float(np.std(rates, ddof=1) / math.sqrt(CHAINS)),
            "lowest": min(rates),
            "us": 1e6 * used / (CHAINS * ITERATIONS),
        }


def starts(trajectories: Sequence[Trajectory], count: int) -> list[np.ndarray[Any, Any]]:
    """Return states spread over trajectories."""
    chosen = [trajectories[i % len(trajectories)] for i in range(count)]
    places = np.linspace(0.1, 0.9, count)
    return [
        np.asarray(t.positions[int(where * len(t.positions))], dtype=float)
        for t, where in zip(chosen, places, strict=True)
    ]


def write_weights(data: Path, model: Path, path: Path) -> None:
    """Weigh frames by basins' populations, which are those of a model's weighted draws."""
    found = load_trajectories(data)
    metadata = read_metadata(model)
    energy = OpenMMEnergy(load_system_xml(data / SYSTEM_FILE), metadata.temperature, "Reference")

    class Flow:
        sample = torch.jit.load(str(model)).sample
        noise_size = metadata.noise_size

    reference = torch.from_numpy(np.asarray(found.trajectories[0].positions[0], dtype=float))
    draws = draw(Flow, energy, reference, 8000, torch.Generator().manual_seed(SEED))
    frames = np.concatenate([t.positions for t in found.trajectories])
    basins = BasinMap.of_frames(found.molecule, frames, SEED)
    usable = np.isfinite(draws.log_weights)
    shares = basins.populations(draws.positions[usable], draws.weights()[usable])
    save_weights(path, frame_weights(found.trajectories, basins, shares))


def row(found: dict[str, Any], lags: Sequence[float]) -> str:
    """Return one line of a Markdown table."""
    cells = [
        found["name"],
        f"{found['parameters'] / 1e3:.0f} k",
        f"{found['ms_per_step']:.0f} ms",
        f"{found['steps']}",
        f"{found['test_log_likelihood']:.2f}",
    ]
    for lag in lags:
        chain = found[f"{lag:g}"]
        cells.append(f"{chain['acceptance']:.1%} +- {chain['error']:.1%}")
        cells.append(f"{chain['us']:.0f} us")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=4.0, help="processor time of a training")
    parser.add_argument("--lag", type=float, default=10.0, help="ps")
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    parser.add_argument("--populations-from", type=Path, help="model that basins are weighed by")
    parser.add_argument("--only", nargs="*", help="names of variants")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    weights = None
    if options.populations_from is not None:
        weights = options.out / "weights.npz"
        if not weights.exists():
            write_weights(options.data, options.populations_from, weights)
    comparison = Comparison(options.data, options.out, options.lag, options.minutes, weights)
    for finite in (True, False):
        lags = (options.lag, INF) if finite else (INF,)
        heads = "".join(f" at {lag:g} ps | per iteration |" for lag in lags)
        print(f"| flow | parameters | step | steps | test log q |{heads}", flush=True)
        print("| --- " * (5 + 2 * len(lags)) + "|", flush=True)
        for variant in VARIANTS:
            if variant.finite == finite and (not options.only or variant.name in options.only):
                print(row(comparison.do(variant), lags), flush=True)


if __name__ == "__main__":
    main()
