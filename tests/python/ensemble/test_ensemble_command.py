"""``timewarp-openmm ensemble``: from a model to conformers."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
import pytest
from alanine_samples import umbrella_reference
from command_line import run
from openmm import app, unit
from rdkit import Chem

from timewarp_openmm import pretrained
from timewarp_openmm.simulation.systems import structure_file

MOLECULES = Path(__file__).parents[3] / "examples" / "molecules"
Command = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    names = {
        "tmp": str(tmp_path),
        "model": str(pretrained("alanine-dipeptide")),
        "pdb": str(structure_file("alanine-dipeptide")),
    }

    def call(text: str) -> tuple[int, str, str]:
        arguments = [word.format(**names) for word in text.split()]
        return run(["ensemble", *arguments], monkeypatch, capsys)

    return call


QUICK = "{model} --pdb {pdb} --out {tmp}/e --steps 3000 --frames 400 --workers 1"


def test_alanine_dipeptide(command: Command, tmp_path: Path) -> None:
    """The populations are those of umbrella sampling, within 4 standard errors (false alarm: one in
    16,000)."""
    code, out, error = command(QUICK)
    assert code == 0, error
    rows = list(csv.DictReader((tmp_path / "e" / "conformers.csv").read_text().splitlines()))
    shares = np.array([float(row["population"]) for row in rows])
    assert shares.sum() == pytest.approx(1.0, abs=1e-4)
    assert (np.diff(shares) <= 0).all()
    assert sum(int(row["frames"]) for row in rows) == 400
    left = np.array([float(row["phi A:ALA2 / degrees"]) > 0 for row in rows])
    reference = umbrella_reference("alanine-dipeptide-umbrella")
    truth, error_of_truth = (
        float(str(reference[f"p_phi_positive{suffix}"])) for suffix in ("", "_error")
    )
    spread = math.hypot(math.sqrt(truth / 300), error_of_truth)
    assert shares[left].sum() == pytest.approx(truth, abs=4 * spread)

    structures = list(Chem.SDMolSupplier(str(tmp_path / "e" / "conformers.sdf"), removeHs=False))
    assert len(structures) == len(rows)
    assert Chem.MolToSmiles(Chem.RemoveHs(structures[0])) == "CNC(=O)[C@H](C)NC(C)=O"
    for structure, row in zip(structures, rows, strict=True):
        assert structure.GetProp("population") == row["population"]
    strains = [float(row["strain_kJ_per_mol"]) for row in rows]
    assert min(strains) == 0.0
    assert f"{len(rows)} conformers at 310 K" in out
    assert "effective samples of" in out
    page = (tmp_path / "e" / "index.html").read_text()
    assert f"pictures in {tmp_path / 'e' / 'index.html'}" in out
    assert "Conformers of alanine-dipeptide.pdb at 310 K" in page
    assert f"<td>{rows[0]['frames']}</td>" in page
    about = json.loads((tmp_path / "e" / "ensemble.json").read_text())
    assert about["chains"] == 4
    assert about["frames"] == 400
    assert len(about["model_sha256"]) == 64

    before = (tmp_path / "e" / "conformers.sdf").read_bytes()
    code, _, error = command(QUICK)
    assert code == 2
    assert "--force" in error
    assert (tmp_path / "e" / "conformers.sdf").read_bytes() == before


def test_another_temperature(command: Command, tmp_path: Path) -> None:
    code, _, error = command(f"{QUICK} --temperature 400 --steps 300 --frames 40")
    assert code == 0, error
    assert json.loads((tmp_path / "e" / "ensemble.json").read_text())["temperature"] == 400
    assert "populations are not to be trusted yet" in error


def test_what_cannot_be(command: Command, tmp_path: Path) -> None:
    small = Path(__file__).parents[2] / "data" / "valine-sidechain-small.pt"
    code, _, error = command(f"{small} --pdb {{pdb}} --out {{tmp}}/e")
    assert code == 2
    assert "moves a part of a molecule" in error

    ligand = MOLECULES / "gemfibrozil"
    code, _, error = command(
        f"{{model}} --pdb {ligand}.pdb --system {ligand}.system.xml --out {{tmp}}/e"
    )
    assert code == 2
    assert "bond orders" in error
    assert "SDF or MOL" in error

    pdb = app.PDBFile(str(structure_file("alanine-dipeptide")))
    two = app.Modeller(pdb.topology, pdb.positions)
    two.add(pdb.topology, [p + openmm.Vec3(3, 0, 0) * unit.nanometer for p in pdb.positions])
    app.PDBFile.writeFile(two.topology, two.positions, str(tmp_path / "two.pdb"))
    code, _, error = command("{model} --pdb {tmp}/two.pdb --out {tmp}/e")
    assert code == 2
    assert "2 copies of the model's molecule" in error
    assert not (tmp_path / "e").exists()


def test_a_potential_needs_no_hot_walkers(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose energies are dear: chains start where a first one has been."""
    monkeypatch.setattr("timewarp_openmm.benchmark.run.find_starts", None)
    target = "--target potential_functions:altered --chains 2"
    code, _, error = command(f"{QUICK} {target}".replace("3000", "600").replace("400", "60"))
    assert code == 0, error
    about = json.loads((tmp_path / "e" / "ensemble.json").read_text())
    assert about["force_field"] == ["potential_functions:altered"]
    assert about["acceptance"] > 0.1
    rows = list(csv.DictReader((tmp_path / "e" / "conformers.csv").read_text().splitlines()))
    assert len(rows) > 1
