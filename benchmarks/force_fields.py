"""What the bundled models of side chains accept in force fields that they were not made with.

    python benchmarks/force_fields.py [--residues VAL LEU] [--contexts 4] [--draws 1000]
        [--out F.json] [--cards]

Each model draws side chains of its capped residue in implicit solvent (OBC2), in each of several
contexts, which dynamics of that force field has reached in 10 ps at 450 K and 5 ps at 300 K; the
rest of the residue stays as it is there. Acceptance is that of single proposals in equilibrium in
a context, which the draws' importance weights tell (`acceptance_of` of `benchmarks/peptides.py`):
the mean over contexts, its standard error, and the lowest. With --cards the figures are written
into the cards beside the models. Chains need a start, and rotamers that dynamics do not leave in
such a time would make it a matter of where one begins.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from openmm import app
from peptides import acceptance_of
from records import write_record
from transfer import TEMPERATURE, entries_of, starts_of

from timewarp_openmm import find_blocks, read_metadata
from timewarp_openmm.energies.openmm_energy import OpenMMEnergy
from timewarp_openmm.flows.loading import load_module
from timewarp_openmm.library import LibraryEntry, open_library
from timewarp_openmm.simulation.capped_peptides import capped_peptide
from timewarp_openmm.simulation.systems import MolecularSystem, build_system
from timewarp_openmm.training.independence import draw

FORCE_FIELDS = {
    "ff14SB": ("amber14/protein.ff14SB.xml", "implicit/obc2.xml"),
    "ff19SB": ("amber19/protein.ff19SB.xml", "implicit/obc2.xml"),
    "ff99SB-ILDN": ("amber99sbildn.xml", "amber99_obc.xml"),
    "CHARMM36": ("charmm36.xml", "implicit/obc2.xml"),
}
HOT, RELAXED = 10.0, 5.0  # ps
#: In this one caps are patches of the residue between them.
CAPS_ARE_PATCHES = ("CHARMM36",)
CARD_LINE = "- single proposals in equilibrium in other contexts, by force field"


def parametrised(entry: LibraryEntry, name: str) -> MolecularSystem:
    """Return a capped residue in a force field."""
    files = FORCE_FIELDS[name]
    if name not in CAPS_ARE_PATCHES:
        return capped_peptide([entry.residue], files)
    molecule = capped_peptide([entry.residue], FORCE_FIELDS["ff14SB"])
    system = build_system(in_one_residue(molecule.topology, entry.residue), files)
    return replace(molecule, system=system, force_field=files)


def in_one_residue(topology: app.Topology, name: str) -> app.Topology:
    """Return the same atoms and bonds, all of them in one residue."""
    found = app.Topology()
    residue = found.addResidue(name, found.addChain())
    new = {atom: found.addAtom(atom.name, atom.element, residue) for atom in topology.atoms()}
    for first, second in topology.bonds():
        found.addBond(new[first], new[second])
    return found


class InContext(OpenMMEnergy):
    """U/kT of a molecule with some of its atoms elsewhere, the others as in a start.

    Parameters
    ----------
    molecule : MolecularSystem
    particles : sequence of int
        Those of which positions are given.
    start : array [N, 3], nm
    """

    def __init__(
        self, molecule: MolecularSystem, particles: Sequence[int], start: NDArray[np.float64]
    ) -> None:
        super().__init__(molecule.system, TEMPERATURE, "Reference")
        self._particles, self._start = list(particles), torch.from_numpy(start)

    def energies(self, positions: torch.Tensor) -> torch.Tensor:
        """Return U/kT [B] of the particles' positions [B, n, 3] / nm."""
        whole = self._start.repeat(len(positions), 1, 1)
        whole[:, self._particles] = positions.double()
        return super().energies(whole)


@dataclass(frozen=True)
class ModelFile:
    """A model file's flow, as `draw` takes one."""

    module: torch.jit.ScriptModule
    noise_size: int

    def sample(self, *arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See the contract."""
        found: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = self.module.sample(*arguments)
        return found


def acceptance(
    entry: LibraryEntry, molecule: MolecularSystem, start: NDArray[np.float64], count: int
) -> float:
    """Return the acceptance of single proposals in equilibrium, in the context of a start."""
    flow = ModelFile(load_module(Path(entry.model)), read_metadata(entry.model).noise_size)
    (particles,) = find_blocks(entry.model, molecule.topology, molecule.positions)
    generator = torch.Generator().manual_seed(3)
    energy = InContext(molecule, particles, start)
    return acceptance_of(
        draw(flow, energy, torch.from_numpy(start[list(particles)]), count, generator)
    )


def measure(entry: LibraryEntry, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the acceptance of a model in one force field."""
    molecule = parametrised(entry, name)
    rates = [
        acceptance(entry, molecule, start, arguments.draws)
        for start in starts_of(molecule, arguments.contexts, HOT, RELAXED)
    ]
    return {
        "residue": entry.residue,
        "force field": name,
        "acceptance": float(np.mean(rates)),
        "error": float(np.std(rates, ddof=1) / math.sqrt(len(rates))),
        "lowest": float(min(rates)),
    }


def medians(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the median acceptance in each force field."""
    return {
        name: float(np.median([row["acceptance"] for row in rows if row["force field"] == name]))
        for name in FORCE_FIELDS
    }


def card_line(rows: Sequence[dict[str, Any]]) -> str:
    """Return what a card says of its residue's rows."""
    said = [f"{row['force field']} {row['acceptance']:.0%} +- {row['error']:.0%}" for row in rows]
    return f"{CARD_LINE}: {', '.join(said)}"


def write_cards(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Put the line into each card, in the place of an earlier one."""
    for residue in dict.fromkeys(row["residue"] for row in rows):
        path = folder / f"{residue}.md"
        lines = [line for line in path.read_text().splitlines() if not line.startswith(CARD_LINE)]
        own = card_line([row for row in rows if row["residue"] == residue])
        path.write_text("\n".join([*lines, own]) + "\n")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--residues", nargs="+")
    parser.add_argument("--contexts", type=int, default=4)
    parser.add_argument("--draws", type=int, default=1000, help="in each context")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cards", action="store_true", help="write the cards of the models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    library = open_library()
    rows = []
    for entry in entries_of(library, arguments.residues):
        for name in FORCE_FIELDS:
            rows.append(measure(entry, name, arguments))
            print(json.dumps(rows[-1]), flush=True)
    print(json.dumps(medians(rows)))
    settings = {"library": library.digest, "contexts": arguments.contexts}
    write_record(arguments.out, {**settings, "draws": arguments.draws}, rows)
    if arguments.cards:
        write_cards(library.folder, rows)


if __name__ == "__main__":
    main()
