"""Models for a potential: effective samples per hour, beside dynamics, and populations.

    python benchmarks/potentials.py --work WORK [--target gfn2-xtb] [--minutes 60] [--workers 2]
        [--molecules NAME ...] [--sample-minutes 10] [--md-minutes 10] [--reference F.json]
        [--out F.json]

Each molecule is fitted for the potential (`fit --target`), the second time with what WORK has. Then
chains on the potential run from different basins, one process each, with the model's surrogate and
subchain, and dynamics (LangevinMiddle, 1 fs, 1/ps) from the same starts for as long as
--md-minutes. Printed are effective samples of the slowest torsion about a single bond per hour of
stepping, of all chains together, and populations. For alanine dipeptide these are compared with
umbrella sampling of the same potential (--reference, by umbrella_sampling.py --target); for the
others with the flow's own draws, weighted by the potential's energies (no chain takes part).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from records import write_record

from timewarp_openmm import read_metadata
from timewarp_openmm.analysis.torsions import Torsion, proper_torsions, true_torsions
from timewarp_openmm.ensemble.sampling import slowest_torsion
from timewarp_openmm.importance import kish_size, normalised_weights
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.molecule.torsions import TorsionAtoms, measure_torsions
from timewarp_openmm.potentials.surrogates import measured_subchain, surrogate_file
from timewarp_openmm.simulation.chains import run_chains
from timewarp_openmm.simulation.langevin import Langevin, get_positions
from timewarp_openmm.simulation.systems import (
    MolecularSystem,
    load_molecule,
    named_molecule,
    structure_file,
    with_potential,
)
from timewarp_openmm.trajectories.pairs import load_trajectories
from timewarp_openmm.workflows.target_draws import read_draws

TEMPERATURE = 310.0
ALANINE = "alanine-dipeptide"
MOLECULES = {
    ALANINE: "",
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "lidocaine": "CCN(CC)CC(=O)Nc1c(C)cccc1C",
}
CHAINS = 4
BURN_IN = 0.05
#: ps between frames of dynamics.
MD_INTERVAL = 0.1
PHI = (4, 6, 8, 14)
#: Sectors of the slowest torsion whose populations are compared, from 0 to 2 pi.
SECTORS = 3


def run(*words: object) -> None:
    """Run the command line."""
    command = [sys.executable, "-c", "from timewarp_openmm.cli import main; main()"]
    subprocess.run([*command, *map(str, words)], check=True)


def prepared(name: str, work: Path) -> tuple[MolecularSystem, list[str]]:
    """Return a molecule with its force field, and the options of the command line that name it."""
    if name == ALANINE:
        return named_molecule(name), [str(structure_file(name))]
    out = work / name
    structure, system = out.with_name(f"{name}.sdf"), out.with_name(f"{name}.system.xml")
    if not system.exists():
        # The potential is of the molecule in vacuum.
        run("ligand", MOLECULES[name], "--out", out, "--solvent", "none")
    return load_molecule(structure, None, system), [str(structure), "--system", str(system)]


def fitted(name: str, files: list[str], arguments: argparse.Namespace) -> Path:
    """Return the model of a molecule, made now or before."""
    model = arguments.work / f"{name}-{label(arguments.target)}.pt"
    if not model.exists():
        options = ["--minutes", arguments.minutes, "--workers", arguments.workers]
        options += ["--target", arguments.target, "--temperature", TEMPERATURE]
        run("fit", *files, "--out", model, *options)
    return Path(model)


def label(target: str) -> str:
    """Return a potential's name for files."""
    return target.replace(":", "-").replace("/", "-")


def start_positions(model: Path) -> list[NDArray[np.float64]]:
    """Return states of the potential's dynamics, from as many basins as there are."""
    found = load_trajectories(model.with_name(f"{model.stem}.work") / "dynamics").trajectories
    return [found[k % len(found)].positions[-1].astype(float) for k in range(CHAINS)]


def chain(
    molecule: str, work: Path, target: str, model: Path, start: Any, seed: int, minutes: float
) -> tuple[NDArray[np.float32], float, float]:
    """Return frames of a chain after each energy, their acceptance, and seconds of stepping."""
    system = with_potential(prepared(molecule, work)[0], target).system
    subchain = measured_subchain(read_metadata(model))
    frames: list[NDArray[np.float32]] = []
    runs = run_chains(
        model,
        system,
        [start],
        10_000_000,
        seed,
        observe=lambda number, integrator, context: frames.append(
            get_positions(context).astype(np.float32)
        ),
        max_seconds=60 * minutes,
        surrogate=surrogate_file(model) if subchain > 0 else None,
        subchain=subchain,
    )
    return np.array(frames), runs.acceptance.mean, runs.seconds


def dynamics(
    molecule: str, work: Path, target: str, start: Any, seed: int, minutes: float
) -> tuple[NDArray[np.float32], float, float]:
    """Return frames of Langevin dynamics, 0, and seconds of stepping."""
    system = with_potential(prepared(molecule, work)[0], target).system
    langevin = Langevin(TEMPERATURE, 1.0, 0.001)
    context = langevin.context(system, "Reference", seed)
    langevin.start(context, start, seed, minimise=False)
    frames, began = [], time.monotonic()
    while time.monotonic() - began < 60 * minutes:
        context.getIntegrator().step(langevin.steps(MD_INTERVAL))
        frames.append(get_positions(context).astype(np.float32))
    return np.array(frames), 0.0, time.monotonic() - began


def in_processes(workers: int, function: Any, argument_lists: list[tuple[Any, ...]]) -> list[Any]:
    """Return a function's results, each of a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return [f.result() for f in [pool.submit(function, *a) for a in argument_lists]]


def rated(results: list[Any], torsions: list[Torsion]) -> tuple[dict[str, Any], NDArray[Any]]:
    """Return effective samples per hour of stepping, and the frames that were counted."""
    length = min(len(frames) for frames, _, _ in results)
    skipped = int(BURN_IN * length)
    frames = np.stack([found[skipped:length] for found, _, _ in results])
    seconds = sum(s * length / len(found) for found, _, s in results) * (1 - BURN_IN)
    row: dict[str, Any] = {
        "frames": int(frames.shape[0] * frames.shape[1]),
        "acceptance": round(float(np.mean([a for _, a, _ in results])), 4),
        "core hours": round(seconds / 3600, 4),
    }
    try:
        slowest, quality = slowest_torsion(frames, [torsion.atoms for torsion in torsions])
    except ValueError as error:
        return {**row, "quality": str(error)}, frames
    row |= {
        "slowest torsion": torsions[slowest].name,
        "atoms": torsions[slowest].atoms,
        "effective samples": round(quality.ess, 1),
        "rhat": round(quality.rhat, 3),
        "effective samples per core hour": round(3600 * quality.ess / seconds, 1),
    }
    return row, frames


def sectors(angles: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return which sector angles / rad are in."""
    return np.floor(np.mod(angles, 2 * math.pi) / (2 * math.pi / SECTORS)).astype(int)


def populations(
    angles: NDArray[np.float64], weights: NDArray[np.float64] | None = None, blocks: int = 10
) -> dict[str, Any]:
    """Return shares of the sectors of angles [..., F] / rad and their errors over blocks."""
    flat = angles.reshape(-1)
    own = np.full(len(flat), 1 / len(flat)) if weights is None else weights
    parts = []
    for rows in np.array_split(np.arange(len(flat)), blocks):
        found = np.bincount(sectors(flat[rows]), own[rows], SECTORS)
        parts.append(found / found.sum())
    shares = np.bincount(sectors(flat), own, SECTORS)
    return {
        "shares": np.round(shares / shares.sum(), 4).tolist(),
        "errors": np.round(np.std(parts, axis=0, ddof=1) / math.sqrt(blocks), 4).tolist(),
    }


def reweighted(model: Path, atoms: TorsionAtoms) -> dict[str, Any]:
    """Return populations of the flow's draws before the last cycle, weighted by the potential."""
    work = model.with_name(f"{model.stem}.work")
    cycle = len(read_metadata(model).provenance["fit"]["target"]["learned"])
    drawn = read_draws(work / f"draws-{cycle}.npz")
    files = sorted((work / f"energies-{cycle}").glob("energies-*.npz"))
    energies = np.concatenate([np.load(file)["energies"] for file in files])
    plain = drawn.plain[: len(energies)]
    log_weights = (-energies - drawn.log_density[: len(energies)])[plain]
    angles = measure_torsions(drawn.positions[: len(energies)][plain], [atoms])[:, 0]
    found = populations(angles, normalised_weights(log_weights))
    return {**found, "effective draws": round(kish_size(log_weights), 1), "draws": int(plain.sum())}


def of_phi(frames: NDArray[Any], reference: Path | None) -> dict[str, Any]:
    """Return p(0 < phi < 2.4) of chains [C, F, N, 3], its error, and the umbrella windows'."""
    phi = measure_torsions(frames.reshape(-1, *frames.shape[2:]), [PHI])[:, 0]
    inside = ((phi > 0) & (phi < 2.4)).reshape(frames.shape[:2])
    blocks = [block.mean() for row in inside for block in np.array_split(row, 5)]
    error = np.std(blocks, ddof=1) / math.sqrt(len(blocks))
    found: dict[str, Any] = {
        "p_phi_positive": round(float(inside.mean()), 5),
        "error": round(float(error), 5),
    }
    if reference is not None:
        umbrella = json.loads(reference.read_text())
        names = ("p_phi_positive", "p_phi_positive_error", "force_field")
        found["umbrella"] = {name: umbrella[name] for name in names}
    return found


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what is known of a molecule after its fit."""
    molecule, files = prepared(name, arguments.work)
    model = fitted(name, files, arguments)
    made = read_metadata(model).provenance["fit"]
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    torsions = [t for t in true_torsions(proper_torsions(atoms)) if t.kind != "omega"]
    common = (name, arguments.work, arguments.target)
    row: dict[str, Any] = {
        "molecule": name,
        "atoms": atoms.num_atoms,
        "minutes": made["total_minutes"],
        "measured": made["measured"],
        "learned": made["target"]["learned"],
    }
    starts = start_positions(model)
    tasks = [(*common, model, s, k + 1, arguments.sample_minutes) for k, s in enumerate(starts)]
    row["chains"], frames = rated(in_processes(arguments.workers, chain, tasks), torsions)
    if arguments.md_minutes > 0:
        plain = [(*common, s, k + 1, arguments.md_minutes) for k, s in enumerate(starts)]
        row["dynamics"], _ = rated(in_processes(arguments.workers, dynamics, plain), torsions)
    if name == ALANINE:
        row["populations"] = of_phi(frames, arguments.reference)
    slowest = row["chains"].get("atoms")
    if slowest is not None:
        angles = measure_torsions(frames.reshape(-1, *frames.shape[2:]), [slowest])[:, 0]
        row["sectors of the slowest torsion"] = {
            "chains": populations(angles),
            "reweighted draws": reweighted(model, slowest),
        }
    return row


def main() -> None:
    """Measure all, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", default="gfn2-xtb")
    parser.add_argument("--minutes", type=float, default=60.0, help="of each fit")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--molecules", nargs="+", default=[ALANINE, "aspirin"], choices=MOLECULES)
    parser.add_argument("--sample-minutes", type=float, default=10.0, help="of each chain")
    parser.add_argument("--md-minutes", type=float, default=10.0, help="of each trajectory")
    parser.add_argument("--reference", type=Path, help="of umbrella_sampling.py --target")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in arguments.molecules:
        rows.append(measure(name, arguments))
        print(json.dumps(rows[-1]), flush=True)
    settings = {
        "target": arguments.target,
        "minutes": arguments.minutes,
        "workers": arguments.workers,
        "temperature": TEMPERATURE,
    }
    write_record(arguments.out, settings, rows)


if __name__ == "__main__":
    main()
