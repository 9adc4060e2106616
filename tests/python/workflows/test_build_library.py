"""Building a library: what is made, what an interrupted build leaves, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from timewarp_openmm.files import sha256_of
from timewarp_openmm.library import LIBRARY_FILE, open_library
from timewarp_openmm.stored import DamagedFileError
from timewarp_openmm.workflows import library as library_module
from timewarp_openmm.workflows.fit import Validation
from timewarp_openmm.workflows.library import LibrarySettings, build_library
from timewarp_openmm.workflows.library_kinds import SIDE_CHAIN_KIND

NOT_MOVED = SIDE_CHAIN_KIND.not_moved

SETTINGS = LibrarySettings(
    "test",
    ("amber14/protein.ff14SB.xml", "implicit/obc2.xml"),
    residues=("SER", "VAL"),
    minutes=2.0,
    workers=1,
    metadynamics=0.5,
)


class Silent:
    def __init__(self) -> None:
        self.residues: list[str] = []
        self.told: list[str] = []

    def residue(self, name: str, number: int, count: int) -> None:
        self.residues.append(name)

    def stage(self, name: str) -> None:
        pass

    def update(self, done: float, note: str) -> None:
        pass

    def tell(self, message: str) -> None:
        self.told.append(message)


@pytest.fixture
def fits(monkeypatch) -> list[tuple[str, float]]:
    """Let a fit write a file and say what it was asked; VAL can be made to fail."""
    asked: list[tuple[str, float]] = []

    def fit(molecule, out, settings, work, display, force, budget, workers):
        asked.append((molecule.name, settings.minutes))
        names = {a.name for a in molecule.topology.atoms() if a.index in settings.moved}
        assert names.isdisjoint({"N", "H", "CA", "HA", "C", "O", "CB", "CH3"})
        assert "HB1" in names or "HB2" in names or "HB" in names
        Path(out).write_text(f"{molecule.name} {settings.minutes}")
        return Validation(0.5, 0.01, 0.4, 8, 1000, 100.0)

    monkeypatch.setattr(library_module, "fit", fit)
    monkeypatch.setattr(library_module, "backbone_free_energy", lambda *_: np.zeros((24, 24)))
    return asked


def open_content(out: Path) -> dict[str, object]:
    return json.loads((out / LIBRARY_FILE).read_text())


def test_a_library_lists_what_was_made(tmp_path, fits):
    content = build_library(tmp_path / "lib", SETTINGS, Silent())
    assert content == json.loads((tmp_path / "lib" / LIBRARY_FILE).read_text())
    assert [entry["residue"] for entry in content["entries"]] == ["SER", "VAL"]
    assert content["not_moved"] == NOT_MOVED
    for entry in content["entries"]:
        assert entry["kind"] == "side chain"
        assert entry["sha256"] == sha256_of(tmp_path / "lib" / entry["file"])
        assert entry["acceptance"] == 0.5
        assert entry["sites"] == 8
    library = open_library(tmp_path / "lib")
    assert (library.name, library.temperature) == ("test", 300.0)
    assert library.not_moved == NOT_MOVED
    assert [entry.residue for entry in library.of_kind("side chain")] == ["SER", "VAL"]


def test_more_residues_and_minutes_go_on_with_it(tmp_path, fits):
    out = tmp_path / "lib"
    build_library(out, replace(SETTINGS, residues=("VAL",)), Silent())
    build_library(out, SETTINGS, Silent())
    assert fits == [("VAL", 2.0), ("SER", 2.0)]
    build_library(out, replace(SETTINGS, residues=("VAL",), minutes=3.0), Silent())
    assert fits[2:] == [("VAL", 3.0)]
    content = build_library(out, replace(SETTINGS, residues=("VAL",), minutes=1.0), Silent())
    assert len(fits) == 3
    assert len(content["entries"]) == 2


def test_an_interrupted_build_leaves_a_library_and_goes_on(tmp_path, fits, monkeypatch):
    out, quick = tmp_path / "lib", library_module.fit

    def interrupted(molecule, *rest):
        if molecule.name == "VAL":
            raise KeyboardInterrupt
        return quick(molecule, *rest)

    def seen(molecule, out, settings, work, display, force, budget, workers):
        return interrupted(molecule, out, settings, work, display, force, budget, workers)

    monkeypatch.setattr(library_module, "fit", seen)
    with pytest.raises(KeyboardInterrupt):
        build_library(out, SETTINGS, Silent())
    found = json.loads((out / LIBRARY_FILE).read_text())["entries"]
    assert [entry["residue"] for entry in found] == ["SER"]
    monkeypatch.setattr(library_module, "fit", quick)
    build_library(out, SETTINGS, Silent())
    assert [name for name, _ in fits] == ["SER", "VAL"]


def test_a_model_that_has_changed_is_made_again(tmp_path, fits):
    build_library(tmp_path / "lib", SETTINGS, Silent())
    (tmp_path / "lib" / "SER.pt").write_text("something else")
    build_library(tmp_path / "lib", SETTINGS, Silent())
    assert [name for name, _ in fits] == ["SER", "VAL", "SER"]


def test_a_failed_fit_is_named_and_the_rest_made(tmp_path, fits, monkeypatch):
    quick = library_module.fit

    def failing(molecule, out, settings, work, display, force, budget, workers):
        if molecule.name == "SER":
            raise ValueError("2 minutes are too few")
        return quick(molecule, out, settings, work, display, force, budget, workers)

    monkeypatch.setattr(library_module, "fit", failing)
    display = Silent()
    content = build_library(tmp_path / "lib", SETTINGS, display)
    assert [entry["residue"] for entry in content["entries"]] == ["VAL"]
    assert content["not_moved"]["SER"] == "its fit failed: 2 minutes are too few"
    assert display.told == ["SER: 2 minutes are too few"]
    monkeypatch.setattr(library_module, "fit", quick)
    content = build_library(tmp_path / "lib", SETTINGS, display)
    assert len(content["entries"]) == 2
    assert "SER" not in content["not_moved"]


def test_a_model_is_kept_if_more_minutes_fail(tmp_path, fits, monkeypatch):
    content = build_library(tmp_path / "lib", SETTINGS, Silent())

    def failing(*arguments, **options):
        raise ValueError("3 minutes are too few")

    monkeypatch.setattr(library_module, "fit", failing)
    display = Silent()
    again = build_library(tmp_path / "lib", replace(SETTINGS, minutes=3.0), display)
    assert again == content == open_content(tmp_path / "lib")
    assert display.told == ["SER: 3 minutes are too few", "VAL: 3 minutes are too few"]


def test_what_another_process_has_added_meanwhile_is_kept(tmp_path, fits, monkeypatch):
    """It is read again once nobody else can write."""
    out, made = tmp_path / "lib", library_module.capped_peptide
    added = []

    def capped_peptide(residues, force_field):
        if not added:
            added.append(True)
            build_library(out, replace(SETTINGS, residues=("SER",)), Silent())
        return made(residues, force_field)

    monkeypatch.setattr(library_module, "capped_peptide", capped_peptide)
    content = build_library(out, replace(SETTINGS, residues=("VAL",)), Silent())
    assert [entry["residue"] for entry in content["entries"]] == ["SER", "VAL"]


def test_a_damaged_list_is_named(tmp_path, fits):
    build_library(tmp_path / "lib", SETTINGS, Silent())
    (tmp_path / "lib" / LIBRARY_FILE).write_text("{")
    with pytest.raises(DamagedFileError, match=LIBRARY_FILE):
        build_library(tmp_path / "lib", SETTINGS, Silent())


def test_other_libraries_and_folders_are_left_alone(tmp_path, fits):
    out = tmp_path / "lib"
    build_library(out, SETTINGS, Silent())
    with pytest.raises(FileExistsError, match=r"temperature: 300\.0 there, 310\.0 now"):
        build_library(out, replace(SETTINGS, temperature=310.0), Silent())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds no library"):
        build_library(tmp_path / "mine", SETTINGS, Silent())


@pytest.mark.parametrize(
    ("residue", "message"),
    [
        ("PRO", "no library of this kind has a model of PRO: its side chain is a ring"),
        ("XYZ", "no library of this kind has a model of XYZ; choose"),
    ],
)
def test_residues_without_models_are_refused(residue, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, residues=("VAL", residue))


def test_the_backbone_is_made_once(tmp_path, fits, monkeypatch):
    made = []

    def count(*arguments):
        made.append(arguments)
        return np.arange(576.0).reshape(24, 24)

    monkeypatch.setattr(library_module, "backbone_free_energy", count)
    build_library(tmp_path / "lib", replace(SETTINGS, residues=("VAL",)), Silent())
    build_library(tmp_path / "lib", SETTINGS, Silent())
    assert made == [(SETTINGS.force_field, 300.0, 0.5, 1)]
    stored = np.load(tmp_path / "lib.work" / "backbone.npz")["free_energy"]
    assert (stored == np.arange(576.0).reshape(24, 24)).all()
