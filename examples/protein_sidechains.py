"""Side chains of a small protein: a library's blocks, and the same time of molecular dynamics.

    python examples/protein_sidechains.py --out protein [--seconds 90] [--structure F.pdb]
        [--library DIR] [--force]

No model is made for it: the bundled library's serve the side chains, and dynamics move the rest.
Writes a figure of chi1 of each of them against time, and prints how often each rotamer changed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import openmm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from openmm import app, unit

from timewarp_openmm import LatentChoice, TimewarpMCMCIntegrator, sidechain_blocks
from timewarp_openmm.blocks.sidechains import block_torsions
from timewarp_openmm.library import open_library
from timewarp_openmm.molecule.matching import PartFinder
from timewarp_openmm.molecule.rotamers import wells
from timewarp_openmm.molecule.torsions import measure_torsions
from timewarp_openmm.simulation.langevin import default_platform
from timewarp_openmm.simulation.systems import DynamicsOptions, build_system, make_platform

HELIX = Path(__file__).parent / "molecules" / "helix.pdb"
STEP, FRICTION = 0.004, 1.0  # ps, 1/ps
LOOK = 50  # time steps between looks at the torsions
PROPOSALS = 32  # of a block at once, of which one or none is taken
#: Each draws one torsion of a side chain anew, or two.
TORSIONS = (LatentChoice(0.0, 0.5, torsions=1), LatentChoice(0.0, 0.5, torsions=2))


def run(
    simulation: app.Simulation,
    steps: int,
    torsions: list[tuple[int, int, int, int]],
    seconds: float,
) -> NDArray[np.float64]:
    """Return torsions [looks, R] / rad, found after every so many steps for a while."""
    angles = []
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        simulation.step(steps)
        positions = simulation.context.getState(positions=True).getPositions(asNumpy=True)
        angles.append(measure_torsions(np.asarray(positions._value)[None], torsions)[0])
    return np.array(angles)


def changes(angles: NDArray[np.float64]) -> int:
    """Return how often a torsion was found in the middle of another well than the last time."""
    found = wells(angles)
    middles = np.radians(60 + 120 * found)
    visited = found[np.cos(angles - middles) > np.cos(np.radians(30))]
    return int(np.count_nonzero(np.diff(visited)))


def draw(names: list[str], runs: dict[str, NDArray[np.float64]], seconds: float) -> Figure:
    """Return chi1 against time, a row for each residue and a column for each run."""
    figure = Figure(figsize=(9, 1.0 + 0.7 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(runs), sharex=True, sharey=True, squeeze=False)
    for column, (title, angles) in enumerate(runs.items()):
        axes[0, column].set_title(title)
        axes[-1, column].set_xlabel("seconds on this machine")
        for row, name in enumerate(names):
            degrees = np.degrees(angles[:, row]) % 360
            times = np.linspace(0, seconds, len(degrees))
            axes[row, column].plot(times, degrees, ".", markersize=2)
            axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center")
            axes[row, column].set_ylim(0, 360)
            axes[row, column].set_yticks([60, 180, 300])
    figure.suptitle("chi1 / degrees")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("protein"), help="folder to write to")
    parser.add_argument("--seconds", type=float, default=90.0, help="time for each of the two")
    parser.add_argument("--structure", type=Path, default=HELIX, help="with hydrogens")
    parser.add_argument("--library", help="a folder; default: the bundled one")
    parser.add_argument("--force", action="store_true", help="replace what is in the folder")
    options = parser.parse_args()
    path = options.out / "chi1.png"
    if path.exists() and not options.force:
        parser.error(f"{path} exists; name another folder or pass --force to replace it")
    structure = app.PDBFile(str(options.structure))
    topology, library = structure.topology, open_library(options.library)
    system = build_system(topology, library.force_field, DynamicsOptions(hydrogen_mass=3.0))
    blocks = sidechain_blocks(topology, structure.positions, library=library)
    if not blocks:
        parser.error(f"the library {library.name} serves none of its residues")
    graph = PartFinder(topology).graph
    torsions = [chi1 for chi1, *_ in block_torsions(blocks, topology, graph)]

    timewarp = TimewarpMCMCIntegrator(temperature=library.temperature)
    for block in blocks:
        timewarp.addBlock(block.model, block.particles)
    timewarp.setDynamics(LOOK, STEP, FRICTION)
    # One energy of the System decides on all of them.
    timewarp.setBlocksPerTry(len(blocks))
    timewarp.setSubchainLength(PROPOSALS)
    timewarp.setLatentCorrelation(TORSIONS)
    timewarp.setRandomNumberSeed(1)
    langevin = openmm.LangevinMiddleIntegrator(library.temperature, FRICTION, STEP)
    langevin.setRandomNumberSeed(1)
    runs = {}
    for title, integrator, steps in (
        ("Timewarp", timewarp, 1),
        ("LangevinMiddleIntegrator", langevin, LOOK),
    ):
        print(f"{title}, {options.seconds:.0f} s ...", flush=True)
        platform = make_platform(default_platform(system.getNumParticles()))
        simulation = app.Simulation(topology, system, integrator, *platform)
        simulation.context.setPositions(structure.positions)
        simulation.minimizeEnergy()
        simulation.context.setVelocitiesToTemperature(library.temperature * unit.kelvin, 1)
        runs[title] = run(simulation, steps, torsions, options.seconds)
    names = [block.residue for block in blocks]
    print("changes of chi1: " + ", ".join(runs))
    for row, name in enumerate(names):
        counted = (str(changes(angles[:, row])) for angles in runs.values())
        print(f"  {name:10} {', '.join(counted)}")
    options.out.mkdir(parents=True, exist_ok=True)
    draw(names, runs, options.seconds).savefig(path, dpi=130)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
