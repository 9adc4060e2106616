"""Free energies that are known some other way: how close does ``timewarp-openmm free-energy`` come?

    python benchmarks/free_energy.py [--draws 200000] [--iterations 50000] [--out F.json]

1. A molecule of springs (harmonic_chain.py), whose integral is a product of quadratures.
2. Alanine dipeptide from vacuum to OBC at 310 K, with the bundled model (made for OBC): from draws
   alone by importance weighting, and from the two chains alone by BAR. The two share no samples.
3. Its basins in OBC beside umbrella sampling (tests/data, made by umbrella_sampling.py).

Prints each figure beside the other with standard errors, and whether it holds. Takes about ten
minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from harmonic_chain import HarmonicChain

from timewarp_openmm import pretrained
from timewarp_openmm.commands.free_energy import FreeEnergyOptions, free_energy
from timewarp_openmm.commands.options import validated
from timewarp_openmm.flows import export_model
from timewarp_openmm.simulation.systems import structure_file

ROOT = Path(__file__).parents[1]
UMBRELLA = ROOT / "tests" / "data" / "alanine-dipeptide-umbrella.json"
#: Standard errors; the umbrella's are those of five blocks, which have long tails.
MOST_ERRORS = 3.0


@dataclass(frozen=True)
class Comparison:
    """A figure and what it should be.

    Attributes
    ----------
    name : str
    found, error : float
    expected, expected_error : float
    tolerance : float
        By which they may differ besides; infinite if errors alone decide.
    """

    name: str
    found: float
    error: float
    expected: float
    expected_error: float
    tolerance: float = math.inf

    @property
    def holds(self) -> bool:
        """Whether they agree within errors and within the tolerance."""
        away = abs(self.found - self.expected)
        both = math.hypot(self.error, self.expected_error)
        return away <= MOST_ERRORS * both and away <= self.tolerance

    def __str__(self) -> str:
        both = math.hypot(self.error, self.expected_error)
        limit = "" if math.isinf(self.tolerance) else f", bar {self.tolerance:g}"
        return (
            f"{self.name:<58}{self.found:>10.4f} +- {self.error:.4f}   {self.expected:>10.4f} +- "
            f"{self.expected_error:.4f}   apart {abs(self.found - self.expected):.4f} "
            f"({abs(self.found - self.expected) / both:.1f} errors{limit}) "
            f"{'holds' if self.holds else 'DOES NOT HOLD'}"
        )


def run(out: Path, **options: Any) -> dict[str, Any]:
    """Run the command and return what it has written."""
    free_energy(validated(FreeEnergyOptions, {**options, "out": out, "force": True}))
    return json.loads(out.read_text())  # type: ignore[no-any-return]


def harmonic(folder: Path, elements: str, draws: int, iterations: int) -> list[Comparison]:
    """Compare a molecule of springs with its exact free energy."""
    chain = HarmonicChain(elements)
    pdb, system = chain.write(folder)
    flow, model = chain.flow(), folder / f"{elements}.pt"
    export_model(flow, chain.metadata(flow), model, overwrite=True)
    files = {"model": model, "pdb": pdb, "system": system}
    record = run(folder / f"{elements}.json", draws=draws, iterations=iterations, **files)
    ways = record["systems"][0]["free_energy"]
    return [
        Comparison(
            f"{elements}, {name} and the exact F / kT",
            ways[way]["kT"],
            ways[way]["kT_error"],
            chain.free_energy(),
            0.0,
            0.01,
        )
        for way, name in (("importance_weighting", "draws"), ("bar", "BAR"))
    ]


def alanine(folder: Path, draws: int, iterations: int) -> list[Comparison]:
    """Compare two routes from vacuum to OBC, and basins in OBC with umbrella sampling."""
    with resources.as_file(structure_file("alanine-dipeptide")) as pdb:
        record = run(
            folder / "alanine-dipeptide.json",
            model=pretrained("alanine-dipeptide"),
            pdb=pdb,
            force_field2=["amber99sbildn.xml"],
            basin=["window=phi:0:137.51", "left=phi:-180:0", "right=phi:0:180"],
            draws=draws,
            iterations=iterations,
            interval=2,
            resamples=50,
        )
    difference = record["difference"]
    draws_alone, chains_alone = (
        difference[way] for way in ("importance_weighting", "bar_between_chains")
    )
    umbrella = json.loads(UMBRELLA.read_text())
    basins = record["systems"][0]["basins"]
    right, left = (basins[name]["free_energy"] for name in ("right", "left"))
    share = basins["window"]["population"]
    return [
        # The System of the model comes first, so that the signs are those of leaving the solvent.
        Comparison(
            "OBC to vacuum, draws alone and chains alone / kT",
            draws_alone["kT"],
            draws_alone["kT_error"],
            chains_alone["kT"],
            chains_alone["kT_error"],
            0.05,
        ),
        Comparison(
            "p(0 < phi < 2.4) in OBC and by umbrella sampling",
            share["value"],
            share["error"],
            umbrella["p_phi_positive"],
            umbrella["p_phi_positive_error"],
        ),
        Comparison(
            "F(phi > 0) - F(phi < 0) in OBC, and by umbrella / kJ/mol",
            right["kJ_mol"] - left["kJ_mol"],
            math.hypot(right["kJ_mol_error"], left["kJ_mol_error"]),
            umbrella["free_energy_phi_positive"],
            umbrella["free_energy_phi_positive_error"],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200_000, help="of alanine dipeptide")
    parser.add_argument("--iterations", type=int, default=50_000, help="of each of its chains")
    parser.add_argument("--work", type=Path, default=Path("runs/free-energy"))
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    found = [
        *harmonic(options.work, "HSSSH", 40_000, 5_000),
        *harmonic(options.work, "HSSSSSSH", 40_000, 5_000),
        *alanine(options.work, options.draws, options.iterations),
    ]
    print()
    for comparison in found:
        print(comparison)
    if options.out:
        rows = [{**vars(comparison), "holds": comparison.holds} for comparison in found]
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
