"""What a model's flow proposes, without and with the Metropolis-Hastings test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..contract import read_metadata
from ..simulation.chains import run_chains
from ..units import DALTON, KELVIN, NANOMETER, PICOSECOND, thermal_energy

if TYPE_CHECKING:
    import openmm

    from ..integrator import TimewarpMCMCIntegrator


@dataclass(frozen=True)
class FlowSamples:
    """Proposals, in the order of the states' atoms.

    Attributes
    ----------
    positions : float32 array [F, N, 3], nm
        Frames that are not finite are among them.
    velocities : array [F, N, 3]
        Auxiliary, dimensionless.
    """

    positions: NDArray[np.float32]
    velocities: NDArray[np.float64]


def draw_proposals(
    model: str | PathLike[str],
    order: Sequence[int],
    states: NDArray[np.floating],
    per_state: int = 4,
    seed: int = 1,
) -> FlowSamples:
    """Draw proposals from states without testing them.

    Were the flow perfect, proposals from states of the equilibrium would be of the equilibrium.

    Parameters
    ----------
    order : sequence of int
        The state's atom for each atom of the model, as `match_atoms` says.
    states : array [K, N, 3], nm
    per_state : int
        Proposals from each.

    Raises
    ------
    ContractError, ValueError
        If the model is not one.
    """
    import torch

    from ..flows.loading import load_module

    metadata = read_metadata(str(model))
    dtype = torch.float64 if metadata.precision == "double" else torch.float32
    flow = load_module(Path(model))
    columns = np.array(order)
    rng = np.random.default_rng(seed)
    positions = np.empty((len(states) * per_state, *states.shape[1:]), dtype=np.float32)
    velocities = np.empty(positions.shape)
    for k, state in enumerate(np.asarray(states, dtype=float)):
        centroid = state.mean(axis=0)
        x = torch.tensor((state - centroid)[columns], dtype=dtype)
        noise = torch.tensor(rng.standard_normal((per_state, metadata.noise_size)), dtype=dtype)
        lags = rng.choice(metadata.lag_times, per_state, p=metadata.lag_weights)
        with torch.no_grad():
            y, w, _ = flow.sample(x, noise, torch.tensor(lags, dtype=dtype))
        rows = np.arange(k * per_state, (k + 1) * per_state)
        positions[rows[:, None], columns] = y.numpy() + centroid
        velocities[rows[:, None], columns] = w.numpy()
    return FlowSamples(positions, velocities)


@dataclass(frozen=True)
class ShortRun:
    """A short run of the integrator.

    Attributes
    ----------
    acceptance : float
    iterations : int
    longest_stay : int
        Iterations without an acceptance.
    accepted : bool array [iterations]
    velocities : array [K, N, 3]
        v sqrt(m / kT), after every `interval` iterations.
    """

    acceptance: float
    iterations: int
    longest_stay: int
    accepted: NDArray[np.bool_]
    velocities: NDArray[np.float64]


def run_chain(
    model: str | PathLike[str],
    order: Sequence[int],
    system: openmm.System,
    positions: NDArray[np.floating],
    iterations: int = 1000,
    interval: int = 5,
    seed: int = 1,
) -> ShortRun:
    """Run the chain one iteration at a time, and look at what it accepts and at its velocities.

    Parameters
    ----------
    order : sequence of int
        The System's particle for each atom of the model.
    positions : array [N, 3], nm
        Where it starts.

    Raises
    ------
    ImportError
        If the compiled plugin is missing.
    openmm.OpenMMException, ValueError
        If the model, the System and the order do not fit each other.
    """
    masses = [system.getParticleMass(i).value_in_unit(DALTON) for i in range(len(positions))]
    accepted: list[int] = []
    velocities = []

    def observe(_: int, integrator: TimewarpMCMCIntegrator, context: openmm.Context) -> None:
        accepted.append(integrator.getNumAccepted())
        if len(accepted) % interval == 1 % interval:
            kT = thermal_energy(integrator.getTemperature().value_in_unit(KELVIN))
            state = context.getState(velocities=True).getVelocities(asNumpy=True)
            scale = np.sqrt(np.array(masses) / kT)[:, None]
            velocities.append(state.value_in_unit(NANOMETER / PICOSECOND) * scale)

    runs = run_chains(
        model, system, [positions], iterations, seed, particles=order, observe=observe
    )
    moved = np.diff(accepted, prepend=0) > 0
    edges = np.concatenate([[-1], np.flatnonzero(moved), [iterations]])
    return ShortRun(
        runs.acceptance.mean,
        iterations,
        int(np.diff(edges).max()) - 1,
        moved,
        np.array(velocities),
    )
