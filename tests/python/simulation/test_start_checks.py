"""Starts from which nothing can be simulated: refused within seconds, with the atoms named."""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from altered_systems import with_charge
from command_line import run
from openmm import app, unit

from timewarp_openmm import pretrained
from timewarp_openmm.simulation.start_checks import CLOSEST, check_start
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule

ALANINE = named_molecule("alanine-dipeptide")


def moved(atom: int, where: object) -> MolecularSystem:
    positions = ALANINE.positions.copy()
    positions[atom] = where
    return replace(ALANINE, positions=positions)


def with_system(system: openmm.System) -> MolecularSystem:
    return replace(ALANINE, system=system)


IMPOSSIBLE = {
    "all at the origin": (
        replace(ALANINE, positions=np.zeros((22, 3))),
        "all 22 atoms are at one place",
    ),
    "two at one place": (
        moved(10, ALANINE.positions[8]),
        r"ALA2:CA \(atom 9\) and ALA2:CB \(atom 11\) are at one place",
    ),
    "two nearly at one place": (
        moved(10, ALANINE.positions[8] + [0.0, 0.0, 0.9 * CLOSEST]),
        r"ALA2:CA \(atom 9\) and ALA2:CB \(atom 11\) are at one place",
    ),
    "no numbers": (moved(8, math.nan), r"coordinates of ALA2:CA \(atom 9\) are not numbers"),
    "infinite": (moved(8, math.inf), r"coordinates of ALA2:CA \(atom 9\) are not numbers"),
    "a charge that is no number": (
        with_system(with_charge(ALANINE.system, 8)),
        r"nan kJ/mol \(from NonbondedForce\).* ACE1:H1 \(atom 1\)",
    ),
    "an infinite charge": (
        with_system(with_charge(ALANINE.system, 8, math.inf)),
        r"from NonbondedForce",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_starts_are_named(name: str) -> None:
    molecule, message = IMPOSSIBLE[name]
    with pytest.raises(ValueError, match=message):
        check_start(molecule.topology, molecule.system, molecule.positions)


def test_atoms_that_are_merely_close_pass() -> None:
    check_start(ALANINE.topology, ALANINE.system, ALANINE.positions)
    close = moved(10, ALANINE.positions[8] + [0.0, 0.0, 1.1 * CLOSEST])
    check_start(close.topology, close.system, close.positions)


def write_pdb(path: Path, molecule: MolecularSystem) -> None:
    """Write a PDB file in which coordinates that are no numbers are so, too."""
    finite = np.nan_to_num(molecule.positions, nan=777.777)
    with open(path, "w") as handle:
        app.PDBFile.writeFile(molecule.topology, finite * unit.nanometer, handle, keepIds=True)
    path.write_text(path.read_text().replace("7777.770", "     nan"))


@pytest.mark.parametrize("command", ["simulate", "simulate --explore", "fit", "tau-sweep"])
@pytest.mark.parametrize(
    "name", ["all at the origin", "two at one place", "no numbers", "a charge that is no number"]
)
def test_commands_refuse_them_within_seconds(
    name: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    molecule, message = IMPOSSIBLE[name]
    pdb, xml, out = tmp_path / "m.pdb", tmp_path / "m.system.xml", tmp_path / "out.pt"
    write_pdb(pdb, molecule)
    xml.write_text(openmm.XmlSerializer.serialize(molecule.system))
    options = {
        "simulate": ["simulate", "--pdb", pdb, "--out", tmp_path / "run"],
        "simulate --explore": ["simulate", "--explore", "--pdb", pdb, "--out", tmp_path / "run"],
        "fit": ["fit", pdb, "--out", out],
        "tau-sweep": [
            *("tau-sweep", "--model", pretrained("alanine-dipeptide"), "--pdb", pdb),
            *("--out", tmp_path / "sweep.png"),
        ],
    }[command]
    # Processor time: what hangs minimises, and a busy machine makes nothing hang.
    began = time.process_time()
    code, _, error = run([str(o) for o in [*options, "--system", xml]], monkeypatch, capsys)
    assert code == 2, error
    assert "Traceback" not in error
    assert time.process_time() - began < 30
    assert re.search(message, error)
    assert not list(tmp_path.glob("run/trajectory-*"))
    assert not out.exists()
