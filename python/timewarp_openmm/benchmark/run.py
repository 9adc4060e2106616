"""Running the methods in turns, so that each meets the machine in the same moods."""

from __future__ import annotations

import os
import platform as machine
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass

import numpy as np
import openmm
from numpy.typing import NDArray

from ..analysis.tica import torsion_features
from ..analysis.torsions import Torsion, folded_torsions
from ..seeds import shifted_seed
from ..simulation.explore import ExploreSettings, find_basins
from ..simulation.langevin import get_positions
from ..simulation.systems import MolecularSystem
from ..workers.base import Workers
from .samplers import REFERENCE_METHOD, Maker, Recording, Thermostat

#: Turns that each chain gets; the more, the less a busy spell of the machine falls on one method.
ROUNDS = 10
#: ps at the target temperature before the first frame, not counted for any method.
EQUILIBRATION = 10.0
#: Short hot walks: enough to find the basins of a small molecule.
EXPLORATION = ExploreSettings(length=40.0, interval=1.0)


def find_starts(
    molecule: MolecularSystem,
    torsions: Sequence[Torsion],
    chains: int,
    thermostat: Thermostat,
    platform: openmm.Platform,
    seed: int,
    report: Callable[[float, str], None] | None = None,
    workers: int | Workers = 1,
) -> NDArray[np.float64]:
    """Find basins with hot walkers, equilibrate in each, and choose starts far from each other.

    Parameters
    ----------
    workers : int or Workers
        Who runs the walkers.

    Returns
    -------
    array [C, N, 3], nm
        Repeated where there are fewer basins than chains.
    """
    basins = find_basins(molecule, EXPLORATION, seed, workers, report)
    dynamics = thermostat.dynamics(0.001)
    positions = []
    for number, start in enumerate(basins.positions):
        own_seed = shifted_seed(seed, number + 1)
        integrator = dynamics.integrator(own_seed)
        context = openmm.Context(molecule.system, integrator, platform)
        dynamics.start(context, start, own_seed, minimise=False)
        integrator.step(dynamics.steps(EQUILIBRATION))
        positions.append(np.asarray(get_positions(context)))
    stacked = np.stack(positions)
    chosen = choose_distant(torsion_features(folded_torsions(stacked, torsions)), chains)
    return stacked[[chosen[k % len(chosen)] for k in range(chains)]]


def choose_distant(points: NDArray[np.float64], count: int) -> list[int]:
    """Return up to `count` rows of points [K, D]: the first, then always the farthest from all.

    Examples
    --------
    >>> choose_distant(np.array([[0.0], [0.1], [5.0], [2.0]]), 3)
    [0, 2, 3]
    """
    chosen = [0]
    while len(chosen) < min(count, len(points)):
        distances = np.linalg.norm(points[:, None] - points[None, chosen], axis=-1).min(axis=1)
        chosen.append(int(distances.argmax()))
    return chosen


def run_in_turns(
    methods: Mapping[str, Maker],
    starts: NDArray[np.float64],
    seconds: float,
    seed: int,
    report: Callable[[float, str], None] = lambda *_: None,
    rounds: int = ROUNDS,
    first: int = 0,
) -> dict[str, list[Recording]]:
    """Run a chain of each method from each start, in turns.

    Parameters
    ----------
    starts : array [C, N, 3], nm
    seconds : float
        Of stepping, for all chains of all methods together, in equal parts.
    first : int
        The number of the first chain, by which its seed is told.

    Returns
    -------
    dict of list of C Recording
    """
    samplers = {
        name: [
            make(start, shifted_seed(seed, 100 * k + chain))
            for chain, start in enumerate(starts, first)
        ]
        for k, (name, make) in enumerate(methods.items())
    }
    turn = seconds / (rounds * len(methods) * len(starts))
    for number in range(rounds):
        # Back and forth, so that no method always comes after the same other.
        names = list(samplers) if number % 2 == 0 else list(reversed(samplers))
        for chain in range(len(starts)):
            for name in names:
                samplers[name][chain].advance(turn)
        report((number + 1) / rounds, f"round {number + 1}")
    return {name: [s.recording for s in group] for name, group in samplers.items()}


@dataclass(frozen=True)
class Replicate:
    """A chain of each method that one worker has run, in turns.

    Attributes
    ----------
    recordings : dict of str to Recording
    host, processor : str
        The worker's machine.
    cores : int or None
    load : float
        Of that machine, at the end.
    """

    recordings: dict[str, Recording]
    host: str
    processor: str
    cores: int | None
    load: float


def run_replicates(
    methods: Mapping[str, Maker],
    starts: NDArray[np.float64],
    seconds: float,
    seed: int,
    workers: Workers,
    report: Callable[[float, str], None] = lambda *_: None,
    rounds: int = ROUNDS,
) -> list[Replicate]:
    """Have one worker for each start run a chain of each method, in turns.

    Times of one start are all of one machine, and each method has the same share of every machine.

    Parameters
    ----------
    starts : array [C, N, 3], nm
    seconds : float
        Of stepping, for all chains of all methods together, in equal parts.
    """
    own = seconds / len(starts)
    pieces = [
        workers.submit(
            _run_replicate, dict(methods), start, own, seed, rounds, chain, name=f"chain {chain}"
        )
        for chain, start in enumerate(starts)
    ]
    for number, piece in enumerate(as_completed(pieces), 1):
        piece.result()
        report(number / len(pieces), f"{number} of {len(pieces)} chains")
    return [piece.result() for piece in pieces]


def _run_replicate(
    methods: Mapping[str, Maker],
    start: NDArray[np.float64],
    seconds: float,
    seed: int,
    rounds: int,
    chain: int,
) -> Replicate:
    found = run_in_turns(methods, start[None], seconds, seed, rounds=rounds, first=chain)
    recordings = {name: recording for name, (recording,) in found.items()}
    return Replicate(
        recordings, machine.node(), machine.machine(), os.cpu_count(), os.getloadavg()[0]
    )


def gather_replicates(replicates: Sequence[Replicate]) -> dict[str, list[Recording]]:
    """Return the chains of each method, as `run_in_turns` does."""
    return {name: [r.recordings[name] for r in replicates] for name in replicates[0].recordings}


def speed_ratio(replicates: Sequence[Replicate]) -> float:
    """Return how much faster the fastest worker ran molecular dynamics than the slowest."""
    found = [r.recordings[REFERENCE_METHOD] for r in replicates]
    speeds = [recording.steps / recording.seconds for recording in found]
    return max(speeds) / min(speeds)
