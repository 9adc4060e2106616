"""What the bundled models of side chains accept in force fields that they were not made with.

    python benchmarks/force_fields.py [--residues VAL LEU] [--starts 4] [--proposals 500]
        [--out F.json] [--cards]

Each model is tried in Ala-X-Ala with charged ends, a structure that all of these force fields know,
in implicit solvent (OBC2). Everything but the side chain stands still: a chain of proposals begins
in each of several conformations, which dynamics of that force field has reached in 10 ps at 450 K
and 5 ps at 300 K. Acceptance is the mean over them, its error the standard error. With --cards the
figures are written into the cards beside the models.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from openmm import app, unit
from records import write_record
from transfer import acceptance, entries_of, starts_of

from timewarp_openmm import find_blocks
from timewarp_openmm.library import LibraryEntry, open_library
from timewarp_openmm.simulation.capped_peptides import capped_peptide
from timewarp_openmm.simulation.systems import MolecularSystem, build_system, make_platform

FORCE_FIELDS = {
    "ff14SB": ("amber14/protein.ff14SB.xml", "implicit/obc2.xml"),
    "ff19SB": ("amber19/protein.ff19SB.xml", "implicit/obc2.xml"),
    "ff99SB-ILDN": ("amber99sbildn.xml", "amber99_obc.xml"),
    "CHARMM36": ("charmm36.xml", "implicit/obc2.xml"),
}
HOT, RELAXED = 10.0, 5.0  # ps
#: Of the residue in the middle of three.
MIDDLE = 1
CARD_LINE = "- single proposals in Ala-X-Ala, OBC2, by force field"


def charged_peptide(residue: str) -> tuple[app.Topology, np.ndarray]:
    """Return Ala-X-Ala with charged ends: that between caps, which make way."""
    capped = capped_peptide(["ALA", residue, "ALA"], FORCE_FIELDS["ff14SB"][:1])
    topology, positions, new = app.Topology(), [], {}
    chain, own = topology.addChain(), None
    for residue_there in capped.topology.residues():
        is_last_cap = residue_there.name == "NME"
        if residue_there.name != "ACE" and not is_last_cap:
            own = topology.addResidue(residue_there.name, chain)
        for atom in residue_there.atoms():
            # The nitrogen of the N-methyl group lies where the carboxylate's second oxygen does.
            if residue_there.name == "ACE" or (is_last_cap and atom.name != "N"):
                continue
            name, element = (
                ("OXT", app.element.oxygen) if is_last_cap else (atom.name, atom.element)
            )
            new[atom.index] = topology.addAtom(name, element, own)
            positions.append(capped.positions[atom.index])
    for first, second in capped.topology.bonds():
        if first.index in new and second.index in new:
            topology.addBond(new[first.index], new[second.index])
    modeller = app.Modeller(topology, np.array(positions) * unit.nanometer)
    modeller.addHydrogens(platform=make_platform("Reference")[0])
    return modeller.topology, np.array(modeller.positions.value_in_unit(unit.nanometer))


def measure(
    entry: LibraryEntry,
    name: str,
    topology: app.Topology,
    positions: np.ndarray,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Return the acceptance of a model in one force field, or that this has no such residue."""
    row: dict[str, Any] = {"residue": entry.residue, "force field": name}
    try:
        system = build_system(topology, FORCE_FIELDS[name])
    except ValueError as error:
        return {**row, "refused": str(error)}
    molecule = MolecularSystem(entry.residue, topology, system, positions, FORCE_FIELDS[name])
    own = {atom.index for atom in topology.atoms() if atom.residue.index == MIDDLE}
    places = find_blocks(entry.model, topology, positions)
    (particles,) = (place for place in places if len(own.intersection(place)) > len(place) / 2)
    rates = [
        acceptance(entry.model, particles, system, start, arguments.proposals)
        for start in starts_of(molecule, arguments.starts, HOT, RELAXED)
    ]
    return {
        **row,
        "acceptance": float(np.mean(rates)),
        "error": float(np.std(rates, ddof=1) / math.sqrt(len(rates))),
        "lowest": float(min(rates)),
    }


def medians(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the median acceptance in each force field, of the residues that all of them know."""
    refused = {row["residue"] for row in rows if "refused" in row}
    known = [row for row in rows if row["residue"] not in refused]
    return {
        name: float(np.median([r["acceptance"] for r in known if r["force field"] == name]))
        for name in FORCE_FIELDS
    }


def card_line(rows: Sequence[dict[str, Any]]) -> str:
    """Return what a card says of its residue's rows."""
    said = [
        f"{row['force field']} "
        + (
            "has no parameters of it"
            if "refused" in row
            else f"{row['acceptance']:.0%} +- {row['error']:.0%}"
        )
        for row in rows
    ]
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
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--proposals", type=int, default=500)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cards", action="store_true", help="write the cards of the models")
    arguments = parser.parse_args()
    library = open_library()
    rows = []
    for entry in entries_of(library, arguments.residues):
        topology, positions = charged_peptide(entry.residue)
        for name in FORCE_FIELDS:
            rows.append(measure(entry, name, topology, positions, arguments))
            print(json.dumps(rows[-1]), flush=True)
    print(json.dumps(medians(rows)))
    settings = {"library": library.digest, "starts": arguments.starts}
    write_record(arguments.out, {**settings, "proposals": arguments.proposals}, rows)
    if arguments.cards:
        write_cards(library.folder, rows)


if __name__ == "__main__":
    main()
