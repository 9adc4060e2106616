"""What a fit may take, what its parts cost on this machine, and how the time is shared out."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ..flows.base import FlowConfig
from ..flows.internal.config import InternalFlowConfig
from ..flows.registry import build_flow
from ..molecule.graph import molecule_from_topology
from ..potentials.serialization import serialize_system
from ..simulation.explore import ExploreSettings
from ..simulation.short_runs import measure_speed
from ..simulation.systems import MolecularSystem
from ..workers.base import Workers
from ..workers.opening import using

#: Energy evaluations that minimising a frame of a hot walker takes, about.
MINIMISE_EVALUATIONS = 350
#: ps of each hot walker, below which exploring finds nothing.
LEAST_WALK = 2.0
#: ps; time step of all dynamics here.
TIMESTEP = 0.001
#: Positions of atoms in all frames together; training takes some 50 bytes for each.
MOST_POSITIONS = 8_000_000
#: States of a training step.
TRAINED_STATES = 512
#: Networks for longer fits, and how many times as long a step then takes
#: (`benchmarks/network_sizes.py`).
LARGER = {"rotatable_layers": 6, "rotatable_hidden": 128, "stiff_layers": 8, "stiff_hidden": 192}
LARGER_COST = 1.65


class FitBudget(BaseModel):
    """How much of everything a fit takes.

    Attributes
    ----------
    least_minutes : float
        No fit is tried in less.
    explore_share, simulate_share, train_share : float
        Of the time; what one leaves over goes to refining.
    simulate_patience : float
        A machine that has become busy since its speed was measured gets so much longer to simulate.
    minutes_per_round : float
        Of refining: shorter rounds cost more by the learning rate's fall and rise than they bring.
    most_rounds : int
    refine_rate : float
        Learning rate of the first round.
    larger_steps : int
        Steps of refining that larger networks must be given, so that they are worth their time.
    runs_per_basin : int
        Trajectories that start in each basin; the last of them is held out.
    least_basins, most_basins : int
        Kept, of those that are found; molecules of up to 25 atoms keep two thirds of the most.
    equilibration, shortest : float
        ps before a trajectory's first frame; least length of a walker and of a trajectory.
    most_frames : int
        That are worth keeping.
    speed_seconds : float
        Long enough to see what else the machine is busy with.
    least_steps : int
        Of training, below which it is not worth beginning.
    least_draws, most_draws : int
        With which the flow is measured before and after each round of refining.
    chains, iterations : int
        Of the measurement that goes into the card.
    relaxation : float
        ps from a minimum to the start of such a chain.
    export_starts : float
        Time for writing the model file, twice, and checking it, in starts of a worker: both are
        slowed down alike by whatever else the machine does.
    least_acceptance, least_in_place : float
        Below it a fit has failed and no model is written; of a fragment among atoms that leave it
        little room, much less is worth having.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    least_minutes: NonNegativeFloat = 1.0
    explore_share: float = Field(default=0.07, gt=0, lt=0.5)
    simulate_share: float = Field(default=0.12, gt=0, lt=0.5)
    train_share: float = Field(default=0.1, gt=0, lt=0.5)
    simulate_patience: float = Field(default=1.5, ge=1)
    minutes_per_round: PositiveFloat = 6.0
    most_rounds: PositiveInt = 3
    refine_rate: PositiveFloat = 5e-4
    larger_steps: PositiveInt = 1500
    runs_per_basin: int = Field(default=4, ge=2)
    least_basins: PositiveInt = 3
    most_basins: PositiveInt = 24
    equilibration: NonNegativeFloat = 5.0
    shortest: PositiveFloat = 10.0
    most_frames: PositiveInt = 60_000
    speed_seconds: PositiveFloat = 3.0
    least_steps: PositiveInt = 100
    least_draws: PositiveInt = 2000
    most_draws: PositiveInt = 16_000
    chains: int = Field(default=8, ge=2)
    iterations: PositiveInt = 1000
    relaxation: PositiveFloat = 5.0
    export_starts: NonNegativeFloat = 6.0
    least_acceptance: float = Field(default=0.01, ge=0, lt=1)
    least_in_place: float = Field(default=0.001, ge=0, lt=1)

    def basins_for(self, num_atoms: int) -> int:
        """Return how many basins are kept at most: flexible molecules have more of them."""
        return self.most_basins if num_atoms > 25 else max(1, 2 * self.most_basins // 3)

    def frames_for(self, num_atoms: int) -> int:
        """Return how many frames are kept at most: fewer where there are many atoms."""
        return min(self.most_frames, MOST_POSITIONS // num_atoms)


@dataclass(frozen=True)
class Costs:
    """What was measured of this molecule on this machine.

    Attributes
    ----------
    ps_per_second : float
        Simulated by each worker, all at work.
    seconds_per_draw, seconds_per_step : float
        Of the flow, and of training it with `TRAINED_STATES`, on one thread.
    seconds_to_start : float
        Of a worker process.
    """

    ps_per_second: float
    seconds_per_draw: float
    seconds_per_step: float
    seconds_to_start: float

    @property
    def seconds_per_energy(self) -> float:
        return TIMESTEP / self.ps_per_second

    def of_larger_networks(self) -> Costs:
        """Return about what it costs with networks of the sizes `LARGER`."""
        return replace(
            self,
            seconds_per_draw=LARGER_COST * self.seconds_per_draw,
            seconds_per_step=LARGER_COST * self.seconds_per_step,
        )


def measure_costs(
    molecule: MolecularSystem,
    workers: int | Workers,
    budget: FitBudget,
    flow: FlowConfig | None = None,
) -> Costs:
    """Measure what the parts of a fit cost; of the flow as it is by default, or another."""
    system, positions = serialize_system(molecule.system), molecule.positions
    arguments = (system, positions, TIMESTEP, budget.speed_seconds)
    with using(workers) as where:
        pieces = [
            where.submit(measure_speed, *arguments, name="measure speed")
            for _ in range(where.count())
        ]
        speed = float(np.mean([piece.result() for piece in pieces]))
    draw, step = _measure_flow(molecule, flow or InternalFlowConfig(), budget.speed_seconds)
    return Costs(speed, draw, step, _measure_start())


def _measure_start() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import numpy, openmm"], check=True)
    return time.monotonic() - began


def _measure_flow(
    molecule: MolecularSystem, config: FlowConfig, seconds: float
) -> tuple[float, float]:
    """Return the seconds of a draw among many, and of a training step."""
    flow = build_flow(config, molecule_from_topology(molecule.topology, molecule.system))
    reference = torch.tensor(molecule.positions - molecule.positions.mean(0), dtype=torch.float32)
    # Any spread will do for timing; a little one leaves no coordinate's range.
    shaken = reference + 1e-3 * torch.randn(64, *reference.shape)
    flow.fit_normalisation(shaken, torch.ones(len(shaken)))
    states = reference.expand(TRAINED_STATES, -1, -1)
    lag = torch.full((TRAINED_STATES,), math.inf)

    def draw() -> None:
        with torch.no_grad():
            flow.sample(reference, torch.randn(TRAINED_STATES, flow.noise_size), lag)

    def step() -> None:
        w = torch.zeros_like(states)
        loss = -flow.log_prob(states, w, states[:1], lag).mean()
        torch.autograd.backward(loss)

    return _time(draw, seconds / 3) / TRAINED_STATES, _time(step, seconds / 3)


def _time(work: Callable[[], None], seconds: float) -> float:
    """Return the seconds of one call; the first one, which sets things up, is not counted."""
    work()
    began, calls = time.monotonic(), 0
    while calls == 0 or time.monotonic() - began < seconds:
        work()
        calls += 1
    return (time.monotonic() - began) / calls


def network_sizes(budget: FitBudget, costs: Costs, minutes: float) -> dict[str, int]:
    """Return what the networks of a whole fit's flow have instead of the defaults.

    Parameters
    ----------
    costs : Costs
        With the default flow.
    minutes : float
        Of the whole fit.
    """
    left = 1 - budget.explore_share - budget.simulate_share - budget.train_share
    step = costs.seconds_per_step + TRAINED_STATES * costs.seconds_per_draw
    steps = 60 * minutes * left / (LARGER_COST * step)
    return dict(LARGER) if steps >= budget.larger_steps else {}


@dataclass(frozen=True)
class LeastTimes:
    """Seconds that each stage takes at the least."""

    explore: float
    simulate: float
    train: float
    refine: float
    export: float

    @property
    def total(self) -> float:
        return self.remaining("explore")

    def remaining(self, stage: str) -> float:
        """Return the seconds of a stage and of those that come after it."""
        times: dict[str, float] = asdict(self)
        return sum(list(times.values())[list(times).index(stage) :])

    def of(self, stage: str) -> float:
        """Return the seconds of one stage."""
        return float(getattr(self, stage))

    def of_a_later_pass(self) -> LeastTimes:
        """Return the times of a pass that takes up where another has ended."""
        return replace(self, explore=0.0, train=0.0)


def least_times(budget: FitBudget, costs: Costs, workers: int) -> LeastTimes:
    """Return the seconds below which a stage does nothing worth doing."""
    energy, all_workers = costs.seconds_per_energy, costs.ps_per_second * workers
    runs = budget.least_basins * budget.runs_per_basin
    per_picosecond = 1 / TIMESTEP + MINIMISE_EVALUATIONS
    overhead = training_overhead(costs)
    measurement = budget.least_draws * (costs.seconds_per_draw + energy / workers)
    return LeastTimes(
        explore=ExploreSettings.walkers * LEAST_WALK * per_picosecond * energy / workers,
        simulate=costs.seconds_to_start
        + runs * (budget.equilibration + budget.shortest) / all_workers,
        train=budget.least_steps * costs.seconds_per_step + overhead,
        refine=costs.seconds_to_start
        + 2 * measurement
        + budget.least_steps * costs.seconds_per_step
        + overhead,
        export=export_seconds(budget, costs, workers, iterations=min(100, budget.iterations)),
    )


def training_overhead(costs: Costs) -> float:
    """Return about what a training takes beside its steps: workers, data and the last test."""
    energies = 2000 * (costs.seconds_per_draw + costs.seconds_per_energy)
    return 2 * costs.seconds_to_start + energies + 8 * costs.seconds_per_step


def export_seconds(
    budget: FitBudget, costs: Costs, workers: int, iterations: int | None = None
) -> float:
    """Return about how long writing and measuring the model takes."""
    energy = costs.seconds_per_energy
    steps = budget.chains * (iterations or budget.iterations)
    relaxing = budget.chains * budget.relaxation / TIMESTEP * energy / workers
    # Proposals come in batches, some of which are for nothing.
    writing = budget.export_starts * costs.seconds_to_start
    return writing + relaxing + steps * (energy + 2 * costs.seconds_per_draw)


def describe_minutes(seconds: float) -> str:
    """Return a time in minutes, rounded up.

    Examples
    --------
    >>> describe_minutes(61.0), describe_minutes(1234.0)
    ('1.1', '21')
    """
    minutes = seconds / 60
    return f"{math.ceil(10 * minutes) / 10:g}" if minutes < 10 else f"{math.ceil(minutes)}"
