"""What a fit for a potential may take, and what it is made of."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ..contract import read_metadata
from ..energies.reduced import ReducedEnergy
from ..flows.loading import load_module

#: Energies that minimising a start takes, about.
MINIMISE_EVALUATIONS = 200
#: Energies with which the cost of one is measured.
_MEASURED = 5
#: Proposals of a batch.
_TOGETHER = 64


class TargetBudget(BaseModel):
    """How the time of a fit for a potential is shared out.

    Attributes
    ----------
    force_field_share : float
        Of the time, for a flow of the force field.
    dynamics_share : float
        For short dynamics of the potential.
    energies_share, learn_share : float
        In each cycle, for the potential's energies of the flow's draws, and for learning from them
        what the force field lacks; what is left goes to refining.
    validate_share : float
        For the chains at the end.
    cycles : int
        Of drawing, learning and refining, in the first pass; each later pass adds one.
    runs_per_basin, least_basins : int
        Of dynamics: trajectories that start in each basin, of which the last is held out; basins
        are left out where the time allows no more than these.
    equilibration, shortest, interval, timestep : float
        ps, of dynamics.
    most_frames, most_draws, least_draws : int
        Whose energies are computed.
    refine_draws, refine_rounds : int
        With which a cycle refines.
    refine_rate : float
        Learning rate of the first cycle; each later one has 0.6 of the one before.
    chains, iterations : int
        Of the measurement that goes into the card.
    longest_subchain : int
        With the surrogate.
    least_acceptance : float
        Per energy of the potential; below it a fit has failed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    force_field_share: float = Field(default=0.3, gt=0, lt=1)
    dynamics_share: float = Field(default=0.1, gt=0, lt=1)
    energies_share: float = Field(default=0.1, gt=0, lt=1)
    learn_share: float = Field(default=0.04, gt=0, lt=1)
    validate_share: float = Field(default=0.07, gt=0, lt=1)
    cycles: PositiveInt = 2
    runs_per_basin: int = Field(default=2, ge=2)
    least_basins: PositiveInt = 3
    equilibration: NonNegativeFloat = 0.1
    shortest: PositiveFloat = 0.2
    interval: PositiveFloat = 0.02
    timestep: PositiveFloat = 0.001
    most_frames: PositiveInt = 3000
    most_draws: PositiveInt = 12_000
    least_draws: PositiveInt = 300
    refine_draws: PositiveInt = 6000
    refine_rounds: PositiveInt = 2
    refine_rate: PositiveFloat = 5e-4
    chains: int = Field(default=6, ge=2)
    iterations: PositiveInt = 400
    longest_subchain: PositiveInt = 256
    least_acceptance: float = Field(default=0.005, ge=0, lt=1)


@dataclass(frozen=True)
class DynamicsPlan:
    """How much dynamics of the potential there is time for.

    Attributes
    ----------
    basins : int
        The lowest ones.
    length : float
        ps of each trajectory, after its equilibration.
    """

    basins: int
    length: float


def least_minutes(budget: TargetBudget, seconds_per_energy: float, workers: int) -> float:
    """Return the minutes below which the potential's energies leave no time for refining.

    Examples
    --------
    >>> round(least_minutes(TargetBudget(), 0.02, 2), 1)
    2.2
    """
    of_run = MINIMISE_EVALUATIONS + (budget.equilibration + budget.shortest) / budget.timestep
    energies = budget.least_basins * budget.runs_per_basin * of_run
    energies += (1 + budget.cycles) * budget.least_draws
    share = budget.dynamics_share + budget.cycles * budget.energies_share
    return energies * seconds_per_energy / workers / share / 60


def plan_dynamics(
    budget: TargetBudget, basins: int, seconds: float, seconds_per_energy: float, workers: int
) -> DynamicsPlan:
    """Return how long trajectories may be, and in how many of the basins.

    Examples
    --------
    >>> plan_dynamics(TargetBudget(), 16, 360.0, 0.02, 2)
    DynamicsPlan(basins=16, length=0.82)
    >>> plan_dynamics(TargetBudget(), 16, 36.0, 0.02, 2)
    DynamicsPlan(basins=3, length=0.3)
    """
    energies = seconds * workers / seconds_per_energy
    least = MINIMISE_EVALUATIONS + (budget.equilibration + budget.shortest) / budget.timestep
    affordable = int(energies / budget.runs_per_basin / least)
    kept = max(min(budget.least_basins, basins), min(basins, affordable))
    of_each = energies / budget.runs_per_basin / kept - MINIMISE_EVALUATIONS
    length = of_each * budget.timestep - budget.equilibration
    frames = max(round(budget.shortest / budget.interval), int(length / budget.interval))
    return DynamicsPlan(kept, round(frames * budget.interval, 6))


def measure_energy(
    system: openmm.System, positions: NDArray[np.float64], temperature: float
) -> float:
    """Return the seconds of one energy of a structure [N, 3] / nm, on one thread."""
    energy = ReducedEnergy(system, temperature, "Reference")
    energy.evaluate(positions[None])
    began = time.monotonic()
    energy.evaluate(np.repeat(positions[None], _MEASURED, axis=0))
    return (time.monotonic() - began) / _MEASURED


def measure_proposal(model: Path, surrogate: Path, positions: NDArray[np.float64]) -> float:
    """Return the seconds of one proposal with its surrogate energy, in batches as chains have."""
    flow, energy = load_module(model), torch.jit.load(str(surrogate))  # type: ignore[no-untyped-call]
    reference = torch.from_numpy(positions - positions.mean(0)).float()
    noise_size = read_metadata(model).noise_size
    lag = torch.full((_TOGETHER,), math.inf)

    def propose() -> None:
        with torch.no_grad():
            energy(flow.sample(reference, torch.randn(_TOGETHER, noise_size), lag)[0])

    # TorchScript compiles in the first calls.
    for _ in range(3):
        propose()
    began = time.monotonic()
    for _ in range(_MEASURED):
        propose()
    return (time.monotonic() - began) / _MEASURED / _TOGETHER
