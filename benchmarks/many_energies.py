"""Many energies at once: how far each way goes, and what delayed acceptance gains.

    python benchmarks/many_energies.py [--platform Reference] [--precision mixed] [--seconds 4]
        [--model alanine-dipeptide] [--force-field amber99sbildn.xml amber99_obc.xml] [--out F.md]

1. Energies per second of alanine dipeptide: one at a time; of copies that do not interact in one
   System (of which OpenMM gives only the sum, so this is a bound and no way); of contexts on
   threads of their own; of the surrogate in torch.
2. Chains without a surrogate and with one, for several subchain lengths, in turns: proposals per
   second of stepping, acceptance by the surrogate and by the System, effective samples of sin(phi)
   per second where every step is recorded, p(0 < phi < 2.4). Errors are standard errors over the
   turns.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import openmm
import torch
from model_acceptance import PHI_ATOMS, effective_share, torsion
from numpy.typing import NDArray
from openmm import app, unit

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained, read_metadata
from timewarp_openmm.energies import surrogate_energy
from timewarp_openmm.machine import usable_cpus
from timewarp_openmm.simulation.systems import MolecularSystem, build_system, named_molecule

COPIES = (1, 8, 64)
BATCHES = (1, 16, 64, 256, 1024)
SUBCHAINS = (0, 1, 2, 4, 8, 16)  # 0: no surrogate
TURNS = 5
BURN_IN = 300
Make = Callable[[openmm.System, openmm.Integrator], openmm.Context]


def _evaluate(energy: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return energy(x).cpu()


def rate(work: Callable[[], object], seconds: float) -> float:
    """Return how often a second something is done."""
    for _ in range(3):
        work()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        work()
        count += 1
    return count / (time.perf_counter() - began)


def copies_of(molecule: MolecularSystem, files: list[str], count: int) -> tuple[object, NDArray]:
    """Return a System of copies far apart, and positions; a cut-off keeps them from interacting."""
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    far = np.array([1000.0, 0.0, 0.0])
    for i in range(1, count):
        modeller.add(molecule.topology, (molecule.positions + i * far) * unit.nanometer)
    system = app.ForceField(*files).createSystem(
        modeller.topology,
        nonbondedMethod=app.CutoffNonPeriodic,
        nonbondedCutoff=3.0 * unit.nanometer,
        constraints=None,
        rigidWater=False,
    )
    return system, modeller.positions


def on_threads(contexts: list[openmm.Context], seconds: float) -> float:
    """Return the energies per second that contexts compute, each on a thread of its own."""
    counts, done = [0] * len(contexts), threading.Event()

    def work(index: int) -> None:
        while not done.is_set():
            contexts[index].getState(energy=True)
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(contexts))]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    done.set()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def ways(molecule: MolecularSystem, files: list[str], make: Make, seconds: float) -> list[str]:
    """Return a table of energies per second."""
    lines = ["| energies | per second |", "| --- | --- |"]

    def context(system: openmm.System, positions: object) -> openmm.Context:
        made = make(system, openmm.VerletIntegrator(0.001))
        made.setPositions(positions)
        return made

    one = context(molecule.system, molecule.positions)
    single = rate(lambda: one.getState(energy=True), seconds)
    lines.append(f"| one at a time | {single:,.0f} |")
    for count in COPIES:
        many = context(*copies_of(molecule, files, count))
        speed = count * rate(partial(many.getState, energy=True), seconds)
        lines.append(f"| {count} copies in one System (their sum only) | {speed:,.0f} |")
    for count in sorted({2, usable_cpus()}):
        contexts = [context(molecule.system, molecule.positions) for _ in range(count)]
        lines.append(f"| {count} contexts on threads | {on_threads(contexts, seconds):,.0f} |")
    energy = surrogate_energy(molecule.system)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        energy.to(device)
        for batch in BATCHES:
            x = torch.tensor(molecule.positions, dtype=torch.float32, device=device)
            x = x.repeat(batch, 1, 1)
            with torch.inference_mode(), torch.jit.optimized_execution(False):
                speed = batch * rate(partial(_evaluate, energy, x), seconds)
            lines.append(f"| surrogate on {device}, batches of {batch} | {speed:,.0f} |")
    return lines


@dataclass
class Chain:
    """A chain, and what was measured in each turn."""

    integrator: TimewarpMCMCIntegrator
    context: openmm.Context
    proposals: list[float] = field(default_factory=list)
    effective: list[float] = field(default_factory=list)
    population: list[float] = field(default_factory=list)

    def turn(self, seconds: float) -> None:
        length = self.integrator.getSubchainLength()
        frames, took = [], 0.0
        while took < seconds:
            began = time.perf_counter()
            self.integrator.step(1)
            took += time.perf_counter() - began
            frames.append(self.context.getState(positions=True).getPositions(asNumpy=True)._value)
        phi = torsion(np.array(frames), PHI_ATOMS)
        self.proposals.append(length * len(phi) / took)
        self.effective.append(effective_share(np.sin(phi)) * len(phi) / took)
        self.population.append(float(np.mean((phi > 0) & (phi < 2.4))))


def with_error(values: list[float], digits: int = 0) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):,.{digits}f} +- {error:,.{digits}f}"


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Return the ratio of two means, with the error that independent ones would have."""
    value = np.mean(ours) / np.mean(theirs)
    relative = [np.std(x, ddof=1) / np.sqrt(len(x)) / np.mean(x) for x in (ours, theirs)]
    return f"{value:.2f} +- {value * np.hypot(*relative):.2f}" if ours is not theirs else "1"


def chains(
    molecule: MolecularSystem, model: Path, make: Make, batch: int, seconds: float
) -> list[str]:
    """Return a table of chains for every subchain length, run in turns."""
    made = {}
    energy = surrogate_energy(molecule.system)
    for length in SUBCHAINS:
        integrator = TimewarpMCMCIntegrator(model)
        integrator.setBatchSize(batch)
        integrator.setRandomNumberSeed(1 + length)
        if length > 0:
            integrator.setSurrogate(energy, length)
        context = make(molecule.system, integrator)
        context.setPositions(molecule.positions)
        integrator.step(max(1, BURN_IN // max(1, length)))
        made[length] = Chain(integrator, context)
    for _ in range(TURNS):
        for chain in made.values():
            chain.turn(seconds)
    lines = [
        "| subchain | proposals/s | surrogate accepts | steps accepted "
        "| effective samples/s | ... as a ratio | p(0 < phi < 2.4) |",
        "| --- " * 7 + "|",
    ]
    for length, chain in made.items():
        lines.append(
            f"| {length or 'no surrogate'} | {with_error(chain.proposals)} "
            f"| {chain.integrator.getSurrogateAcceptanceRate():.1%} "
            f"| {chain.integrator.getAcceptanceRate():.1%} | {with_error(chain.effective)} "
            f"| {ratio(chain.effective, made[0].effective)} | {with_error(chain.population, 4)} |"
        )
    return lines


def tables(
    platform: str, precision: str, files: list[str], model: Path, batch: int, seconds: float
) -> list[str]:
    """Return both tables for alanine dipeptide with a force field."""
    alanine = named_molecule("alanine-dipeptide")
    system = build_system(alanine.topology, files)
    molecule = MolecularSystem(
        alanine.name, alanine.topology, system, alanine.positions, tuple(files)
    )
    chosen = openmm.Platform.getPlatformByName(platform)
    properties = {"Precision": precision} if "Precision" in chosen.getPropertyNames() else {}

    def make(of: openmm.System, integrator: openmm.Integrator) -> openmm.Context:
        return openmm.Context(of, integrator, chosen, properties)

    head = f"{' + '.join(files)}, {platform} {properties.get('Precision', '')}, {model.stem}"
    energies = ways(molecule, files, make, min(seconds, 2.0))
    return [head, "", *energies, "", *chains(molecule, model, make, batch, seconds), ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--platform", default="Reference")
    parser.add_argument("--precision", default="mixed")
    parser.add_argument("--force-field", nargs="+", help="by default the model's")
    parser.add_argument("--model", default="alanine-dipeptide", help="bundled, or a file")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each chain in each turn")
    parser.add_argument("--out", type=Path, help="file for the tables")
    options = parser.parse_args()
    model = Path(options.model if Path(options.model).exists() else pretrained(options.model))
    files = options.force_field or read_metadata(model).force_field
    lines = tables(
        options.platform, options.precision, files, model, options.batch, options.seconds
    )
    text = "\n".join(lines)
    print(text)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
