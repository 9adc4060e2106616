"""Moves in explicit water against molecular dynamics, everything measured in turns.

    python benchmarks/moves.py MODELS [--minutes 10] [--parts transitions screening dynamics blocks]
        [--molecules valine leucine] [--langevin F.json] [--out F.json]
    python benchmarks/moves.py MODELS --parts langevin --minutes 120 --out F.json

MODELS is a folder with ``valine-dipeptide.pt`` and ``valine-dipeptide-sidechain.pt``, likewise for
leucine: models of the capped residue in implicit solvent, as ``fit`` makes them, the second with
``--moved``. Water is TIP3P in a box of 1.9 nm, with PME (0.9 nm), HBonds, hydrogens of 3 dalton,
steps of 4 fs, 300 K, as in umbrella_rotamers.py.

transitions
    Changes of the rotamer of chi1 per second of wall-clock time: by LangevinMiddleIntegrator, by a
    block of the whole molecule, and by one of its side chain, both with dynamics between. A rotamer
    counts when chi1 is found within 30 degrees of its middle, by looks after equal times of
    dynamics. Where dynamics see none, the 95 % limit (3 events) is given. All molecules and methods
    take turns of some 20 seconds. The blocks draw one or two rotatable torsions at a time.
langevin
    Changes per nanosecond by LangevinMiddleIntegrator alone, in runs so long that some are seen.
    Given to a run of the transitions (``--langevin``), these are added to the changes that its own
    dynamics have seen; how many nanoseconds a second they make is always measured in turns.
screening
    The cost of a proposal with screening, in batches of 64, over that of one which asks for the
    energy of the System, in a box of more than 2,000 atoms.
dynamics
    LangevinMiddle's steps per second within the integrator, over those of LangevinMiddleIntegrator.
blocks
    The cost of a try with a hundred blocks, the side chains of as many molecules in one System,
    over that with one, and the memory that a hundred take.
"""

from __future__ import annotations

import argparse
import json
import math
import platform as machine
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import openmm
from openmm import app, unit
from umbrella_rotamers import BOX, FORCE_FIELD, MOLECULES, TEMPERATURE, solvated, torsions_of

from timewarp_openmm import LatentChoice, TimewarpMCMCIntegrator
from timewarp_openmm.molecule.matching import match_atoms

STEP = 0.004  # ps
FRICTION = 1.0  # /ps
LOOK = 48  # time steps between looks at chi1, for all methods
DYNAMICS = 24  # time steps between tries
#: Proposals of a try: those of a whole molecule in water are seldom accepted, so that more pay.
SUBCHAIN = {"side chain": 32, "molecule": 64}
BATCH = 64
TURN = 20.0  # s
#: The last one is not among those of a plain run.
PARTS = ("transitions", "screening", "dynamics", "blocks", "langevin")
#: Proposals draw one torsion or two, and leave the rest of a molecule nearly as it is.
LATENT = (LatentChoice(0.0, 0.5, torsions=1), LatentChoice(0.0, 0.5, torsions=2))


def chi1_of(positions: np.ndarray, atoms: tuple[int, ...]) -> float:
    """Return a torsion in degrees, 0 to 360."""
    a, b, c, d = (positions[i] for i in atoms)
    first, axis, last = b - a, c - b, d - c
    n1, n2 = np.cross(first, axis), np.cross(axis, last)
    angle = math.atan2(np.dot(np.cross(n1, n2), axis) / np.linalg.norm(axis), np.dot(n1, n2))
    return math.degrees(angle) % 360


@dataclass
class Counter:
    """Counts changes of rotamer: 60, 180 and 300 degrees, each within 30."""

    last: int | None = None
    changes: int = 0
    seconds: float = 0.0
    looks: int = 0
    visits: list[int] = field(default_factory=lambda: [0, 0, 0])

    def look(self, angle: float) -> None:
        """Take note of an angle in degrees."""
        self.looks += 1
        rotamer = int(angle // 120)
        self.visits[rotamer] += 1
        if abs(angle - (60 + 120 * rotamer)) > 30:
            return
        self.changes += self.last not in (None, rotamer)
        self.last = rotamer

    @property
    def nanoseconds(self) -> float:
        """How much dynamics the looks stand for."""
        return self.looks * LOOK * STEP / 1000

    def rate(self) -> tuple[float, float]:
        """Return changes per second and their standard error; (limit, nan) where there is none."""
        if self.changes == 0:
            return 3 / max(self.seconds, 1e-9), math.nan
        return self.changes / self.seconds, math.sqrt(self.changes) / self.seconds


def cpu(threads: int) -> tuple[openmm.Platform, dict[str, str]]:
    """Return the CPU platform and its properties."""
    return openmm.Platform.getPlatformByName("CPU"), {"Threads": str(threads)}


def platform_of(arguments: argparse.Namespace) -> tuple[openmm.Platform, dict[str, str]]:
    """Return the platform that was asked for, and its properties."""
    if arguments.platform == "CPU":
        return cpu(arguments.threads)
    return openmm.Platform.getPlatformByName(arguments.platform), {"Precision": "mixed"}


def opencl() -> tuple[openmm.Platform, dict[str, str]]:
    """Return the OpenCL platform and its properties."""
    return openmm.Platform.getPlatformByName("OpenCL"), {"Precision": "mixed"}


def simulation_of(
    name: str,
    integrator: openmm.Integrator,
    threads: int,
    box: float = BOX,
    platform: tuple[openmm.Platform, dict[str, str]] | None = None,
) -> tuple[app.Simulation, tuple[int, ...]]:
    """Return an equilibrated simulation in water, and the atoms of chi1."""
    topology, system, positions = solvated(name, box)
    simulation = app.Simulation(topology, system, integrator, *(platform or cpu(threads)))
    start = equilibrated(topology, system, positions, threads)
    simulation.context.setState(start)
    return simulation, torsions_of(topology)["chi1"]


def equilibrated(
    topology: app.Topology, system: openmm.System, positions: Any, threads: int, steps: int = 5000
) -> openmm.State:
    """Return a State after some dynamics from a lower energy nearby."""
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, STEP)
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(topology, system, integrator, *cpu(threads))
    simulation.context.setPositions(positions)
    simulation.minimizeEnergy(maxIterations=200)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, 1)
    simulation.step(steps)
    state: openmm.State = simulation.context.getState(positions=True, velocities=True)
    return state


def with_block(model: Path, molecule: str, subchain: int, dynamics: int) -> TimewarpMCMCIntegrator:
    """Return an integrator with the model as a block, and dynamics between the tries."""
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    integrator.addBlock(model, particles=particles_of(model, molecule))
    integrator.setDynamics(dynamics, STEP, FRICTION)
    integrator.setSubchainLength(subchain)
    integrator.setLatentCorrelation(LATENT)
    integrator.setRandomNumberSeed(5)
    return integrator


def particles_of(model: Path, molecule: str) -> list[int]:
    """Return the particles of a model's atoms in the molecule, which comes before the water."""
    pdb = app.PDBFile(str(MOLECULES / f"{molecule}.pdb"))
    return match_atoms(model, pdb.topology, positions=pdb.positions)


def turn(
    simulation: app.Simulation,
    steps: int,
    chi1: tuple[int, ...],
    counter: Counter,
    seconds: float = TURN,
) -> None:
    """Run for a while, looking at chi1 after every so many steps."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        simulation.step(steps)
        positions = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
        counter.look(chi1_of(positions, chi1))
    counter.seconds += time.perf_counter() - begin


def transitions(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Count changes of rotamer by all methods, in turns."""
    runs = []
    for name in arguments.molecules:
        molecule = f"{name}-dipeptide"
        methods: dict[str, tuple[openmm.Integrator, int]] = {
            "LangevinMiddle": (
                openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, STEP),
                LOOK,
            ),
        }
        for label, suffix in (("molecule", ""), ("side chain", "-sidechain")):
            model = arguments.models / f"{molecule}{suffix}.pt"
            if model.exists():
                block = with_block(model, molecule, SUBCHAIN[label], arguments.dynamics)
                methods[label] = (block, LOOK // arguments.dynamics)
        for label, (integrator, steps) in methods.items():
            simulation, chi1 = simulation_of(
                molecule, integrator, arguments.threads, platform=platform_of(arguments)
            )
            runs.append((name, label, simulation, steps, chi1, Counter()))
    end = time.perf_counter() + 60 * arguments.minutes
    while time.perf_counter() < end:
        for _, _, simulation, steps, chi1, counter in runs:
            turn(simulation, steps, chi1, counter, arguments.turn)
    rows = []
    for name, label, simulation, _, _, counter in runs:
        rate, error = counter.rate()
        row = {
            "part": "transitions",
            "molecule": name,
            "method": label,
            "changes": counter.changes,
            "seconds": counter.seconds,
            "rate": rate,
            "error": error,
            "rotamers": (np.array(counter.visits) / max(1, sum(counter.visits))).tolist(),
        }
        if isinstance(simulation.integrator, TimewarpMCMCIntegrator):
            statistics = simulation.integrator.getBlockStatistics(0)
            row["tried"], row["accepted"] = statistics.tried, statistics.accepted
            row["screened"] = statistics.screened
        else:
            row["nanoseconds"] = counter.nanoseconds
        rows.append(row)
    compare_with_dynamics(rows, long_runs(arguments.langevin))
    return rows


def long_runs(path: Path | None) -> dict[str, dict[str, Any]]:
    """Return what a run of the part langevin has written, by molecule."""
    if path is None:
        return {}
    return {row["molecule"]: row for row in json.loads(path.read_text())["rows"]}


def compare_with_dynamics(rows: list[dict[str, Any]], known: dict[str, dict[str, Any]]) -> None:
    """Add to each row its ratio to the rate of dynamics, with a standard error.

    The rate of dynamics is that of all changes seen, in this run and before, for the time that this
    run's dynamics took. Where none was seen, the ratio is a lower limit (95 %) without an error.
    """
    for row in rows:
        reference = next(
            r for r in rows if r["molecule"] == row["molecule"] and r["method"] == "LangevinMiddle"
        )
        before = known.get(row["molecule"], {"changes": 0, "nanoseconds": 0.0})
        changes = reference["changes"] + before["changes"]
        nanoseconds = reference["nanoseconds"] + before["nanoseconds"]
        speed = reference["nanoseconds"] / reference["seconds"]
        row["dynamics' changes"], row["dynamics' rate"] = changes, changes / nanoseconds * speed
        row["ratio"] = row["rate"] / (max(changes, 3) / nanoseconds * speed)
        if changes and row["changes"]:
            row["ratio's error"] = row["ratio"] * math.sqrt(1 / changes + 1 / row["changes"])


def langevin(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Count changes of rotamer by dynamics alone, the molecules in turns."""
    runs = []
    for name in arguments.molecules:
        integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, STEP)
        integrator.setRandomNumberSeed(11)
        simulation, chi1 = simulation_of(f"{name}-dipeptide", integrator, arguments.threads)
        runs.append((name, simulation, chi1, Counter()))
    end = time.perf_counter() + 60 * arguments.minutes
    while time.perf_counter() < end:
        for _, simulation, chi1, counter in runs:
            turn(simulation, LOOK, chi1, counter)
    return [
        {
            "part": "langevin",
            "molecule": name,
            "changes": counter.changes,
            "nanoseconds": counter.nanoseconds,
        }
        for name, _, _, counter in runs
    ]


def seconds_of(work: Callable[[], object], rounds: int) -> list[float]:
    """Return how long each of several rounds takes."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return times


def ratio_of(first: list[float], second: list[float]) -> tuple[float, float]:
    """Return the mean ratio of two series that were measured in turns, and its standard error."""
    ratios = np.array(first) / np.array(second)
    return float(ratios.mean()), float(ratios.std(ddof=1) / math.sqrt(len(ratios)))


def screening(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare a try with a full energy."""
    return [screening_of(f"{name}-dipeptide", arguments) for name in arguments.molecules]


def side_chain_alone(
    molecule: str, screened: bool, arguments: argparse.Namespace
) -> app.Simulation:
    """Return a simulation in which the side chain moves among frozen atoms."""
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    model = arguments.models / f"{molecule}-sidechain.pt"
    integrator.addBlock(model, particles=particles_of(model, molecule))
    integrator.setFrozenOthers(True)
    integrator.setScreening(screened)
    integrator.setBatchSize(BATCH)
    integrator.setSubchainLength(BATCH if screened else 1)
    integrator.setRandomNumberSeed(5)
    simulation, _ = simulation_of(molecule, integrator, arguments.threads, box=3.0)
    simulation.step(4)
    return simulation


def screening_of(molecule: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare proposals of a screened batch of 64 with those that each ask for the System's energy.

    The one energy that decides on a batch's end is part of the cost.
    """
    screened = side_chain_alone(molecule, True, arguments)
    plain = side_chain_alone(molecule, False, arguments)
    first, second = [], []
    for _ in range(12):
        first += seconds_of(lambda: screened.step(8), 1)
        second += seconds_of(lambda: plain.step(16), 1)
    ratio, error = ratio_of([t / (8 * BATCH) for t in first], [t / 16 for t in second])
    return {
        "part": "screening",
        "molecule": molecule,
        "atoms": screened.system.getNumParticles(),
        "proposal over proposal without screening": ratio,
        "error": error,
    }


def dynamics(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare dynamics in the integrator with OpenMM's own."""
    molecule = f"{arguments.molecules[0]}-dipeptide"
    return [
        dynamics_on(platform, molecule, arguments.threads)
        for platform in (cpu(arguments.threads), opencl())
    ]


def dynamics_on(
    platform: tuple[openmm.Platform, dict[str, str]], molecule: str, threads: int
) -> dict[str, Any]:
    """Compare them on one platform."""
    own = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    own.setDynamics(100, STEP, FRICTION)
    langevin = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, STEP)
    ours, _ = simulation_of(molecule, own, threads, platform=platform)
    theirs, _ = simulation_of(molecule, langevin, threads, platform=platform)
    first, second = [], []
    for _ in range(20):
        first += seconds_of(lambda: ours.step(3), 1)
        second += seconds_of(lambda: theirs.step(300), 1)
    ratio, error = ratio_of(first, second)
    return {
        "part": "dynamics",
        "platform": platform[0].getName(),
        "time over LangevinMiddle's": ratio,
        "error": error,
    }


def many_molecules(name: str, count: int) -> tuple[app.Topology, openmm.System, np.ndarray]:
    """Return topology, System and positions / nm of copies of a molecule, far apart."""
    pdb = app.PDBFile(str(MOLECULES / f"{name}.pdb"))
    modeller = app.Modeller(pdb.topology, pdb.positions)
    side = math.ceil(count ** (1 / 3))
    for k in range(1, count):
        place = openmm.Vec3(k % side, k // side % side, k // side**2) * 2.0
        modeller.add(pdb.topology, [p + place * unit.nanometer for p in pdb.positions])
    system = app.ForceField(FORCE_FIELD[0]).createSystem(
        modeller.topology, nonbondedMethod=app.CutoffNonPeriodic, constraints=app.HBonds
    )
    return modeller.topology, system, modeller.getPositions().value_in_unit(unit.nanometer)


def blocks(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare a hundred blocks with one: the side chains of a hundred molecules."""
    molecule = f"{arguments.molecules[0]}-dipeptide"
    model = arguments.models / f"{molecule}-sidechain.pt"
    topology, system, positions = many_molecules(molecule, 100)
    size, particles = topology.getNumAtoms() // 100, particles_of(model, molecule)
    simulations, memory = [], []
    for count in (1, 100):
        integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
        for k in range(count):
            integrator.addBlock(model, particles=[k * size + i for i in particles])
        integrator.setFrozenOthers(True)
        integrator.setSubchainLength(BATCH)
        integrator.setRandomNumberSeed(5)
        simulation = app.Simulation(topology, system, integrator, *cpu(arguments.threads))
        simulation.context.setPositions(positions)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        simulation.step(300)
        memory.append((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
        simulations.append(simulation)
    one, many = [], []
    for _ in range(24):
        one += seconds_of(lambda: simulations[0].step(40), 1)
        many += seconds_of(lambda: simulations[1].step(40), 1)
    ratio, error = ratio_of(many, one)
    return [
        {
            "part": "blocks",
            "try with 100 blocks over with 1": ratio,
            "error": error,
            "MB that 100 blocks take": memory[1],
        }
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="of the transitions, or of langevin"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:-1])
    parser.add_argument("--molecules", nargs="+", default=["valine", "leucine"])
    parser.add_argument(
        "--dynamics",
        type=int,
        default=DYNAMICS,
        choices=(6, 12, 24, 48),
        help="time steps between tries",
    )
    parser.add_argument("--langevin", type=Path, help="what --parts langevin has written")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--platform",
        default="CPU",
        choices=("CPU", "OpenCL", "CUDA"),
        help="of the part transitions",
    )
    parser.add_argument("--turn", type=float, default=TURN, help="seconds of each of its turns")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for part in arguments.parts:
        for row in globals()[part](arguments):
            print(json.dumps(row), flush=True)
            rows.append(row)
    if arguments.out is not None:
        versions = {"openmm": openmm.version.version, "mdtraj": mdtraj.__version__}
        record = {"rows": rows, "versions": versions, "machine": machine.processor()}
        arguments.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
