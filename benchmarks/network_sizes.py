"""What states near the data and larger networks bring: the same steps of training for each.

    python benchmarks/network_sizes.py --work WORK [--molecule fenofibrate] [--likelihood 300]
        [--regression 1500] [--seeds 2] [--variants NAME ...] [--out F.json]

The molecule is fenofibrate with the force field of tests/python/generic_force_field.py (MMFF94's
bonded terms, Lennard-Jones, no charges), or one that comes with the package. Each variant is
trained for fixed numbers of steps on the same data: by likelihood, then by density regression.
Printed for each: the processor time of a step's gradient with 512 states on one thread, in turns
with the others; the acceptance of the flow's draws from states that were held out (trajectories of
their own, weighed by their basins' populations), which is the mean of min(1, w(y)/w(x)) over such
states x and draws y, w = p/q; the share of these states that fewer than 1 % of the draws replace;
and half the distance between the quartiles of log w over frames of the training and over held-out
ones, which tells what is known by heart. Means and standard errors over the seeds of training.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from latent_moves import NAME, molecule_of, with_error
from numpy.typing import NDArray
from records import write_record
from short_fits import ShortFit

from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.registry import build_flow
from timewarp_openmm.flows.weights import restore_weights
from timewarp_openmm.training.checkpoints import CHECKPOINT_REMEDY, TrainedFlow
from timewarp_openmm.training.data import prepare_data
from timewarp_openmm.training.energy import make_energy
from timewarp_openmm.training.independence import draw, log_weights_of
from timewarp_openmm.workflows.budget import LARGER, TRAINED_STATES

DRAWS, STATES = 4000, 2000
TURNS = 15
#: A state that fewer draws replace holds a chain up.
STUCK = 0.01


@dataclasses.dataclass(frozen=True)
class Variant:
    """A size of networks, and how many of a data state's latent numbers are drawn anew."""

    sizes: dict[str, Any]
    redrawn: float


VARIANTS = {
    "states as they are": Variant({}, 0.0),
    "states redrawn": Variant({}, 0.2),
    "larger": Variant(dict(LARGER), 0.2),
}


def measure(trained: TrainedFlow, seed: int) -> dict[str, float]:
    """Return the acceptance from held-out states, the share of states that are stuck, and how far
    log weights are spread over frames of the training and over held-out ones."""
    flow = build_flow(trained.config.flow, trained.provenance.molecule).eval()
    restore_weights(flow, trained.weights, trained.path, CHECKPOINT_REMEDY)
    energy = make_energy(trained.config, trained.provenance, 1)
    data = prepare_data(trained.config)
    generator = torch.Generator().manual_seed(seed)
    own = {}
    for name, part in (("training", data.train), ("held out", data.test)):
        frames, weights = part.frames()
        chosen = torch.multinomial(weights, STATES, replacement=True, generator=generator)
        states = frames[chosen].float()
        own[name] = log_weights_of(flow, energy, states)
    found = draw(flow, energy, states[0], DRAWS, generator).log_weights
    drawn = found[np.isfinite(found)]
    ratios = np.exp(np.minimum(0.0, drawn[None, :] - own["held out"][:, None])).mean(1)
    # Draws without an energy are rejected.
    ratios *= len(drawn) / DRAWS
    spreads = {f"spread, {name}": _spread(values) for name, values in own.items()}
    stuck = float((ratios < STUCK).mean())
    return {"acceptance": float(ratios.mean()), "stuck": stuck, **spreads}


def _spread(values: NDArray[np.float64]) -> float:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / 2


def step_times(fit: ShortFit) -> dict[str, float]:
    """Return the seconds of a gradient of each variant, of processor time and in turns."""
    positions = fit.molecule.positions - fit.molecule.positions.mean(0)
    reference = torch.tensor(positions, dtype=torch.float32)
    states = reference + 1e-3 * torch.randn(TRAINED_STATES, *reference.shape)
    lag = torch.full((TRAINED_STATES,), math.inf)
    flows = {}
    for name, variant in VARIANTS.items():
        flow = build_flow(InternalFlowConfig(**variant.sizes), fit.atoms)
        flow.fit_normalisation(states)
        flows[name] = flow
    times: dict[str, list[float]] = {name: [] for name in flows}
    for _ in range(TURNS):
        for name, flow in flows.items():
            began = time.process_time()
            loss = -flow.log_prob(states, torch.zeros_like(states), states[:1], lag).mean()
            torch.autograd.backward(loss)
            times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Train and measure all, print a table and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--molecule", default=NAME, help="or one that comes with the package")
    parser.add_argument("--likelihood", type=int, default=300)
    parser.add_argument("--regression", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    molecule = molecule_of(arguments.molecule)
    rows: dict[str, dict[str, Any]] = {}
    for name in arguments.variants:
        variant = VARIANTS[name]
        found = []
        for seed in range(1, arguments.seeds + 1):
            fit = ShortFit(
                molecule,
                arguments.work,
                InternalFlowConfig(**variant.sizes),
                name=f"{name.replace(' ', '-')}-{seed}-",
                regression={"redrawn": variant.redrawn},
                seed_of_training=seed,
            )
            found.append(measure(fit.train(arguments.likelihood, arguments.regression), seed))
        rows[name] = {
            **{key: with_error([each[key] for each in found]) for key in found[0]},
            "parameters": sum(p.numel() for p in build_flow(fit.flow, fit.atoms).parameters()),
        }
        print(name, json.dumps(rows[name]), flush=True)
    for name, seconds in step_times(fit).items():
        rows.setdefault(name, {})["seconds_per_gradient"] = seconds
        print(f"{name}: {1e3 * seconds:.0f} ms", flush=True)
    settings = {
        "molecule": arguments.molecule,
        "likelihood": arguments.likelihood,
        "regression": arguments.regression,
        "seeds": arguments.seeds,
    }
    write_record(arguments.out, settings, rows)


if __name__ == "__main__":
    main()
