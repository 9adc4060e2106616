"""Building a library: what is made, what an interrupted build leaves, what is refused."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster

from timewarp_openmm.files import sha256_of
from timewarp_openmm.library import LIBRARY_FILE, open_library
from timewarp_openmm.stored import DamagedFileError
from timewarp_openmm.workers.base import Workers
from timewarp_openmm.workers.cluster import open_cluster
from timewarp_openmm.workflows import distant_fit
from timewarp_openmm.workflows import library as library_module
from timewarp_openmm.workflows.budget import FitBudget
from timewarp_openmm.workflows.fit import Validation, fit_identity
from timewarp_openmm.workflows.library import LibrarySettings, build_library
from timewarp_openmm.workflows.library_kinds import SIDE_CHAIN_KIND
from timewarp_openmm.workflows.record import FitRecord
from timewarp_openmm.workflows.settings import FitSettings

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


@pytest.fixture(scope="module")
def far_workers() -> Iterator[Workers]:
    """Two of a scheduler, which are threads of this process, so that fits can be watched."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        open_cluster(cluster.scheduler_address) as workers,
    ):
        yield workers


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
        Path(out).with_suffix(".md").write_text("card")
        Path(work).mkdir(exist_ok=True)
        with open(Path(work) / "passes.txt", "a") as passes:
            passes.write(f"{settings.minutes}\n")
        return Validation(0.5, 0.01, 0.4, 8, 1000, 100.0)

    monkeypatch.setattr(library_module, "fit", fit)
    monkeypatch.setattr(distant_fit, "fit", fit)
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


def test_workers_elsewhere_make_a_whole_model_each(tmp_path, fits, far_workers):
    """What is here afterwards is what a build here leaves, and either goes on with it."""
    here, there = tmp_path / "here", tmp_path / "there"
    build_library(here, replace(SETTINGS, name="lib"), Silent())
    display = Silent()
    content = build_library(there, replace(SETTINGS, name="lib"), display, workers=far_workers)
    assert sorted(display.residues) == ["SER", "VAL"]
    assert content == open_content(there) == open_content(here)
    more = replace(SETTINGS, name="lib", minutes=3.0, residues=("VAL",))
    build_library(there, more, Silent(), workers=far_workers)
    build_library(there, replace(more, minutes=4.0), Silent())
    build_library(here, more, Silent())
    build_library(here, replace(more, minutes=4.0), Silent())
    assert {p.relative_to(here) for p in here.rglob("*")} == {
        p.relative_to(there) for p in there.rglob("*")
    }
    for folder in (here, there):
        work = folder.with_name(f"{folder.name}.work")
        assert (work / "VAL" / "passes.txt").read_text() == "2.0\n3.0\n4.0\n"
        assert (work / "SER" / "passes.txt").read_text() == "2.0\n"
        assert not list(work.glob("*.unfinished"))
        assert not list(work.glob("*.old"))
        assert (folder / "VAL.pt").read_text() == "VAL 4.0"


def test_a_fit_that_fails_elsewhere_is_named_and_the_rest_made(
    tmp_path, fits, far_workers, monkeypatch
):
    quick = distant_fit.fit

    def failing(molecule, *others, **options):
        if molecule.name == "SER":
            raise ValueError("2 minutes are too few")
        return quick(molecule, *others, **options)

    monkeypatch.setattr(distant_fit, "fit", failing)
    display = Silent()
    content = build_library(tmp_path / "lib", SETTINGS, display, workers=far_workers)
    assert [entry["residue"] for entry in content["entries"]] == ["VAL"]
    assert content["not_moved"]["SER"] == "its fit failed: 2 minutes are too few"
    assert display.told == ["SER: 2 minutes are too few"]
    monkeypatch.setattr(distant_fit, "fit", quick)
    content = build_library(tmp_path / "lib", SETTINGS, display, workers=far_workers)
    assert [entry["residue"] for entry in content["entries"]] == ["SER", "VAL"]


def test_work_of_another_fit_is_kept_here(tmp_path, fits, far_workers):
    """A worker that set it aside would do so in a folder that is gone with its piece."""
    asked = replace(SETTINGS, residues=("VAL",))
    work = tmp_path / "lib.work" / "VAL"
    work.mkdir(parents=True)
    molecule = library_module.capped_peptide(["VAL"], SETTINGS.force_field)
    record = FitRecord(work, fit_identity(molecule, FitSettings(seed=77)))
    record.begin_pass(1.0)
    (work / "precious.txt").write_text("mine")
    build_library(tmp_path / "lib", asked, Silent(), workers=far_workers)
    kept = [path for path in (tmp_path / "lib.work").rglob("precious.txt")]
    assert [path.read_text() for path in kept] == ["mine"]
    assert kept[0].parent != work


def test_archives_hold_a_folder_and_reach_no_other(tmp_path):
    folder = tmp_path / "work"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "frames.bin").write_bytes(bytes(range(256)))
    packed = distant_fit.pack(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "old.txt").write_text("old")
    distant_fit.unpack(packed, tmp_path / "other")
    assert [p.name for p in (tmp_path / "other").rglob("*.*")] == ["frames.bin"]
    assert distant_fit.pack(tmp_path / "none") == b""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../escaped.txt"), io.BytesIO(b""))
    with pytest.raises(tarfile.OutsideDestinationError):
        distant_fit.unpack(buffer.getvalue(), tmp_path / "work")
    assert not (tmp_path / "escaped.txt").exists()
    assert (folder / "data" / "frames.bin").exists()


@pytest.mark.long
def test_fits_on_a_cluster_go_on_here(tmp_path):
    """Real ones, of a little of everything."""
    quick = FitBudget(
        least_minutes=0.0,
        runs_per_basin=2,
        least_basins=1,
        most_basins=2,
        equilibration=0.1,
        shortest=1.0,
        speed_seconds=0.1,
        least_steps=1,
        least_draws=100,
        most_draws=200,
        chains=2,
        iterations=20,
        relaxation=0.1,
        export_starts=0.0,
        least_acceptance=0.0,
    )
    out, settings = tmp_path / "lib", replace(SETTINGS, minutes=1.0)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        open_cluster(cluster.scheduler_address) as workers,
    ):
        content = build_library(out, settings, Silent(), budget=quick, workers=workers)
    assert [entry["residue"] for entry in content["entries"]] == ["SER", "VAL"]
    trained = (tmp_path / "lib.work" / "VAL" / "train" / "best.ckpt").read_bytes()
    more = replace(settings, minutes=2.0, residues=("VAL",))
    content = build_library(out, more, Silent(), budget=quick)
    assert content["made_with"]["minutes"] == {"SER": 1.0, "VAL": 2.0}
    assert (tmp_path / "lib.work" / "VAL" / "train" / "best.ckpt").read_bytes() == trained
    assert (tmp_path / "lib.work" / "VAL" / "refine-2").is_dir()


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
