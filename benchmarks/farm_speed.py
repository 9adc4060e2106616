"""What running chains on several processes costs: `sample --chains` beside chains alone.

    python benchmarks/farm_speed.py [--steps 800000] [--chains 8] [--workers 2] [--rounds 3]

In turns: a chain in each of as many processes as there are workers, without pieces; and the chains
of a farm, which have as many iterations together. The farm's time is that of its iterations,
without what comes before the first one (starting processes), which is printed beside it. Alanine
dipeptide, the bundled model, Reference. Prints the share of the sum of single-process speeds that
the farm reaches on these workers (1 is all of it), with the standard error over the rounds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import resources
from pathlib import Path

import mdtraj
import numpy as np
import openmm

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.analysis.torsions import proper_torsions, true_torsions
from timewarp_openmm.farm.chains import run_chains
from timewarp_openmm.farm.files import ChainFiles, Layout
from timewarp_openmm.farm.pieces import ChainTask
from timewarp_openmm.farm.quality import Target
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.simulation.systems import MolecularSystem, load_molecule, structure_file
from timewarp_openmm.trajectories.residue_labels import residue_labels
from timewarp_openmm.workers.opening import open_workers

FORCE_FIELD = ("amber99sbildn.xml", "amber99_obc.xml")
INTERVAL = 10
SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=800_000, help="of all chains together")
    parser.add_argument("--chains", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENMM_CPU_THREADS="1")
    shares, starts = [], []
    for number in range(arguments.rounds):
        # As many single processes as there are workers, at the same time: what the cores give.
        with ProcessPoolExecutor(arguments.workers) as pool:
            steps = [arguments.steps // arguments.workers] * arguments.workers
            alone = sum(pool.map(single_speed, steps))
        started, speed = farm_speed(arguments.steps, arguments.chains, arguments.workers, number)
        shares.append(speed / alone)
        starts.append(started)
        print(f"round {number + 1}: {alone:.0f} iterations/s alone, {speed:.0f} in the farm")
    error = np.std(shares, ddof=1) / math.sqrt(len(shares)) if len(shares) > 1 else math.nan
    result = {
        "script": "benchmarks/farm_speed.py",
        "steps": arguments.steps,
        "chains": arguments.chains,
        "workers": arguments.workers,
        "share": float(np.mean(shares)),
        "share_error": float(error),
        "seconds_to_start": float(np.mean(starts)),
        "openmm": openmm.version.version,
        "python": platform.python_version(),
    }
    print(f"{result['share']:.2f} +- {error:.2f} of the sum of single-process speeds")
    print(f"processes took {result['seconds_to_start']:.1f} s to start")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def molecule_of_all() -> MolecularSystem:
    with resources.as_file(structure_file("alanine-dipeptide")) as path:
        return load_molecule(path, FORCE_FIELD)


def single_speed(steps: int) -> float:
    """Return iterations per second of one chain that keeps its frames."""
    molecule = molecule_of_all()
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    integrator.setRandomNumberSeed(SEED)
    reference = openmm.Platform.getPlatform("Reference")
    context = openmm.Context(molecule.system, integrator, reference)
    context.setPositions(molecule.positions)
    # What is loaded and compiled at first is loaded in the farm's first pieces, too.
    integrator.step(INTERVAL)
    frames = []
    began = time.perf_counter()
    for _ in range(steps // INTERVAL):
        integrator.step(INTERVAL)
        state = context.getState(positions=True)
        frames.append(np.asarray(state.getPositions(asNumpy=True)._value, dtype=np.float32))
    return steps / (time.perf_counter() - began)


def farm_speed(steps: int, chains: int, workers: int, number: int) -> tuple[float, float]:
    """Return the seconds until there are workers, and iterations per second of all chains."""
    molecule = molecule_of_all()
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    integrator.setEmbedModel(True)
    system = openmm.XmlSerializer.serialize(molecule.system)
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    layout = Layout(
        mdtraj.Topology.from_openmm(molecule.topology),
        residue_labels(molecule.topology),
        1.0,
        [torsion.atoms for torsion in true_torsions(proper_torsions(atoms))],
    )
    tasks = []
    for chain in range(chains):
        integrator.setRandomNumberSeed(SEED + chain)
        xml = openmm.XmlSerializer.serialize(integrator)
        key = f"speed-{number}-{chain}"
        tasks.append(ChainTask(key, system, xml, molecule.positions, "Reference", INTERVAL))
    frames = steps // chains // INTERVAL
    with tempfile.TemporaryDirectory() as folder:
        files = [ChainFiles(Path(folder), chain, layout) for chain in range(chains)]
        began = time.perf_counter()
        with open_workers(None, workers) as farm:
            # Libraries and Contexts; a frame of each chain.
            run_chains(farm, tasks, files, 1, Target())
            started = time.perf_counter()
            run_chains(farm, tasks, files, frames, Target())
            ended = time.perf_counter()
    return started - began, chains * (frames - 1) * INTERVAL / (ended - started)


if __name__ == "__main__":
    main()
