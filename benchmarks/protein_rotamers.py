"""Rotamer changes of a protein's side chains per second: a library's blocks against dynamics.

    python benchmarks/protein_rotamers.py PROTEIN.pdb|t4-lysozyme [--library DIR] [--minutes 10]
        [--solvent implicit|water] [--blocks-per-try 8] [--tries 25] [--buried 0.1] [--threads 2]
        [--platform CPU] [--out F.json]

PROTEIN.pdb needs no hydrogens; what is not protein is left out. ``t4-lysozyme`` is the mutant L99A
with the coordinates of openmmtools' test system. The force field is the library's
(amber14 and OBC2 with a cut-off of 1.5 nm, or TIP3P with PME and a cut-off of 0.9 nm), with HBonds,
hydrogens of 3 dalton, steps of 4 fs, 300 K. Two simulations take turns of some 20 seconds from one
relaxed structure: LangevinMiddleIntegrator, and the same dynamics with a block for each side chain
that the library serves. Between looks there are 25 time steps and some tries, each of several
blocks, and each of these with 64 proposals that draw one or two torsions, of which one or none is
taken; the energy of the System decides on all blocks of a try. A rotamer counts as another
one when all torsions of a residue (`rotamer_torsions`) are found within 30 degrees of the middle of
their wells, and one of them is in another well than the last time; both simulations are looked at
after equal times of dynamics. Exposed: more than 30 % of the side chain's surface. Others are
picked with the weight --buried.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from moves import FRICTION, LATENT, STEP, TEMPERATURE, equilibrated, platform_of
from numpy.typing import NDArray
from openmm import app, unit

from timewarp_openmm import TimewarpMCMCIntegrator
from timewarp_openmm.blocks.exposure import exposed_shares, side_chain_parts
from timewarp_openmm.blocks.plan import EXPOSED, LEAST_WEIGHT
from timewarp_openmm.blocks.sidechains import Block, block_torsions, find_sidechains
from timewarp_openmm.library import Library, open_library
from timewarp_openmm.molecule.matching import PartFinder
from timewarp_openmm.molecule.rotamers import wells
from timewarp_openmm.molecule.torsions import measure_torsions
from timewarp_openmm.simulation.gbsa import with_builtin_gbsa

LOOK = 25  # time steps
TURN = 20.0  # s
SUBCHAIN = 64
RELAXATION = 1000  # time steps
WATER = "amber14/tip3p.xml"
LYSOZYME = "t4-lysozyme"


def structure_of(path: Path) -> tuple[app.Topology, Any]:
    """Return topology and positions of a file, or of T4 lysozyme."""
    if str(path) == LYSOZYME:
        from openmmtools.testsystems import LysozymeImplicit

        made = LysozymeImplicit()
        return made.topology, made.positions
    structure = app.PDBFile(str(path))
    return structure.topology, structure.positions


def build(
    path: Path, library: Library, solvent: str
) -> tuple[app.Topology, openmm.System, NDArray[np.float64]]:
    """Return topology, System and positions / nm of the protein in its solvent."""
    modeller = app.Modeller(*structure_of(path))
    modeller.delete([r for r in modeller.topology.residues() if not is_protein(r)])
    protein = [name for name in library.force_field if not name.startswith("implicit")]
    files = [*protein, WATER] if solvent == "water" else list(library.force_field)
    force_field = app.ForceField(*files)
    modeller.addHydrogens(force_field)
    options: dict[str, Any] = {"constraints": app.HBonds, "hydrogenMass": 3 * unit.dalton}
    if solvent == "water":
        modeller.addSolvent(force_field, padding=0.9 * unit.nanometer, neutralize=True)
        options |= {"nonbondedMethod": app.PME, "nonbondedCutoff": 0.9 * unit.nanometer}
    else:
        options |= {
            "nonbondedMethod": app.CutoffNonPeriodic,
            "nonbondedCutoff": 1.5 * unit.nanometer,
        }
    system = force_field.createSystem(modeller.topology, **options)
    positions = np.asarray(modeller.positions.value_in_unit(unit.nanometer))
    return modeller.topology, with_builtin_gbsa(system), positions


def is_protein(residue: app.topology.Residue) -> bool:
    """Tell amino acids and caps from all else."""
    names = {atom.name for atom in residue.atoms()}
    return residue.name in ("ACE", "NME") or names.issuperset({"N", "CA", "C"})


@dataclass
class Rotamers:
    """Counts changes of rotamer of some residues."""

    torsions: list[list[tuple[int, int, int, int]]]
    seconds: float = 0.0
    looks: int = 0
    changes: list[int] = field(default_factory=list)
    last: list[tuple[int, ...] | None] = field(default_factory=list)

    def look(self, positions: NDArray[np.float64]) -> None:
        """Take note of a conformation [N, 3] / nm."""
        self.changes = self.changes or [0] * len(self.torsions)
        self.last = self.last or [None] * len(self.torsions)
        self.looks += 1
        for i, atoms in enumerate(self.torsions):
            angles = measure_torsions(positions[None], atoms)[0]
            found = wells(angles)
            middles = np.radians(60 + 120 * found)
            if (np.cos(angles - middles) < math.cos(math.radians(30))).any():
                continue
            now = tuple(found.tolist())
            self.changes[i] += self.last[i] not in (None, now)
            self.last[i] = now


def with_blocks(
    blocks: list[Block], weights: list[float], tries: int, blocks_per_try: int
) -> TimewarpMCMCIntegrator:
    """Return an integrator with all blocks, and dynamics between their proposals."""
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    for block, weight in zip(blocks, weights, strict=True):
        integrator.addBlock(block.model, block.particles, weight)
    integrator.setDynamics(LOOK, STEP, FRICTION)
    integrator.setProposalsPerStep(tries)
    integrator.setBlocksPerTry(blocks_per_try)
    integrator.setSubchainLength(SUBCHAIN)
    integrator.setLatentCorrelation(LATENT)
    integrator.setRandomNumberSeed(5)
    return integrator


def turn(simulation: app.Simulation, steps: int, rotamers: Rotamers) -> None:
    """Run for a while, with a look after so many steps."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < TURN:
        simulation.step(steps)
        state = simulation.context.getState(positions=True)
        rotamers.look(np.asarray(state.getPositions(asNumpy=True)._value))
    rotamers.seconds += time.perf_counter() - begin


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return rates of both, in all and for each residue."""
    library = open_library(arguments.library)
    topology, system, positions = build(arguments.structure, library, arguments.solvent)
    platform = platform_of(arguments)
    state = equilibrated(topology, system, positions, arguments.threads, RELAXATION)
    x = np.asarray(state.getPositions(asNumpy=True)._value)
    found = find_sidechains(topology, x, None, library)
    residues, graph = list(topology.residues()), PartFinder(topology).graph
    torsions = block_torsions(found.blocks, topology, graph)
    served = [pair for pair in zip(found.blocks, torsions, strict=True) if pair[1]]
    exposed = exposed_shares(
        topology, x, side_chain_parts([residues[b.index] for b, _ in served], graph)
    )
    weights = [1.0 if share is None or share > EXPOSED else arguments.buried for share in exposed]
    blocks_of_all = [block for block, _ in served]
    runs = []
    for integrator, steps in (
        (openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, STEP), LOOK),
        (with_blocks(blocks_of_all, weights, arguments.tries, arguments.blocks_per_try), 1),
    ):
        simulation = app.Simulation(topology, system, integrator, *platform)
        simulation.context.setState(state)
        runs.append((simulation, steps, Rotamers([torsions for _, torsions in served])))
    end = time.perf_counter() + 60 * arguments.minutes
    while time.perf_counter() < end:
        for run in runs:
            turn(*run)
    dynamics, blocks = (rotamers for _, _, rotamers in runs)
    statistics = [runs[1][0].integrator.getBlockStatistics(i) for i in range(len(served))]
    rows = [
        {
            "residue": block.residue,
            "exposed": share,
            "dynamics": dynamics.changes[i],
            "blocks": blocks.changes[i],
            "tried": statistics[i].tried,
            "accepted": statistics[i].accepted,
        }
        for i, ((block, _), share) in enumerate(zip(served, exposed, strict=True))
    ]
    return {
        "atoms": system.getNumParticles(),
        "solvent": arguments.solvent,
        "tries": arguments.tries,
        "blocks per try": arguments.blocks_per_try,
        "weight of buried residues": arguments.buried,
        "library": library.digest,
        "seconds": [dynamics.seconds, blocks.seconds],
        "picoseconds": [r.looks * LOOK * STEP for r in (dynamics, blocks)],
        "exposed": ratio(rows, dynamics.seconds, blocks.seconds, exposed=True),
        "others": ratio(rows, dynamics.seconds, blocks.seconds, exposed=False),
        "never moved": [row["residue"] for row in rows if row["blocks"] == 0],
        "unserved": {entry.residue: entry.reason for entry in found.unserved},
        "rows": rows,
    }


def ratio(
    rows: list[dict[str, Any]], seconds: float, own_seconds: float, exposed: bool
) -> dict[str, Any]:
    """Return how many times as many changes per second the blocks make.

    Where dynamics made none, the ratio is a lower limit of 95 % (3 changes), without an error.
    """
    chosen = [row for row in rows if (row["exposed"] > EXPOSED) == exposed]
    theirs = sum(row["dynamics"] for row in chosen)
    own = sum(row["blocks"] for row in chosen)
    value = (own / own_seconds) / (max(theirs, 3 if theirs == 0 else 1) / seconds)
    error = value * math.sqrt(1 / own + 1 / theirs) if own and theirs else None
    return {
        "residues": len(chosen),
        "changes of dynamics": theirs,
        "changes of blocks": own,
        "ratio": value,
        "error": error,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structure", type=Path, help=f"a PDB file, or {LYSOZYME}")
    parser.add_argument("--library")
    parser.add_argument("--minutes", type=float, default=10.0, help="of both together")
    parser.add_argument("--solvent", choices=("implicit", "water"), default="implicit")
    parser.add_argument("--blocks-per-try", type=int, default=8)
    parser.add_argument("--tries", type=int, default=25, help="between looks")
    parser.add_argument("--buried", type=float, default=LEAST_WEIGHT, help="their weight")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--platform", default="CPU", choices=("CPU", "OpenCL", "CUDA"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    record = measure(arguments)
    for row in record["rows"]:
        print(json.dumps(row))
    print(json.dumps({k: v for k, v in record.items() if k != "rows"}, indent=1))
    if arguments.out is not None:
        record["openmm"] = openmm.version.version
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
