"""Chains of a model from several starts, with what is kept of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..analysis.autocorrelation import LARGEST_RHAT, SamplingQuality, circular_quality
from ..analysis.tica import torsion_features
from ..analysis.torsions import Torsion, folded_torsions
from ..benchmark.run import choose_distant, find_starts
from ..benchmark.samplers import Thermostat
from ..molecule.torsions import TorsionAtoms, measure_torsions
from ..potentials.force import spec_of
from ..simulation.chains import BURN_IN, Acceptance, run_chains
from ..simulation.langevin import get_positions
from ..simulation.systems import MolecularSystem, make_platform
from ..workers.base import Workers

if TYPE_CHECKING:
    import openmm

    from ..integrator import TimewarpMCMCIntegrator

#: Of the chain that starts are taken from, for each of them.
PILOT_ITERATIONS = 50
#: Effective samples below which populations are no more than a hint.
FEWEST_EFFECTIVE = 100.0


@dataclass(frozen=True)
class Samples:
    """Frames of chains.

    Attributes
    ----------
    frames : float32 array [C, F, N, 3], nm
    acceptance : Acceptance
    iterations : int
        Of each chain, with those that are left out.
    seconds : float
        Of stepping.
    """

    frames: NDArray[np.float32]
    acceptance: Acceptance
    iterations: int
    seconds: float


def sample_chains(
    model: str | PathLike[str],
    system: openmm.System,
    starts: Sequence[NDArray[np.floating]],
    iterations: int,
    frames: int,
    seed: int,
    particles: Sequence[int],
    platform: str,
    temperature: float | None = None,
    report: Callable[[int], None] = lambda _: None,
    surrogate: tuple[Path, int] | None = None,
) -> Samples:
    """Run a chain from each start and keep frames at equal distances.

    Parameters
    ----------
    starts : sequence of array [N, 3], nm
    iterations : int
        Of each chain.
    frames : int
        To be kept of each chain; no more than it has iterations after those left out.
    particles : sequence of int
        The System's particle for each atom of the model.
    temperature : float, optional
        K; by default the model's.
    report : callable
        Given the number of iterations so far, of all chains.
    surrogate : (path, int), optional
        An energy that decides first, and on how many proposals in each iteration.
    """
    every = max(1, int(iterations * (1 - BURN_IN)) // frames)
    kept: list[list[NDArray[np.float32]]] = [[] for _ in starts]

    def observe(number: int, integrator: TimewarpMCMCIntegrator, context: openmm.Context) -> None:
        kept[number].append(get_positions(context).astype(np.float32))
        # What is left out in the end need not be held until then.
        del kept[number][: max(0, len(kept[number]) - frames)]
        report(sum(len(chain) for chain in kept) * every)

    runs = run_chains(
        model,
        system,
        starts,
        iterations,
        seed,
        particles,
        platform,
        observe=observe,
        observe_every=every,
        temperature=temperature,
        surrogate=None if surrogate is None else surrogate[0],
        subchain=1 if surrogate is None else surrogate[1],
    )
    return Samples(np.array(kept), runs.acceptance, runs.iterations, runs.seconds)


def find_chain_starts(
    model: str | PathLike[str],
    molecule: MolecularSystem,
    torsions: Sequence[Torsion],
    chains: int,
    seed: int,
    particles: Sequence[int],
    platform: str,
    temperature: float,
    surrogate: tuple[Path, int] | None,
    report: Callable[[float, str], None] = lambda *_: None,
    workers: int | Workers = 1,
) -> Sequence[NDArray[np.floating]]:
    """Return where chains begin, far from each other: in basins that hot dynamics find, or, for a
    potential of which these would take hours, in states of a short chain.

    Parameters
    ----------
    report : callable
        Called with the part that is done, in [0, 1], and a note.
    workers : int or Workers
        Who runs the hot dynamics, or so many processes of this machine.
    """
    if any(spec_of(force) is not None for force in molecule.system.getForces()):
        return _pilot_starts(
            model, molecule, torsions, chains, seed, particles, platform, temperature, surrogate
        )
    starts = find_starts(
        molecule,
        torsions,
        chains,
        Thermostat(temperature),
        make_platform(platform)[0],
        seed,
        report,
        workers,
    )
    return list(starts)


def _pilot_starts(
    model: str | PathLike[str],
    molecule: MolecularSystem,
    torsions: Sequence[Torsion],
    chains: int,
    seed: int,
    particles: Sequence[int],
    platform: str,
    temperature: float,
    surrogate: tuple[Path, int] | None,
) -> list[NDArray[np.float32]]:
    """Return states of one short chain that are far from each other, to start chains from."""
    frames = sample_chains(
        model,
        molecule.system,
        [molecule.positions],
        PILOT_ITERATIONS * chains,
        PILOT_ITERATIONS,
        seed,
        particles,
        platform,
        temperature,
        surrogate=surrogate,
    ).frames[0]
    chosen = choose_distant(torsion_features(folded_torsions(frames, torsions)), chains)
    return [frames[chosen[k % len(chosen)]] for k in range(chains)]


def slowest_torsion(
    frames: NDArray[np.floating], torsions: Sequence[TorsionAtoms]
) -> tuple[int, SamplingQuality]:
    """Return which torsion has the fewest effective samples in chains, and its quality.

    Parameters
    ----------
    frames : array [C, F, N, 3]

    Raises
    ------
    ValueError
        If there is no torsion, one of them is constant, or there are too few frames.
    """
    if not torsions:
        raise ValueError("the molecule has no torsion about a single bond, and so no conformers")
    chains, count = frames.shape[:2]
    angles = measure_torsions(frames.reshape(-1, *frames.shape[2:]), list(torsions))
    qualities = [
        circular_quality(angles[:, i].reshape(chains, count)) for i in range(len(torsions))
    ]
    slowest = int(np.argmin([quality.ess for quality in qualities]))
    return slowest, qualities[slowest]


def why_not_to_trust(name: str, quality: SamplingQuality) -> str | None:
    """Return a warning about populations from chains whose slowest torsion is this one, or None.

    Examples
    --------
    >>> why_not_to_trust("phi", SamplingQuality(500.0, 2.0, 0.1, 1.001))
    >>> print(why_not_to_trust("phi", SamplingQuality(40.0, 25.0, 9.0, 1.2)))
    populations are not to be trusted yet: phi has 40 effective samples and R-hat 1.20 (wanted: \
100, and at most 1.05); sample longer
    """
    if quality.ess >= FEWEST_EFFECTIVE and quality.rhat <= LARGEST_RHAT:
        return None
    return (
        f"populations are not to be trusted yet: {name} has {quality.ess:.0f} effective samples "
        f"and R-hat {quality.rhat:.2f} (wanted: {FEWEST_EFFECTIVE:.0f}, and at most "
        f"{LARGEST_RHAT}); sample longer"
    )
