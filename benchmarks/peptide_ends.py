"""How much a library of residues accepts at the end of a longer chain: the last residue, the last
two and three of hexapeptides that no fit has seen, given what comes before.

    python benchmarks/peptide_ends.py LIBRARY

Acceptance of independent proposals in equilibrium, from the weights of 1,000 draws in each of four
contexts (stretched, after 10 ps of dynamics), beside what the last residue accepts between caps.
The sequences are alanine, and of the 19 residues of `peptides.py` every fourth with those 3, 6, 9,
12 and 15 places on.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from peptides import FORCE_FIELD, RESIDUES, acceptance_of

from timewarp_openmm.blocks.peptides import NotServedError, PeptideFinder
from timewarp_openmm.energies.openmm_energy import OpenMMEnergy
from timewarp_openmm.flows.gaussian import log_normal
from timewarp_openmm.simulation.capped_peptides import capped_peptide
from timewarp_openmm.simulation.langevin import Langevin
from timewarp_openmm.simulation.systems import MolecularSystem
from timewarp_openmm.training.independence import Draws

CONTEXTS, DRAWS, MOST = 4, 1000, 3
#: ps from the stretched peptide to a context.
RELAXATION = 10.0


def sequences() -> list[tuple[str, ...]]:
    """Return the sequences, by the rule."""
    places = range(0, 18, 3)
    mixed = [
        tuple(RESIDUES[(start + place) % len(RESIDUES)] for place in places)
        for start in range(0, len(RESIDUES), 4)
    ]
    return [("ALA",) * 6, *mixed]


def accepted(molecule: MolecularSystem, library: Path, count: int, seed: int) -> float:
    """Return the acceptance of the last residues in one context."""
    dynamics = Langevin(300.0, timestep=0.001)
    x = dynamics.relaxed(molecule.system, molecule.positions, RELAXATION, "Reference", seed)
    finder = PeptideFinder(molecule.topology, x, library)
    (chain,) = finder.chains
    end = finder.make(chain.end(count))
    noise = torch.randn(
        (DRAWS, end.flow.noise_size),
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )
    lag = torch.full((DRAWS,), math.inf, dtype=torch.float64)
    y, w, log_q = end.flow.sample(torch.tensor(end.positions), noise, lag)
    whole = torch.tensor(x).repeat(DRAWS, 1, 1)
    whole[:, list(end.particles)] = y
    energy = OpenMMEnergy(molecule.system, finder.library.temperature, "Reference")
    log_target = log_normal(w[:, list(end.moved)].flatten(1)) - energy.energies(whole)
    log_weights = (log_target - log_q).numpy()
    log_weights = np.where(np.isfinite(log_weights), log_weights, -np.inf)
    return acceptance_of(Draws(whole.float().numpy(), log_weights))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("library", type=Path)
    library = parser.parse_args().library
    torch.set_num_threads(1)
    print(f"{'':32} {'alone':>7}  last 1, 2, 3 (each of four contexts)")
    for residues in sequences():
        name = "-".join(residues)
        molecule = capped_peptide(residues, FORCE_FIELD)
        entries = PeptideFinder(molecule.topology, molecule.positions, library).library.entries
        alone = {entry.residue: entry.acceptance for entry in entries}
        parts = []
        try:
            for count in range(1, MOST + 1):
                found = [accepted(molecule, library, count, seed) for seed in range(CONTEXTS)]
                parts.append(f"{np.mean(found):.1%} ({min(found):.1%} to {max(found):.1%})")
        except NotServedError as reason:
            parts.append(str(reason))
        print(f"{name:32} {alone.get(residues[-1], 0.0):7.1%}  {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
