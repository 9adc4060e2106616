"""Running the methods in turns, so that each meets the machine in the same moods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import openmm
from numpy.typing import NDArray

from ..data.explore import ExploreSettings, find_basins
from ..data.systems import MolecularSystem
from .samplers import Maker, Recording, make_langevin

#: Turns that each chain gets; the more, the less a busy spell of the machine falls on one method.
ROUNDS = 10
#: ps at the target temperature before the first frame, not counted for any method.
EQUILIBRATION = 10.0
#: Short hot walks: enough to find the basins of a small molecule.
EXPLORATION = ExploreSettings(length=40.0, interval=1.0)


@dataclass(frozen=True)
class Starts:
    """Equilibrated starting positions, each from another basin as far as there are enough.

    Attributes
    ----------
    positions : float64 array [C, N, 3], nm
    basins : int
        How many different ones.
    """

    positions: NDArray[np.float64]
    basins: int


def find_starts(
    molecule: MolecularSystem,
    chains: int,
    temperature: float,
    platform: openmm.Platform,
    seed: int,
    report: Callable[[float, str], None] | None = None,
) -> Starts:
    """Find basins with hot walkers, and equilibrate a start in each of the lowest.

    The basins are taken from the lowest up, then spread: a chain in every second one if there are
    twice as many.
    """
    basins = find_basins(molecule, EXPLORATION, seed, report=report)
    order = np.linspace(0, len(basins) - 1, min(chains, len(basins))).round().astype(int)
    positions = []
    for chain in range(chains):
        integrator = make_langevin(temperature, 0.001, seed + chain + 1)
        context = openmm.Context(molecule.system, integrator, platform)
        context.setPositions(basins.positions[order[chain % len(order)]])
        context.setVelocitiesToTemperature(temperature, seed + chain + 1)
        integrator.step(round(EQUILIBRATION / 0.001))
        state = context.getState(positions=True)
        positions.append(np.asarray(state.getPositions(asNumpy=True)._value))
    return Starts(np.stack(positions), len(order))


def run_in_turns(
    methods: Mapping[str, Maker],
    starts: NDArray[np.float64],
    seconds: float,
    seed: int,
    report: Callable[[float, str], None] = lambda *_: None,
    rounds: int = ROUNDS,
) -> dict[str, list[Recording]]:
    """Run a chain of each method from each start, in turns.

    Parameters
    ----------
    starts : array [C, N, 3], nm
    seconds : float
        Of stepping, for all chains of all methods together, in equal parts.

    Returns
    -------
    dict of list of C Recording
    """
    samplers = {
        name: [make(start, seed + 100 * k + chain) for chain, start in enumerate(starts)]
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
