"""The files of an ensemble: structures (SDF), tables (CSV, and for people), settings (JSON)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdkit import Chem

from ..analysis.numbers import plain
from ..files import write_bytes_atomically
from .conformers import Conformers, Populations, with_positions
from .minima import Minima

SDF_FILE = "conformers.sdf"
CSV_FILE = "conformers.csv"
JSON_FILE = "ensemble.json"
FILES = (SDF_FILE, CSV_FILE, JSON_FILE)
#: Conformers that a table for people has.
MOST_SHOWN = 20


@dataclass(frozen=True)
class Row:
    """A conformer in tables.

    Attributes
    ----------
    number : int
        From 1, the most populated one.
    population, population_error : float
    free_energy, free_energy_error : float
        kJ/mol, against the first; the error is NaN where too few samples say.
    strain : float
        kJ/mol, of its minimum above the lowest one.
    frames : int
        Samples that lie above it.
    torsions : tuple of float
        Degrees, of its minimum.
    """

    number: int
    population: float
    population_error: float
    free_energy: float
    free_energy_error: float
    strain: float
    frames: int
    torsions: tuple[float, ...]


def make_rows(
    conformers: Conformers,
    minima: Minima,
    shares: Populations,
    torsions: Sequence[Sequence[float]],
) -> list[Row]:
    """Return a row for each conformer; `torsions` are those of the leaders, in degrees."""
    lowest = float(minima.energies.min())
    return [
        Row(
            k + 1,
            float(shares.population[k]),
            float(shares.error[k]),
            float(shares.free_energy[k]),
            float(shares.free_energy_error[k]),
            float(minima.energies[leader]) - lowest,
            int((conformers.labels == k).sum()),
            tuple(float(angle) for angle in torsions[k]),
        )
        for k, leader in enumerate(conformers.leaders)
    ]


def table(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return a table for people, with the torsions of these names."""
    head = ["conformer", "population / %", "free energy / kJ/mol", "strain / kJ/mol", *names]
    lines = [head]
    for row in rows[:MOST_SHOWN]:
        lines.append(
            [
                str(row.number),
                f"{100 * row.population:.1f} +- {100 * row.population_error:.1f}",
                f"{row.free_energy:.2f} +- {_error(row.free_energy_error)}",
                f"{row.strain:.2f}",
                *[f"{angle:.0f}" for angle in row.torsions],
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = [
        "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines
    ]
    rest = rows[MOST_SHOWN:]
    if rest:
        share = 100 * sum(row.population for row in rest)
        text.append(f"and {len(rest)} more with {share:.1f} % together, in {CSV_FILE}")
    return "\n".join(text)


def _error(error: float) -> str:
    return "?" if math.isnan(error) else f"{error:.2f}"


def write_ensemble(
    folder: Path,
    mol: Chem.Mol,
    rows: Sequence[Row],
    names: Sequence[str],
    conformers: Conformers,
    minima: Minima,
    about: dict[str, Any],
) -> None:
    """Write all files of an ensemble.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With all atoms.
    names : sequence of str
        Of the torsions in the rows.
    about : dict
        How the samples were made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = [minima.positions[leader] for leader in conformers.leaders]
    structures = [with_positions(mol, place) for place in places]
    write_bytes_atomically(folder / SDF_FILE, _sdf(structures, rows).encode())
    write_bytes_atomically(folder / CSV_FILE, _csv(rows, names).encode())
    content = {**about, "conformers": [vars(row) for row in rows], "torsions": list(names)}
    text = json.dumps(plain(content), indent=1) + "\n"
    write_bytes_atomically(folder / JSON_FILE, text.encode())


_COLUMNS = {
    "population": "population",
    "population_error": "population_error",
    "free_energy_kJ_per_mol": "free_energy",
    "free_energy_error_kJ_per_mol": "free_energy_error",
    "strain_kJ_per_mol": "strain",
    "frames": "frames",
}


def _sdf(structures: Sequence[Chem.Mol], rows: Sequence[Row]) -> str:
    text = io.StringIO()
    with Chem.SDWriter(text) as writer:
        for structure, row in zip(structures, rows, strict=True):
            structure.SetProp("_Name", f"conformer {row.number}")
            for column, field in _COLUMNS.items():
                structure.SetProp(column, f"{getattr(row, field):.6g}")
            writer.write(structure)
    return text.getvalue()


def _csv(rows: Sequence[Row], names: Sequence[str]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["conformer", *_COLUMNS, *(f"{name} / degrees" for name in names)])
    for row in rows:
        values = [f"{getattr(row, field):.6g}" for field in _COLUMNS.values()]
        writer.writerow([row.number, *values, *(f"{angle:.1f}" for angle in row.torsions)])
    return text.getvalue()
