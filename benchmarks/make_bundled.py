"""Make the bundled model alanine-dipeptide: a fit from its structure, then refined while it pays.

    python benchmarks/make_bundled.py --work WORK --out alanine-dipeptide.pt

Takes about 100 minutes on two cores. Stages that WORK holds already are not done again, so that an
interrupted run goes on. Writes the model and its card; the acceptance in the card is that of the
integrator's own chain, started in different basins.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from timewarp_openmm import read_metadata
from timewarp_openmm.curves import METRICS_FILE, read_metrics
from timewarp_openmm.files import write_bytes_atomically
from timewarp_openmm.simulation.explore import BASINS_FILE, read_basins
from timewarp_openmm.simulation.systems import named_molecule
from timewarp_openmm.training.checkpoints import load_trained
from timewarp_openmm.training.export import export_trained
from timewarp_openmm.training.refine import RefineSettings, describe, refine
from timewarp_openmm.workflows.fit import FitSettings, fit, validate, write_card

#: Shorter rounds first; a long last one, whose learning rate falls once more.
REFINEMENTS = (RefineSettings(minutes=28, rounds=3, target=0.9), RefineSettings(38, 1, 0.9))


def training_seconds(folder: Path) -> float:
    """Return how long the rounds of a refinement trained."""
    rounds = sorted(path.parent for path in folder.glob(f"*/{METRICS_FILE}"))
    return sum(read_metrics(each)[-1]["seconds"] for each in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=29.5, help="of the fit")
    options = parser.parse_args()
    molecule = named_molecule("alanine-dipeptide")
    options.work.mkdir(parents=True, exist_ok=True)
    first = options.work / "alanine-dipeptide.pt"
    if not first.exists():
        fit(molecule, first, FitSettings(minutes=options.minutes))
    made = read_metadata(first).provenance["fit"]
    run = first.with_suffix(".work")
    data, run = run / "data", run / "refine"
    for number, settings in enumerate(REFINEMENTS, 2):
        folder = options.work / f"refine{number}"
        result = refine(run, folder, settings)
        made["seconds"][f"refine {number}"] = round(training_seconds(folder), 1)
        made["refine_rounds"] += [describe(m) for m in result.measurements[1:]]
        run = folder
    made["total_minutes"] = round(sum(made["seconds"].values()) / 60, 2)
    trained = load_trained(run)
    export_trained(trained, options.out, {"fit": made}, overwrite=True)
    basins = read_basins(data / BASINS_FILE).basins
    made["measured"] = asdict(validate(options.out, molecule, basins.positions, seed=1))
    export_trained(trained, options.out, {"fit": made}, overwrite=True)
    card = write_card(options.out, trained, {"fit": made})
    write_bytes_atomically(options.out.with_suffix(".md"), card.encode())
    print(card)


if __name__ == "__main__":
    main()
