"""Drug-like molecules from SMILES strings: what `fit` reaches in an hour, and what it samples.

    python benchmarks/ligands.py --work WORK [--minutes 60] [--workers 2] [--molecules NAME ...]
        [--prepare-only] [--out F.json]

Each is parametrised (GAFF 2.2.20, NAGL charges, OBC2) and fitted at 300 K, the second time with
what WORK has. Printed are the acceptance of independent draws in the integrator's chains from
different basins with its standard error and the lowest chain, and effective samples per minute of
stepping of the slowest torsion about a single bond, from four chains in different basins.
``--prepare-only`` parametrises, and tells which of them have a flow.

The set: 15 to 30 heavy atoms, among them a macrocycle, an alkyne, saturated rings, halogens,
sulfonamides and amines; protonated as written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from records import write_record

from timewarp_openmm import read_metadata
from timewarp_openmm.analysis.torsions import proper_torsions, true_torsions
from timewarp_openmm.benchmark.run import find_starts
from timewarp_openmm.benchmark.samplers import Thermostat
from timewarp_openmm.ensemble.sampling import sample_chains, slowest_torsion
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.registry import build_flow
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.simulation.langevin import default_platform
from timewarp_openmm.simulation.systems import MolecularSystem, load_molecule, make_platform

TEMPERATURE = 300.0
MOLECULES = {
    "gemfibrozil": "Cc1ccc(C)c(OCCCC(C)(C)C(=O)O)c1",
    "terbinafine": "CN(C/C=C/C#CC(C)(C)C)Cc1cccc2ccccc12",
    "celecoxib": "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F",
    "propranolol": "CC(C)NC[C@H](O)COc1cccc2ccccc12",
    "haloperidol": "O=C(CCCN1CCC(O)(CC1)c1ccc(Cl)cc1)c1ccc(F)cc1",
    "patulolide C": "C[C@@H]1CCCCCC[C@@H](O)/C=C/C(=O)O1",
    "tolbutamide": "CCCCNC(=O)NS(=O)(=O)c1ccc(C)cc1",
    "lidocaine": "CCN(CC)CC(=O)Nc1c(C)cccc1C",
    "atenolol": "CC(C)NC[C@H](O)COc1ccc(CC(N)=O)cc1",
    "oseltamivir": "CCOC(=O)C1=C[C@@H](OC(CC)CC)[C@H](NC(C)=O)[C@@H](N)C1",
}
ITERATIONS, FRAMES = 10_000, 500  # of each chain
CHAINS = 4


def run(*words: object) -> None:
    """Run the command line."""
    command = [sys.executable, "-c", "from timewarp_openmm.cli import main; main()"]
    subprocess.run([*command, *map(str, words)], check=True)


def prepared(name: str, work: Path) -> tuple[MolecularSystem, list[str]]:
    """Return a molecule with its System, and the options of the command line that name them."""
    out = work / name.replace(" ", "-")
    structure, system = out.with_name(f"{out.name}.sdf"), out.with_name(f"{out.name}.system.xml")
    if not system.exists():
        run("ligand", MOLECULES[name], "--out", out)
    return load_molecule(structure, None, system), [str(structure), "--system", str(system)]


def refusal(molecule: MolecularSystem) -> str | None:
    """Return why there is no flow for a molecule, or None."""
    try:
        build_flow(InternalFlowConfig(), molecule_from_topology(molecule.topology, molecule.system))
    except ValueError as error:
        return str(error)
    return None


def fitted(name: str, work: Path, files: list[str], arguments: argparse.Namespace) -> Path:
    """Return the model of a molecule, made now or before."""
    model = work / f"{name.replace(' ', '-')}.pt"
    if not model.exists():
        options = ["--minutes", arguments.minutes, "--workers", arguments.workers]
        run("fit", *files, "--out", model, "--temperature", TEMPERATURE, *options)
    return model


def sampled(molecule: MolecularSystem, model: Path) -> dict[str, Any]:
    """Return effective samples per minute of the slowest torsion."""
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    torsions = true_torsions(proper_torsions(atoms))
    name = default_platform(molecule.system.getNumParticles())
    starts = find_starts(
        molecule, torsions, CHAINS, Thermostat(TEMPERATURE), make_platform(name)[0], 1
    )
    samples = sample_chains(
        model, molecule.system, list(starts), ITERATIONS, FRAMES, 1, range(atoms.num_atoms), name
    )
    slowest, quality = slowest_torsion(samples.frames, [torsion.atoms for torsion in torsions])
    kept = FRAMES * CHAINS * (ITERATIONS * 9 // 10 // FRAMES)
    seconds = samples.seconds * kept / (CHAINS * ITERATIONS)
    return {
        "platform": name,
        "slowest torsion": torsions[slowest].name,
        "effective samples": quality.ess,
        "rhat": quality.rhat,
        "effective samples per minute": 60 * quality.ess / seconds,
        "iterations per second": CHAINS * ITERATIONS / samples.seconds,
    }


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what is known of a molecule after its fit."""
    molecule, files = prepared(name, arguments.work)
    row: dict[str, Any] = {"molecule": name, "smiles": MOLECULES[name]}
    row["atoms"] = molecule.system.getNumParticles()
    row["refused"] = refusal(molecule)
    if row["refused"] is not None or arguments.prepare_only:
        return row
    try:
        model = fitted(name, arguments.work, files, arguments)
    except subprocess.CalledProcessError as error:
        return {**row, "fit failed": error.returncode}
    measured = read_metadata(model).provenance["fit"]
    row |= {key: measured["measured"][key] for key in ("acceptance", "error", "lowest")}
    return {**row, "minutes": measured["total_minutes"], **sampled(molecule, model)}


def main() -> None:
    """Measure all, print a table and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="of each fit")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--molecules", nargs="+", default=list(MOLECULES), choices=list(MOLECULES))
    parser.add_argument("--prepare-only", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in arguments.molecules:
        rows.append(measure(name, arguments))
        print(json.dumps(rows[-1]), flush=True)
    settings = {
        "minutes": arguments.minutes,
        "workers": arguments.workers,
        "temperature": TEMPERATURE,
    }
    write_record(arguments.out, settings, rows)


if __name__ == "__main__":
    main()
