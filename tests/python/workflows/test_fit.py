"""The command from a structure to a measured model: the whole of it, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from openmm import app

from timewarp_openmm import cli
from timewarp_openmm.contract import read_metadata
from timewarp_openmm.molecule.structure_files import load_structure
from timewarp_openmm.simulation.systems import build_system, load_molecule, structure_file
from timewarp_openmm.training import fit as fit_module
from timewarp_openmm.workflows.fit import FitSettings, fit

PDB = Path(str(structure_file("alanine-dipeptide")))
MOLECULES = Path(__file__).parents[3] / "examples" / "molecules"


class Record:
    """A display that remembers."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def update(self, done: float, note: str) -> None:
        assert -1e-9 <= done <= 1 + 1e-9
        self.notes.append(f"{self.stages[-1]}: {note}")


def test_fit_measures_its_model_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "LAST_MINUTES", 0.0)
    monkeypatch.setattr(fit_module, "ITERATIONS", 50)
    monkeypatch.setattr(fit_module, "CHAINS", 3)
    monkeypatch.setattr(fit_module, "RUNS_PER_BASIN", 2)
    monkeypatch.setattr(fit_module, "EQUILIBRATION", 0.5)
    monkeypatch.setattr(fit_module, "SHORTEST", 2.0)
    monkeypatch.setattr(fit_module, "SPEED_SECONDS", 0.2)
    monkeypatch.setattr(fit_module, "_most_basins", lambda _: 3)
    # 0.2 minutes, which the settings refuse, keep the test short.
    monkeypatch.setattr(FitSettings, "__post_init__", lambda self: None)
    settings = FitSettings(minutes=0.2, seed=3, workers=1)
    molecule = load_molecule(PDB)
    out, work = tmp_path / "model.pt", tmp_path / "work"
    record = Record()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "refine", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(molecule, out, settings, work, record)
    before = (work / "train" / "best.ckpt").read_bytes()
    assert not out.exists()
    result = fit(molecule, out, settings, work, record)
    assert (work / "train" / "best.ckpt").read_bytes() == before
    assert record.stages == [
        *("explore", "simulate", "train", "refine"),
        *("explore", "simulate", "train", "refine", "export and measure"),
    ]
    assert any("acceptance" in note for note in record.notes)

    made = read_metadata(out).provenance["fit"]
    assert made["measured"]["acceptance"] == result.acceptance
    assert 0 <= result.lowest <= result.acceptance <= 1
    assert made["settings"]["seed"] == 3
    card = (tmp_path / "model.md").read_text()
    assert f"{result.acceptance:.1%}" in card
    assert read_metadata(out).provenance["data"]["sha256"] in card

    with pytest.raises(FileExistsError, match=r"model\.pt exists"):
        fit(molecule, out, settings, work)
    with pytest.raises(FileExistsError, match=r"another fit .different: seed"):
        fit(molecule, out, FitSettings(minutes=0.2, seed=4), work, force=True)
    state = json.loads((work / "fit.json").read_text())
    assert set(state["seconds"]) == set(record.stages)


def water_box(folder: Path, molecules: int) -> Path:
    lines = []
    for i in range(molecules):
        for name, x, y in (("O", 0.0, 0.0), ("H1", 0.957, 0.0), ("H2", -0.24, 0.927)):
            serial = len(lines) + 1
            lines.append(
                f"HETATM{serial:5d}  {name:3} HOH A{i + 1:4d}    "
                f"{x + 4 * i:8.3f}{y:8.3f}{0.0:8.3f}  1.00  0.00           {name[0]}"
            )
    path = folder / "water.pdb"
    path.write_text("\n".join([*lines, "END", ""]))
    return path


def test_bad_input_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def message(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["timewarp-openmm", "fit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    out = ("--out", tmp_path / "m.pt")
    water = ("--force-field", "amber99sbildn.xml", "tip3p.xml")
    assert "no structure file" in message(tmp_path / "none.pdb", *out)
    assert "at least 4 atoms" in message(water_box(tmp_path, 1), *out, *water)
    several = message(water_box(tmp_path, 2), *out, *water)
    assert "2 separate parts" in several
    assert "HOH2:O (atom 3)" in several
    assert "at least 1 minute" in message(PDB, *out, "--minutes", 0.1)
    assert "target must be an acceptance" in message(PDB, *out, "--target", 2)
    (tmp_path / "m.pt").touch()
    assert "m.pt exists" in message(PDB, *out)
    assert not (tmp_path / "m.work").exists()


def test_a_constrained_system_is_refused(tmp_path: Path) -> None:
    from openmm import XmlSerializer

    topology, _ = load_structure(PDB)
    force_field = app.ForceField("amber99sbildn.xml")
    system = force_field.createSystem(topology, constraints=app.HBonds)
    path = tmp_path / "system.xml"
    path.write_text(XmlSerializer.serialize(system))
    with pytest.raises(ValueError, match="constraints=None"):
        load_molecule(PDB, system_xml=path)


@pytest.mark.parametrize(
    ("name", "torsions"),
    [
        ("leucine-dipeptide", 4),
        ("glycine-proline", 5),  # phi and psi of glycine, psi of proline, two of its ring
        ("gemfibrozil", 7),
        ("valproic-acid", 6),
    ],
)
def test_the_example_molecules_have_parameters_and_internal_coordinates(
    name: str, torsions: int
) -> None:
    from timewarp_openmm.molecule import molecule_from_topology
    from timewarp_openmm.simulation.explore import rotor_torsions

    xml = MOLECULES / f"{name}.system.xml"
    molecule = load_molecule(MOLECULES / f"{name}.pdb", None, xml if xml.exists() else None)
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    assert len(rotor_torsions(atoms)) == torsions


def test_the_default_system_is_the_one_that_the_models_are_for() -> None:
    topology, _ = load_structure(PDB)
    assert build_system(topology).getNumConstraints() == 0
