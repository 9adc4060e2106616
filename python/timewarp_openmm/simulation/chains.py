"""Chains of the integrator with a model: the one place that measures what they accept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import openmm
from numpy.typing import NDArray

from ..seeds import shifted_seed
from .systems import make_platform

if TYPE_CHECKING:
    from ..integrator import TimewarpMCMCIntegrator

#: Iterations after which a chain that has accepted nothing is reported.
STUCK_AFTER = 1000
#: The part of a chain that is left out, in which it leaves its start.
BURN_IN = 0.1
#: Iterations between looks at the clock.
_PIECE = 50


@dataclass(frozen=True)
class Acceptance:
    """Acceptance of several chains.

    Attributes
    ----------
    chains : tuple of float
        Of each.
    """

    chains: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.chains))

    @property
    def error(self) -> float:
        """The standard error of `mean`, from the spread of the chains; NaN for a single one."""
        if len(self.chains) < 2:
            return math.nan
        return float(np.std(self.chains, ddof=1) / math.sqrt(len(self.chains)))

    @property
    def lowest(self) -> float:
        return min(self.chains)


@dataclass(frozen=True)
class ChainRuns:
    """What chains from several starts did.

    Attributes
    ----------
    acceptance : Acceptance
    iterations : int
        Of each chain.
    seconds : float
        Wall time of stepping, all chains together.
    """

    acceptance: Acceptance
    iterations: int
    seconds: float

    @property
    def iterations_per_second(self) -> float:
        return len(self.acceptance.chains) * self.iterations / self.seconds


#: (chain, its integrator, its Context) after an iteration, or some.
Observer = Callable[[int, "TimewarpMCMCIntegrator", openmm.Context], None]


def run_chains(
    model: str | PathLike[str],
    system: openmm.System,
    starts: Sequence[NDArray[np.floating]],
    iterations: int,
    seed: int,
    particles: Sequence[int] = (),
    platform: str = "Reference",
    lag_weights: Sequence[float] | None = None,
    observe: Observer | None = None,
    observe_every: int = 1,
    max_seconds: float = math.inf,
    temperature: float | None = None,
    surrogate: str | PathLike[str] | None = None,
    subchain: int = 1,
) -> ChainRuns:
    """Run a chain of the integrator from each start, in turns.

    Of a model that moves a part, all other particles stay where they are at the start.

    Parameters
    ----------
    model : path
        A model file.
    starts : sequence of array [N, 3], nm
    iterations : int
        Of each chain.
    seed : int
        Of the first chain; each later one has the next.
    particles : sequence of int
        The System's particle for each atom of the model; none where they are in one order.
    lag_weights : sequence of float, optional
        Instead of the model's.
    observe : callable, optional
        Called after each `observe_every` iterations; the fewer, the faster the chain runs.
    max_seconds : float
        Ends all chains after the same number of iterations, at least 50.
    temperature : float, optional
        K; by default the model's.
    surrogate : path, optional
        An energy that decides first on `subchain` proposals in each iteration.

    Raises
    ------
    ImportError
        If the compiled plugin is missing.
    openmm.OpenMMException
        If the model, the System and the particles do not fit each other.
    """
    # Loads the compiled plugin and torch, which other simulations do without.
    from ..integrator import TimewarpMCMCIntegrator

    chains = []
    for number, start in enumerate(starts):
        integrator = TimewarpMCMCIntegrator(model)
        integrator.setParticles(list(particles))
        integrator.setRandomNumberSeed(shifted_seed(seed, number))
        # Of a model of a part the question is how its own atoms move, and by the energy itself.
        integrator.setFrozenOthers(True)
        integrator.setScreening(False)
        if temperature is not None:
            integrator.setTemperature(temperature)
        if surrogate is not None:
            integrator.setSurrogate(str(surrogate), subchain)
        if lag_weights is not None:
            integrator.setLagWeights(lag_weights)
        context = openmm.Context(system, integrator, *make_platform(platform))
        context.setPositions(np.asarray(start, dtype=float))
        chains.append((integrator, context))
    done, began = 0, time.monotonic()
    piece = max(1, _PIECE // observe_every) * observe_every
    while done < iterations and (done == 0 or time.monotonic() - began < max_seconds):
        count = min(piece, iterations - done)
        for number, (integrator, context) in enumerate(chains):
            _advance(integrator, context, count, number, observe, observe_every)
        done += count
    seconds = time.monotonic() - began
    rates = tuple(integrator.getAcceptanceRate() for integrator, _ in chains)
    return ChainRuns(Acceptance(rates), done, seconds)


def _advance(
    integrator: TimewarpMCMCIntegrator,
    context: openmm.Context,
    count: int,
    number: int,
    observe: Observer | None,
    observe_every: int,
) -> None:
    if observe is None:
        integrator.step(count)
        return
    for _ in range(count // observe_every):
        integrator.step(observe_every)
        observe(number, integrator, context)
    integrator.step(count % observe_every)


def describe_stuck(iterations: int, accepted: int) -> str | None:
    """Return a warning if so many iterations have accepted nothing, otherwise None.

    Examples
    --------
    >>> describe_stuck(1000, 1)
    >>> describe_stuck(1000, 0)[:38]
    'none of 1000 proposals was accepted: t'
    """
    if accepted > 0 or iterations < STUCK_AFTER:
        return None
    return (
        f"none of {iterations} proposals was accepted: the samples are {iterations} times the "
        "start. Check that the model is for this molecule, force field and temperature, and that "
        "the start is relaxed"
    )
