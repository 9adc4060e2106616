"""What blocks accept in the structure that they are for: a short relaxation, then proposals."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import networkx as nx
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from ..integrator import TimewarpMCMCIntegrator
from ..molecule.rotamers import wells
from ..molecule.torsions import TorsionAtoms, measure_torsions
from ..simulation.langevin import Langevin, get_positions
from ..simulation.systems import make_platform
from .sidechains import Block, Measured, block_torsions

#: 1/ps and ps, of the relaxation.
_FRICTION, _TIMESTEP = 1.0, 0.002
Report = Callable[[int], None]


def relax(
    system: openmm.System,
    positions: NDArray[np.float64],
    temperature: float,
    picoseconds: float,
    platform: str,
    seed: int,
) -> NDArray[np.float64]:
    """Return positions [N, 3] / nm of least energy, and after some dynamics from there.

    Raises
    ------
    ValueError
        If its energy is not finite, or the dynamics have torn it apart.
    """
    dynamics = Langevin(temperature, _FRICTION, _TIMESTEP)
    context = dynamics.context(system, platform, seed)
    context.setPositions(positions)
    energy = context.getState(energy=True).getPotentialEnergy()._value
    if not np.isfinite(energy):
        # OpenMM's minimiser would not come to an end.
        raise ValueError(_torn(f"its energy is {energy}"))
    try:
        relaxed = dynamics.relaxed(system, positions, picoseconds, platform, seed, minimise=True)
    except openmm.OpenMMException as error:
        raise ValueError(_torn(str(error))) from error
    if not np.isfinite(relaxed).all():
        raise ValueError(_torn("positions are not finite"))
    return relaxed


def _torn(what: str) -> str:
    return (
        f"the structure cannot be relaxed ({what}); look for atoms that stand in each other, or "
        "relax it yourself first"
    )


def measure_blocks(
    blocks: Sequence[Block],
    topology: app.Topology,
    graph: nx.Graph,
    system: openmm.System,
    positions: NDArray[np.float64],
    temperature: float,
    proposals: int,
    platform: str,
    seed: int,
    report: Report = lambda _: None,
) -> list[Measured]:
    """Return what becomes of `proposals` of each block on average, picked at random.

    Parameters
    ----------
    graph : networkx.Graph
        Bonds of the topology; nodes carry `element` and `name`.
    positions : array [N, 3], nm
        Relaxed.
    report : callable
        Given the number of proposals so far, of all blocks.
    """
    integrator = TimewarpMCMCIntegrator(temperature=temperature)
    for block in blocks:
        integrator.addBlock(block.model, block.particles)
    integrator.setFrozenOthers(True)
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(system, integrator, *make_platform(platform))
    context.setPositions(positions)
    counter = _RotamerCounter(block_torsions(blocks, topology, graph), get_positions(context))
    accepted = [0] * len(blocks)
    for round_number in range(1, proposals + 1):
        # Each call of step() costs an energy of the System.
        integrator.step(len(blocks))
        now = [integrator.getBlockStatistics(i).accepted for i in range(len(blocks))]
        if now != accepted:
            moved = {i for i, (a, b) in enumerate(zip(accepted, now, strict=True)) if a != b}
            counter.count(get_positions(context), moved)
            accepted = now
        report(round_number * len(blocks))
    statistics = [integrator.getBlockStatistics(i) for i in range(len(blocks))]
    return [
        Measured(entry.tried, entry.accepted, changes)
        for entry, changes in zip(statistics, counter.changes, strict=True)
    ]


class _RotamerCounter:
    """Counts how often the wells of each block's torsions change.

    Blocks may have torsions in common.
    """

    def __init__(self, torsions: list[list[TorsionAtoms]], positions: NDArray[np.float64]) -> None:
        self._flat = [atoms for entry in torsions for atoms in entry]
        self._owner = np.repeat(np.arange(len(torsions)), [len(entry) for entry in torsions])
        self._wells = self._measure(positions)
        self.changes = [0] * len(torsions)

    def _measure(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        if not self._flat:
            return np.empty(0, dtype=np.int64)
        return wells(measure_torsions(positions[None], self._flat)[0])

    def count(self, positions: NDArray[np.float64], moved: Collection[int]) -> None:
        """Count the changes since the last call for the blocks that have moved meanwhile."""
        now = self._measure(positions)
        for block in set(self._owner[now != self._wells].tolist()).intersection(moved):
            self.changes[block] += 1
        self._wells = now
