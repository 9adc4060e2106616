"""Crossings of a slow barrier in long MD, as the benchmark's reference.

    python benchmarks/reference_rates.py FOLDER --torsion "phi A:ALA2" --window 0 2.4 --out R.json

FOLDER is what `timewarp-openmm simulate` wrote. `timewarp-openmm benchmark --reference R.json`
takes the result. The reference that ships for alanine dipeptide came from

    timewarp-openmm simulate --preset ala2 --out data/ala2

stopped after nine trajectories of 3 ns; --topology gives the atoms and bonds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from timewarp_openmm.analysis.torsions import folded_torsions, proper_torsions
from timewarp_openmm.benchmark.rates import Crossings, ReferenceRates, SlowSplit, count_sides
from timewarp_openmm.files import sha256_of
from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.molecule.structure_files import load_structure
from timewarp_openmm.simulation.record import read_run
from timewarp_openmm.simulation.systems import structure_file
from timewarp_openmm.trajectories.frames import open_frames, reader_topology


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--torsion", required=True)
    parser.add_argument("--window", type=float, nargs=2, required=True, help="rad")
    parser.add_argument(
        "--topology", default=str(structure_file("alanine-dipeptide")), help="PDB file"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    molecule = molecule_from_topology(load_structure(options.topology)[0])
    topology = reader_topology(molecule)
    torsions = {t.name: t for t in proper_torsions(molecule)}
    if options.torsion not in torsions:
        parser.error(f"no torsion {options.torsion!r}; there are: {', '.join(torsions)}")
    split = SlowSplit(torsions[options.torsion].atoms, *options.window)
    run = read_run(options.folder)
    if run is None:
        parser.error(f"{options.folder} holds no run.json")
    interval = run["protocol"]["interval"] / 1000
    total = Crossings(0, 0, 0.0, 0.0)
    files = {}
    for entry in run["trajectories"]:
        path = options.folder / entry["file"]
        angles = [
            folded_torsions(piece, [torsions[options.torsion]])[:, 0]
            for piece in open_frames(path, topology).chunks()
        ]
        found = count_sides([split.sides(np.concatenate(angles))], interval)
        print(f"{path.name}: {found}")
        total += found
        files[path.name] = sha256_of(path)
    reference = ReferenceRates(
        split,
        total,
        total.inside + total.outside,
        run["protocol"],
        list(molecule.atom_names),
        files,
    )
    options.out.write_text(reference.to_json() + "\n")
    print(
        f"{total.inward} inward, {total.outward} outward in {reference.nanoseconds:.1f} ns; "
        f"relaxation rate {total.relaxation_rate():.3g}/ns, at most {total.highest_rate():.3g}/ns"
    )


if __name__ == "__main__":
    main()
