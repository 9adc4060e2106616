"""From models and Systems of one molecule to the samples that give their free energies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import openmm
from numpy.typing import NDArray
from scipy.special import logsumexp

from ..importance import UNPHYSICAL
from ..seeds import spawned_seed
from ..simulation.chains import BURN_IN, ChainRuns, run_chains
from .basins import Membership
from .configurational import Sample, chain_sample, independent_sample

if TYPE_CHECKING:
    from ..energies.openmm_energy import OpenMMEnergy
    from ..flows.independent_model import IndependentModel

#: Of a chain, so that it has an autocorrelation.
FEWEST_FRAMES = 20
#: kT by which the energy may change when the molecule is moved and turned, beside rounding.
_RIGID_TOLERANCE = 1e-3
#: Relative to the energy, as positions and energies are rounded on some platforms.
_ROUNDING = 1e-6
_RIGID_CHECKS = 5


@dataclass(frozen=True)
class Plan:
    """How much is sampled.

    Attributes
    ----------
    draws : int
        Of each model.
    chains, iterations : int
        Of each System, and of each chain.
    interval : int
        Iterations between frames that are kept.
    temperature : float
        K.
    platform : str
    workers : int
        Processes that compute energies.
    seed : int
    """

    draws: int
    chains: int
    iterations: int
    interval: int
    temperature: float
    platform: str
    workers: int
    seed: int

    def __post_init__(self) -> None:
        frames = self.iterations // self.interval - self.left_out
        if frames < FEWEST_FRAMES:
            raise ValueError(
                f"{self.iterations} iterations leave {frames} frames of each chain, and it takes "
                f"{FEWEST_FRAMES}; take more --iterations, or a smaller --interval"
            )

    @property
    def left_out(self) -> int:
        """Frames at the beginning of each chain that are not used."""
        return int(BURN_IN * (self.iterations // self.interval))


@dataclass(frozen=True)
class Sampled:
    """What was sampled.

    Attributes
    ----------
    draws : Sample
        Of the models, as one density, the mean of theirs.
    chains : list of Sample
        Of each System.
    runs : list of ChainRuns
    impossible : float
        Share of the draws that are no conformation.
    """

    draws: Sample
    chains: list[Sample]
    runs: list[ChainRuns]
    impossible: float


def collect(
    models: Sequence[IndependentModel],
    systems: Sequence[openmm.System],
    membership: Membership,
    plan: Plan,
    report: Callable[[str], None] = lambda _: None,
) -> Sampled:
    """Draw from the models, run chains of the Systems, and compute all energies of all frames.

    Several models make one density, q = (q1 + q2) / 2, as many draws being made of each (Veach and
    Guibas, SIGGRAPH 95, 419 (1995)): it is normalised, too, and good wherever one of them is.

    Parameters
    ----------
    models : sequence of IndependentModel
        One for all Systems, or one for each.
    systems : sequence of openmm.System
    report : callable
        Told what is done next.

    Raises
    ------
    ValueError
        If an energy depends on where or how the molecule lies, or no draw is a conformation.
    openmm.OpenMMException
        If a model does not fit a System.
    """
    from ..energies.openmm_energy import OpenMMEnergy

    energies = [
        OpenMMEnergy(system, plan.temperature, plan.platform, plan.workers) for system in systems
    ]
    report(f"making {plan.draws} draws of each model")
    drawn = [_draw(models, number, energies, membership, plan) for number in range(len(models))]
    reduced = np.concatenate([part.reduced for part in drawn], axis=1)
    for energy in energies:
        check_rigid_motion(energy, drawn[0].starts)
    chains, runs = [], []
    for state, system in enumerate(systems, start=1):
        number = min(state, len(models)) - 1
        report(f"running {plan.chains} chains of System {state}")
        # A chain does not leave a start whose density in its own model is 0.
        frames, run = _run(models[number], system, drawn[number].starts, plan, state)
        report(f"computing energies of {len(frames)} frames of System {state}")
        densities = [model.log_density(frames, plan.seed + state) for model in models]
        of_frames = _reduced(energies, frames, densities)
        chains.append(chain_sample(state, of_frames, membership(frames), plan.chains))
        runs.append(run)
    impossible = float((reduced[1:] >= UNPHYSICAL).all(axis=0).mean())
    sample = independent_sample(reduced, np.concatenate([part.inside for part in drawn]))
    return Sampled(sample, chains, runs, impossible)


@dataclass(frozen=True)
class _Drawn:
    """The draws of one model: reduced energies [K, F], basins [F, B], and some [C, N, 3] / nm that
    chains can start from."""

    reduced: NDArray[np.float64]
    inside: NDArray[np.bool_]
    starts: NDArray[np.float64]


def _draw(
    models: Sequence[IndependentModel],
    number: int,
    energies: Sequence[OpenMMEnergy],
    membership: Membership,
    plan: Plan,
) -> _Drawn:
    reduced, inside = [], []
    starts: list[NDArray[np.float64]] = []
    model = models[number]
    for positions, log_density in model.draw(plan.draws, spawned_seed(plan.seed, number)):
        others = [m.log_density(positions, plan.seed) for m in models if m is not model]
        reduced.append(_reduced(energies, positions, [log_density, *others]))
        inside.append(_members(membership, positions))
        usable = (reduced[-1][1:] < UNPHYSICAL).all(axis=0)
        starts.extend(positions[usable][: plan.chains - len(starts)])
    if len(starts) < plan.chains:
        raise ValueError(
            f"of {plan.draws} draws of {model.path} only {len(starts)} have an energy; the model "
            "is not for this molecule and force field, or needs more training"
        )
    return _Drawn(np.concatenate(reduced, axis=1), np.concatenate(inside), np.array(starts))


def _reduced(
    energies: Sequence[OpenMMEnergy],
    positions: NDArray[np.float64],
    log_densities: Sequence[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return the reduced energies [K, F] of frames: -log q, then U/kT of each System."""
    log_mean = logsumexp(log_densities, axis=0) - math.log(len(log_densities))
    return np.stack([-log_mean, *(e.evaluate(positions, forces=False)[0] for e in energies)])


def _members(membership: Membership, positions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which basins draws are in; those that are no conformation are in none."""
    finite = np.isfinite(positions.sum(axis=(1, 2)))
    somewhere = np.where(finite[:, None, None], positions, 0.0)
    inside: NDArray[np.bool_] = membership(somewhere) & finite[:, None]
    return inside


def _run(
    model: IndependentModel,
    system: openmm.System,
    starts: NDArray[np.float64],
    plan: Plan,
    state: int,
) -> tuple[NDArray[np.float64], ChainRuns]:
    """Run the exact chains from draws of the model, and return their frames [F, N, 3] / nm."""
    taken: list[list[NDArray[np.float64]]] = [[] for _ in starts]
    left_out = [plan.left_out] * len(starts)

    def observe(number: int, _: object, context: openmm.Context) -> None:
        if left_out[number] > 0:
            left_out[number] -= 1
            return
        positions = context.getState(positions=True).getPositions(asNumpy=True)
        taken[number].append(np.array(positions._value))

    lags = [float(math.isinf(lag)) for lag in model.metadata.lag_times]
    run = run_chains(
        model.path,
        system,
        list(starts),
        plan.iterations,
        spawned_seed(plan.seed, 100 + state),
        model.order.tolist(),
        plan.platform,
        [weight / sum(lags) for weight in lags],
        observe,
        plan.interval,
        temperature=plan.temperature,
    )
    return np.array([frame for frames in taken for frame in frames]), run


def check_rigid_motion(energy: OpenMMEnergy, positions: NDArray[np.float64]) -> None:
    """Refuse a System whose energy depends on where or how the molecule lies.

    Raises
    ------
    ValueError
        With how much it changes: a density of shapes has no part in it.
    """
    states = positions[:_RIGID_CHECKS]
    rng = np.random.default_rng(0)
    moved = []
    for state in states:
        # A random rotation; its sign is that of a proper one.
        turn, triangle = np.linalg.qr(rng.standard_normal((3, 3)))
        turn = turn * np.sign(np.diag(triangle))
        turn *= np.sign(np.linalg.det(turn))
        moved.append((state - state.mean(axis=0)) @ turn.T + rng.standard_normal(3))
    before, after = (energy.evaluate(np.array(x), forces=False)[0] for x in (states, moved))
    allowed = _RIGID_TOLERANCE + _ROUNDING * np.abs(before)
    if (np.abs(after - before) > allowed).any():
        raise ValueError(
            f"the System's energy changes by {np.abs(after - before).max():.3g} kT when the "
            "molecule is moved and turned as a whole; a free energy of its shape takes a System "
            "without restraints, fields and periodic images"
        )
