"""What side chains' models accept in peptides that they were not made in, without any training.

    python benchmarks/transfer.py MODELS [--starts 8] [--proposals 2000] [--out F.json]

MODELS is a folder with ``valine-dipeptide-sidechain.pt`` and ``leucine-dipeptide-sidechain.pt``, as
``fit examples/molecules/valine-dipeptide.pdb --moved sidechain`` makes them. Each is tried at every
place where it fits (`find_blocks`) in capped peptides of two and three residues, in the same force
field (amber99sbildn and OBC). Everything else stands still: a chain of proposals begins in each of
several conformations, which molecular dynamics has reached in 40 ps at 450 K and 10 ps at 300 K
from different random numbers. Acceptance is the mean over them, its error the standard error.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openmm

from timewarp_openmm import TimewarpMCMCIntegrator, find_blocks
from timewarp_openmm.simulation.langevin import Langevin
from timewarp_openmm.simulation.systems import MolecularSystem, load_molecule

MOLECULES = Path(__file__).parent.parent / "examples" / "molecules"
sys.path.insert(0, str(MOLECULES))

from make_peptides import write_pdb  # noqa: E402

#: Of each residue the SMILES string between its neighbours.
RESIDUES = {"A": "N[C@@H](C)C(=O)", "L": "N[C@@H](CC(C)C)C(=O)", "V": "N[C@@H](C(C)C)C(=O)"}
NAMES = {"A": "ALA", "L": "LEU", "V": "VAL"}
#: What they were made in comes first.
PEPTIDES = ("V", "L", "AVA", "ALA", "VL", "LV", "VV", "LL", "VLV", "LVL")
TEMPERATURE = 300.0
HOT = 450.0
FORCE_FIELD = ["amber99sbildn.xml", "amber99_obc.xml"]


def load_peptide(sequence: str, folder: Path) -> MolecularSystem:
    """Return a capped peptide with Amber's names."""
    smiles = "CC(=O)" + "".join(RESIDUES[letter] for letter in sequence) + "NC"
    path = folder / f"{sequence}.pdb"
    write_pdb(path, smiles, ("ACE", *(NAMES[letter] for letter in sequence), "NME"))
    return load_molecule(path, FORCE_FIELD)


def starts_of(molecule: MolecularSystem, count: int) -> list[np.ndarray]:
    """Return conformations [N, 3] / nm of dynamics, hot at first."""
    starts = []
    for seed in range(1, count + 1):
        x, minimise = molecule.positions, True
        for temperature, picoseconds in ((HOT, 40.0), (TEMPERATURE, 10.0)):
            dynamics = Langevin(temperature, timestep=0.001)
            x = dynamics.relaxed(molecule.system, x, picoseconds, "Reference", seed, minimise)
            minimise = False
        starts.append(x)
    return starts


def acceptance(
    model: Path, particles: list[int], system: openmm.System, start: np.ndarray, proposals: int
) -> float:
    """Return the share of proposals that the System's energy accepts, one at a time."""
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    integrator.addBlock(model, particles)
    integrator.setFrozenOthers(True)
    integrator.setScreening(False)
    integrator.setRandomNumberSeed(3)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(start)
    integrator.step(proposals)
    return integrator.getAcceptanceRate()


def measure(sequence: str, arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each side chain of a peptide that has a model."""
    molecule = load_peptide(sequence, folder)
    starts = starts_of(molecule, arguments.starts)
    atoms = list(molecule.topology.atoms())
    rows = []
    for name in ("valine", "leucine"):
        model = arguments.models / f"{name}-dipeptide-sidechain.pt"
        for particles in find_blocks(model, molecule.topology, molecule.positions):
            rates = [
                acceptance(model, particles, molecule.system, start, arguments.proposals)
                for start in starts
            ]
            # The central one: caps are residues of their own.
            residue = atoms[particles[len(particles) // 2]].residue
            rows.append(
                {
                    "peptide": sequence,
                    "residue": f"{residue.name}{residue.index}",
                    "acceptance": float(np.mean(rates)),
                    "error": float(np.std(rates, ddof=1) / math.sqrt(len(rates))),
                    "lowest": float(min(rates)),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument("--proposals", type=int, default=2000)
    parser.add_argument("--peptides", nargs="+", default=list(PEPTIDES))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for sequence in arguments.peptides
            for row in measure(sequence, arguments, Path(folder))
        ]
    elsewhere = [row["acceptance"] for row in rows if len(row["peptide"]) > 1]
    print(f"elsewhere: median {np.median(elsewhere):.1%}, lowest {min(elsewhere):.1%}")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
