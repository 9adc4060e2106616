"""What a library's models accept in peptides that they were not made in, without any training.

    python benchmarks/transfer.py [LIBRARY] [--starts 6] [--proposals 1000] [--residues VAL LEU]
        [--force-field amber14/protein.ff14SB.xml implicit/obc2.xml] [--out F.json]

LIBRARY is a folder that ``timewarp-openmm library build`` has made, by default the bundled one.
Each model is tried in its capped residue, between alanines, and beside another large side chain,
in the library's force field or another one. Everything else stands still: a chain of proposals
begins in each of several conformations, which molecular dynamics has reached in 30 ps at 450 K and
10 ps at 300 K from different random numbers. Acceptance is the mean over them, its error the
standard error, and the lowest one of the conformations is given, too.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import openmm

from timewarp_openmm import TimewarpMCMCIntegrator, find_blocks
from timewarp_openmm.library import Library, LibraryEntry, open_library
from timewarp_openmm.simulation.capped_peptides import capped_peptide
from timewarp_openmm.simulation.langevin import Langevin
from timewarp_openmm.simulation.systems import MolecularSystem

TEMPERATURE = 300.0
HOT = 450.0
#: What stands beside a residue in the pairs: the first that is not the residue itself.
LARGE = ("LEU", "PHE")


def peptides_of(residue: str) -> list[tuple[str, ...]]:
    """Return what a residue's model is tried in; what it was made in comes first."""
    beside = next(name for name in LARGE if name != residue)
    return [(residue,), ("ALA", residue, "ALA"), (beside, residue), (residue, beside)]


def starts_of(
    molecule: MolecularSystem,
    count: int,
    hot: float = 30.0,
    relaxed: float = 10.0,
    temperature: float = HOT,
    timestep: float = 0.001,
) -> list[np.ndarray]:
    """Return conformations [N, 3] / nm of dynamics in steps of `timestep` / ps: `hot` ps at
    `temperature` / K, and then `relaxed` ps."""
    starts = []
    for seed in range(1, count + 1):
        x, minimise = molecule.positions, True
        for kelvin, picoseconds in ((temperature, hot), (TEMPERATURE, relaxed)):
            dynamics = Langevin(kelvin, timestep=timestep)
            x = dynamics.relaxed(molecule.system, x, picoseconds, "Reference", seed, minimise)
            minimise = False
        starts.append(x)
    return starts


def acceptance(
    model: str, particles: list[int], system: openmm.System, start: np.ndarray, proposals: int
) -> float:
    """Return the share of proposals that the System's energy accepts, one at a time."""
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    integrator.addBlock(model, particles)
    integrator.setFrozenOthers(True)
    integrator.setScreening(False)
    integrator.setRandomNumberSeed(3)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(start)
    integrator.step(proposals)
    return integrator.getAcceptanceRate()


def measure(
    entry: LibraryEntry, residues: tuple[str, ...], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return the acceptance of a model at its place in a peptide."""
    molecule = capped_peptide(residues, arguments.force_field)
    # Caps are residues of their own.
    own = {
        atom.index
        for atom in molecule.topology.atoms()
        if atom.residue.index == 1 + residues.index(entry.residue)
    }
    places = find_blocks(entry.model, molecule.topology, molecule.positions)
    (particles,) = (place for place in places if len(own.intersection(place)) > len(place) / 2)
    rates = [
        acceptance(entry.model, particles, molecule.system, start, arguments.proposals)
        for start in starts_of(molecule, arguments.starts)
    ]
    row = {
        "residue": entry.residue,
        "peptide": "-".join(residues),
        "acceptance": float(np.mean(rates)),
        "error": float(np.std(rates, ddof=1) / math.sqrt(len(rates))),
        "lowest": float(min(rates)),
    }
    print(json.dumps(row), flush=True)
    return row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the places other than the capped residues have in common."""
    elsewhere = {
        f"{row['residue']} in {row['peptide']}": row["acceptance"]
        for row in rows
        if row["peptide"] != row["residue"]
    }
    below = sorted(place for place, found in elsewhere.items() if found < 0.05)
    return {
        "places": len(elsewhere),
        "median": float(np.median(list(elsewhere.values()))),
        "lowest": min(elsewhere.values()),
        "below 5 %": below,
    }


def entries_of(library: Library, residues: list[str] | None) -> list[LibraryEntry]:
    """Return the side chains that are asked for."""
    entries = library.of_kind("side chain")
    return [entry for entry in entries if residues is None or entry.residue in residues]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", nargs="?", help="a folder; default: the bundled one")
    parser.add_argument("--starts", type=int, default=6)
    parser.add_argument("--proposals", type=int, default=1000)
    parser.add_argument("--residues", nargs="+")
    parser.add_argument("--force-field", nargs="+")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    library = open_library(arguments.library)
    arguments.force_field = arguments.force_field or library.force_field
    rows = [
        measure(entry, residues, arguments)
        for entry in entries_of(library, arguments.residues)
        for residues in peptides_of(entry.residue)
    ]
    found = summary(rows)
    print(json.dumps(found))
    if arguments.out is not None:
        record = {
            "library": library.digest,
            "force_field": list(arguments.force_field),
            "openmm": openmm.version.version,
            "rows": rows,
            **found,
        }
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
