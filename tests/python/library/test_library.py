"""Libraries as folders: what is read, and what is wrong with those that are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from libraries import write_library

from timewarp_openmm import library as library_module
from timewarp_openmm import open_library
from timewarp_openmm.files import sha256_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_library(tmp_path_factory.mktemp("library") / "made")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "library"))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "library.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def first_entry(folder: Path, **changes: Any) -> dict[str, Any]:
    entries = json.loads((folder / "library.json").read_text())["entries"]
    return {**entries[0], **changes}


def test_a_library_is_read(folder: Path) -> None:
    opened = open_library(folder)
    assert (opened.name, opened.temperature) == ("small", 300.0)
    assert opened.force_field == ("amber99sbildn.xml", "amber99_obc.xml")
    assert opened.digest == sha256_of(folder / "library.json")
    (entry,) = opened.of_kind("side chain")
    assert (entry.residue, entry.acceptance, entry.sites) == ("VAL", 0.4, 16)
    assert Path(entry.model) == folder / "VAL.pt"
    assert opened.of_kind("residue") == []
    assert "disulfide" in opened.not_moved["CYX"]


def test_what_later_releases_add_is_left_alone(folder: Path) -> None:
    edit(folder, entries=[first_entry(folder, colour="blue")], more={"of": "this"})
    assert len(open_library(folder).entries) == 1


def test_a_bundled_one_goes_by_its_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_module, "_FOLDER", tmp_path)
    monkeypatch.setattr(library_module, "BUNDLED", "library")
    monkeypatch.chdir(folder)
    assert open_library("library") == open_library()
    assert open_library().folder == folder
    monkeypatch.setattr(library_module, "BUNDLED", "amber14")
    with pytest.raises(FileNotFoundError, match=r"no bundled library 'amber14' .*library"):
        open_library()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "there is no library 'nowhere': no such folder, and"),
        (".", r"is no library: it holds no library\.json"),
    ],
)
def test_what_is_no_library_is_named(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=message):
        open_library(name)


def test_missing_and_changed_models_are_named(folder: Path) -> None:
    (folder / "VAL.pt").write_bytes((folder / "VAL.pt").read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"VAL\.pt is damaged or was changed: its checksum"):
        open_library(folder)
    (folder / "VAL.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"names VAL\.pt for VAL, which is missing"):
        open_library(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "is of format 2, this package reads 1"),
        ({"format": None}, "format"),
        ({"entries": None}, "entries"),
        ({"temperature": 0}, r"temperature: must be above 0"),
        ({"temperature": "hot"}, "temperature"),
        ({"not_moved": ["GLY"]}, "not_moved"),
    ],
)
def test_wrong_entries_are_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder, **changes)
    with pytest.raises(ValueError, match=message):
        open_library(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "../VAL.pt"}, r"entries\.0\.file"),
        ({"file": "VAL.pkl"}, r"entries\.0\.file"),
        ({"sha256": "0"}, r"entries\.0\.sha256"),
        ({"acceptance": 1.5}, r"entries\.0\.acceptance: must be from 0 to 1, got 1.5"),
        ({"acceptance": float("nan")}, r"entries\.0\.acceptance"),
        ({"sites": 0}, r"entries\.0\.sites"),
    ],
)
def test_wrong_models_are_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder, entries=[first_entry(folder, **changes)])
    with pytest.raises(ValueError, match=message):
        open_library(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"format": 1}', "[" * 100_000])
def test_other_contents_are_named(folder: Path, text: str) -> None:
    (folder / "library.json").write_text(text)
    with pytest.raises(ValueError, match=r"library\.json is damaged or was changed"):
        open_library(folder)


def test_two_models_of_one_side_chain_are_refused(folder: Path) -> None:
    edit(folder, entries=[first_entry(folder)] * 2)
    with pytest.raises(ValueError, match="two models of the side chain of VAL"):
        open_library(folder)
