"""Make the bundled model alanine-dipeptide: a long fit from its structure.

    python benchmarks/make_bundled.py --work WORK --out alanine-dipeptide.pt [--minutes 95]

Stages that WORK holds already are not done again, so that an interrupted run goes on, and one with
more minutes goes on with a finished one. Writes the model and its card.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from timewarp_openmm.simulation.systems import named_molecule
from timewarp_openmm.workflows.fit import fit
from timewarp_openmm.workflows.settings import FitSettings


def main() -> None:
    """Fit, and print the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=95.0)
    options = parser.parse_args()
    molecule = named_molecule("alanine-dipeptide")
    fit(molecule, options.out, FitSettings(minutes=options.minutes), options.work, force=True)
    print(options.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
