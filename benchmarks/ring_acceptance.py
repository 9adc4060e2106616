"""What a flow accepts for molecules with rings that flip, after the same steps on as many frames.

    python benchmarks/ring_acceptance.py [--work FOLDER] [--regression 400] [NAME ...]

Nothing here depends on how fast the machine is. Hot walkers find the basins of each molecule; 4
trajectories from each basin make the data; the flow is trained by likelihood and then by density
regression, as `timewarp-openmm fit` does it; acceptance is that of 8 chains of the integrator that
start in different basins. Alanine dipeptide, which has no ring, is there to compare with. Force
field: tests/python/generic_force_field.py. What FOLDER holds already is not made again.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from short_fits import ShortFit, from_smiles

from timewarp_openmm.simulation.chains import Acceptance, run_chains

SMILES = {
    "alanine-dipeptide": "CC(=O)N[C@@H](C)C(=O)NC",
    "methylcyclohexane": "CC1CCCCC1",
    "N-methylpiperidine": "CN1CCCCC1",
    "cis-decalin": "C1CC[C@H]2CCCC[C@H]2C1",
}
SEED = 1
CHAINS = 8
ITERATIONS = 1000


def measure(fit: ShortFit, likelihood: int, regression: int) -> Acceptance:
    """Make what is missing, and return the acceptance after so many steps."""
    model = fit.make(likelihood, regression)
    return run_chains(model, fit.molecule.system, fit.starts(CHAINS), ITERATIONS, SEED).acceptance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder of what is made; a temporary one if none")
    parser.add_argument("--likelihood", type=int, default=400, help="steps")
    parser.add_argument("--regression", type=int, default=400, help="steps")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SMILES)}")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(SMILES)):
        parser.error(f"no molecule is called {', '.join(unknown)}; there are {', '.join(SMILES)}")
    torch.set_num_threads(1)
    print("| molecule | atoms | acceptance | lowest chain |\n" + "| --- " * 4 + "|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.names or SMILES:
            work = (options.work or Path(temporary)) / name
            molecule = from_smiles(name, SMILES[name])
            found = measure(ShortFit(molecule, work), options.likelihood, options.regression)
            print(
                f"| {name} | {len(molecule.positions)} | {found.mean:.1%} +- {found.error:.1%} "
                f"| {found.lowest:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
