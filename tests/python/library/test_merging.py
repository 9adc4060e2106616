"""Libraries that were built apart, put together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from libraries import write_library
from residue_flows import write_residue_library

from timewarp_openmm.files import sha256_of
from timewarp_openmm.library import open_library
from timewarp_openmm.stored import DamagedFileError
from timewarp_openmm.workflows.merging import merge_libraries


def change(folder: Path, **changes: Any) -> None:
    path = folder / "library.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def accept(folder: Path, acceptance: float) -> None:
    """Let all entries of a library say another acceptance."""
    entries = json.loads((folder / "library.json").read_text())["entries"]
    change(folder, entries=[{**entry, "acceptance": acceptance} for entry in entries])


def test_models_of_all_are_in_it_and_of_two_the_better(tmp_path: Path) -> None:
    first = write_residue_library(tmp_path / "a", "ALA", "GLY", not_moved={"VAL": "failed"})
    second = write_residue_library(tmp_path / "b", "ALA", "VAL", not_moved={"PRO": "a ring"})
    accept(second, 0.7)
    (second / "ALA.md").write_text("the better one")
    (first / "ALA.md").write_text("the other one")
    merge_libraries([first, second], tmp_path / "out", "both")
    library = open_library(tmp_path / "out")
    assert library.name == "both"
    found = {entry.residue: entry.acceptance for entry in library.of_kind("residue")}
    assert found == {"ALA": 0.7, "GLY": 0.5, "VAL": 0.7}
    assert library.not_moved == {"PRO": "a ring"}
    assert (tmp_path / "out" / "ALA.md").read_text() == "the better one"
    assert sha256_of(tmp_path / "out" / "GLY.pt") == sha256_of(first / "GLY.pt")


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    first = write_residue_library(tmp_path / "a", "ALA")
    out = tmp_path / "out"
    others = {
        "temperature: 300.0 there, 310.0 now": {"temperature": 310.0},
        "force_field: .* there, .'other.xml'. now": {"force_field": ["other.xml"]},
    }
    for number, (message, changes) in enumerate(others.items()):
        other = write_residue_library(tmp_path / str(number), "GLY", **changes)
        with pytest.raises(ValueError, match=message):
            merge_libraries([first, other], out, "x")
    side_chains = write_library(tmp_path / "side-chains")
    with pytest.raises(ValueError, match="kind: 'residue' there, 'side chain' now"):
        merge_libraries([first, side_chains], out, "x")
    assert not out.exists()


def test_nothing_is_overwritten_and_damage_is_named(tmp_path: Path) -> None:
    first = write_residue_library(tmp_path / "a", "ALA")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="mine is there; name another folder"):
        merge_libraries([first], tmp_path / "mine", "x")
    (first / "ALA.pt").write_bytes(b"damaged")
    with pytest.raises(DamagedFileError, match=r"ALA\.pt"):
        merge_libraries([first], tmp_path / "out", "x")
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match="no such folder"):
        merge_libraries([tmp_path / "nowhere"], tmp_path / "out", "x")
