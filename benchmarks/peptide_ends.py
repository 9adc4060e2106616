"""How much a library of residues accepts at the end of a longer chain: the last residue, the last
two and three of hexapeptides that no fit has seen, given what comes before; and of charged ones the
first, given what comes after.

    python benchmarks/peptide_ends.py LIBRARY [--charged]

Acceptance of independent proposals in equilibrium, from the weights of 1,000 draws in each of four
contexts (stretched, after 10 ps of dynamics), beside what the residue accepts with caps alone.
The sequences are alanine, and of the 19 residues of `peptides.py` every fourth with those 3, 6, 9,
12 and 15 places on; with ``--charged`` they begin with NH3+ and end with COO-.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from peptides import FORCE_FIELD, RESIDUES, acceptance_of

from timewarp_openmm.blocks.peptides import NotServedError, PeptideFinder
from timewarp_openmm.energies.openmm_energy import OpenMMEnergy
from timewarp_openmm.flows.gaussian import log_normal
from timewarp_openmm.library import RESIDUE, open_library
from timewarp_openmm.molecule.chain_ends import FIRST, LAST
from timewarp_openmm.simulation.capped_peptides import capped_peptide
from timewarp_openmm.simulation.langevin import Langevin
from timewarp_openmm.simulation.systems import MolecularSystem
from timewarp_openmm.training.independence import Draws

CONTEXTS, DRAWS, MOST = 4, 1000, 3
#: ps from the stretched peptide to a context.
RELAXATION = 10.0


def sequences(charged: bool) -> list[tuple[str, ...]]:
    """Return the sequences, by the rule."""
    places = range(0, 18, 3)
    mixed = [
        tuple(RESIDUES[(start + place) % len(RESIDUES)] for place in places)
        for start in range(0, len(RESIDUES), 4)
    ]
    found = [("ALA",) * 6, *mixed]
    if not charged:
        return found
    return [(FIRST + first, *inner, LAST + last) for first, *inner, last in found]


def accepted(molecule: MolecularSystem, library: Path, count: int, seed: int) -> float:
    """Return the acceptance of the last `count` residues in one context, or, for 0, of the first
    one."""
    dynamics = Langevin(300.0, timestep=0.001)
    x = dynamics.relaxed(molecule.system, molecule.positions, RELAXATION, "Reference", seed)
    finder = PeptideFinder(molecule.topology, x, library)
    (chain,) = finder.chains
    end = finder.make(chain.end(count) if count else chain.beginning())
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


def described(molecule: MolecularSystem, library: Path, counts: Iterable[int]) -> str:
    """Return the acceptance of some parts of a peptide, over contexts, or why there is none."""
    parts = []
    try:
        for count in counts:
            found = [accepted(molecule, library, count, seed) for seed in range(CONTEXTS)]
            parts.append(f"{np.mean(found):.1%} ({min(found):.1%} to {max(found):.1%})")
    except NotServedError as reason:
        parts.append(str(reason))
    return ", ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("--charged", action="store_true", help="NH3+ and COO- instead of caps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    alone = {e.residue: e.acceptance for e in open_library(options.library).of_kind(RESIDUE)}
    print(f"{'':40} {'alone':>7}  last 1, 2, 3 (each of four contexts)")
    for residues in sequences(options.charged):
        name = "-".join(residues)
        molecule = capped_peptide(residues, FORCE_FIELD)
        last = described(molecule, options.library, range(1, MOST + 1))
        print(f"{name:40} {alone.get(residues[-1], 0.0):7.1%}  {last}", flush=True)
        if options.charged:
            first = described(molecule, options.library, [0])
            print(f"{'the first':>40} {alone.get(residues[0], 0.0):7.1%}  {first}", flush=True)


if __name__ == "__main__":
    main()
