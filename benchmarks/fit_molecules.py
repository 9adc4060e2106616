"""What `timewarp-openmm fit` reaches for a set of molecules (docs/figures.md).

    python benchmarks/fit_molecules.py --work FOLDER [NAME ...]

Takes the sum of the minutes below on two cores that do nothing else; less is reached beside other
programs. What FOLDER holds already is gone on with. Acceptance is that of 8 true chains from
different basins. The molecules are those of examples/molecules, and two with rings that flip.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from ring_acceptance import SMILES
from short_fits import from_smiles

from timewarp_openmm.simulation.systems import MolecularSystem, load_molecule, named_molecule
from timewarp_openmm.workflows.fit import FitSettings, fit

MOLECULES = Path(__file__).parent.parent / "examples" / "molecules"
#: Built from SMILES strings, with the force field of tests/python/generic_force_field.py.
RINGS = ("methylcyclohexane", "N-methylpiperidine")


@dataclass(frozen=True)
class Example:
    """A molecule and the time it is given / minutes."""

    name: str
    minutes: float

    def load(self) -> MolecularSystem:
        if self.name in RINGS:
            return from_smiles(self.name, SMILES[self.name])
        structure = MOLECULES / f"{self.name}.pdb"
        if not structure.exists():
            return named_molecule(self.name)
        system = structure.with_suffix(".system.xml")
        return load_molecule(structure, None, system if system.exists() else None)


EXAMPLES = (
    Example("alanine-dipeptide", 2),
    Example("alanine-dipeptide", 4),
    Example("leucine-dipeptide", 12),
    Example("valproic-acid", 10),
    Example("glycine-proline", 12),
    *(Example(name, 2) for name in RINGS),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    known = sorted({example.name for example in EXAMPLES})
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"no example is called {', '.join(unknown)}; there are {', '.join(known)}")
    options.work.mkdir(parents=True, exist_ok=True)
    print("| molecule | atoms | minutes | acceptance | lowest chain |\n" + "| --- " * 5 + "|")
    for example in EXAMPLES:
        if options.names and example.name not in options.names:
            continue
        molecule = example.load()
        out = options.work / f"{example.name}-{example.minutes:g}.pt"
        found = fit(molecule, out, FitSettings(minutes=example.minutes), force=True)
        print(
            f"| {example.name} | {len(molecule.positions)} | {example.minutes:g} "
            f"| {found.acceptance:.1%} +- {found.error:.1%} | {found.lowest:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
