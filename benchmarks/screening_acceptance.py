"""What screening leaves to the System's energy in implicit solvent, with Born terms and without.

    python benchmarks/screening_acceptance.py [PROTEIN.pdb] [--library DIR] [--rounds 30]
        [--threads 2] [--out F.json]

PROTEIN.pdb has hydrogens, as the bundled helix does. Each side chain that the library serves is a
block; proposals are single, everything else stays. The same OBC2 energy stands once as a
CustomGBForce, as openmm.app makes it, of which screening knows nothing, and once as a GBSAOBCForce,
whose Born terms it knows. Printed is which share of the proposals that passed screening the
System's energy accepted, with standard errors.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import openmm
from moves import TEMPERATURE, cpu, equilibrated
from openmm import app, unit

from timewarp_openmm import TimewarpMCMCIntegrator, sidechain_blocks
from timewarp_openmm.library import open_library
from timewarp_openmm.simulation.gbsa import with_builtin_gbsa

HELIX = Path(__file__).parent.parent / "examples" / "molecules" / "helix.pdb"
RELAXATION = 1000  # time steps


def share_accepted(
    topology: app.Topology,
    system: openmm.System,
    state: openmm.State,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Return how many proposals passed screening, and which share of them was accepted."""
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    positions = state.getPositions()
    library = open_library(arguments.library)
    for block in sidechain_blocks(topology, positions, library=library):
        integrator.addBlock(block.model, block.particles)
    integrator.setFrozenOthers(True)
    integrator.setProposalsPerStep(integrator.getNumBlocks())
    integrator.setRandomNumberSeed(5)
    simulation = app.Simulation(topology, system, integrator, *cpu(arguments.threads))
    simulation.context.setState(state)
    simulation.step(arguments.rounds)
    blocks = [integrator.getBlockStatistics(i) for i in range(integrator.getNumBlocks())]
    passed = sum(b.tried - b.screened - b.nonFinite for b in blocks)
    share = sum(b.accepted for b in blocks) / passed
    return {"passed": passed, "accepted": share, "error": math.sqrt(share * (1 - share) / passed)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structure", type=Path, nargs="?", default=HELIX)
    parser.add_argument("--library")
    parser.add_argument("--rounds", type=int, default=30, help="of a proposal for each block")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    structure = app.PDBFile(str(arguments.structure))
    force_field = app.ForceField(*open_library(arguments.library).force_field)
    system = force_field.createSystem(
        structure.topology, constraints=app.HBonds, hydrogenMass=3 * unit.dalton
    )
    fast = with_builtin_gbsa(system)
    state = equilibrated(
        structure.topology, fast, structure.positions, arguments.threads, RELAXATION
    )
    record = {
        name: share_accepted(structure.topology, of, state, arguments)
        for name, of in (("without Born terms", system), ("with Born terms", fast))
    }
    record["versions"] = {"openmm": openmm.version.version}
    print(json.dumps(record, indent=1))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
