"""``timewarp-openmm ligand``, and ``fit`` of a SMILES string."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import openmm
import pytest
from command_line import run

from timewarp_openmm.molecule.ligand_input import canonical_smiles, read_ligand
from timewarp_openmm.simulation.systems import load_molecule

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    return lambda *words: run(list(words), monkeypatch, capsys)


def test_files_that_other_commands_take(command: Command, tmp_path: Path) -> None:
    code, out, error = command("ligand", "C[C@H](F)CO", "--out", "drugs/a")
    assert code == 0, error
    assert "C[C@H](F)CO: 12 atoms in drugs/a.sdf, gaff-2.2.20 with nagl charges" in out
    assert "fit drugs/a.sdf --system drugs/a.system.xml" in out
    molecule = load_molecule(tmp_path / "drugs/a.sdf", None, tmp_path / "drugs/a.system.xml")
    assert molecule.system.getNumParticles() == 12
    assert canonical_smiles(read_ligand(str(tmp_path / "drugs/a.sdf"))) == "C[C@H](F)CO"
    text = (tmp_path / "drugs/a.sdf").read_text()
    assert "gaff-2.2.20" in text
    assert "obc2" in text

    before = (tmp_path / "drugs/a.system.xml").read_bytes()
    code, _, error = command("ligand", "CCO", "--out", "drugs/a")
    assert code == 2
    assert "--force" in error
    assert (tmp_path / "drugs/a.system.xml").read_bytes() == before
    code, out, error = command("ligand", "CCO", "--out", "drugs/a", "--solvent", "none", "--force")
    assert code == 0, error
    assert (
        load_molecule(
            tmp_path / "drugs/a.sdf", None, tmp_path / "drugs/a.system.xml"
        ).system.getNumParticles()
        == 9
    )


def test_mistakes_are_one_message(command: Command, tmp_path: Path) -> None:
    code, _, error = command("ligand", "CC(O)CC", "--out", "a")
    assert code == 2
    assert "CC[C@@H](C)O" in error
    assert list(tmp_path.iterdir()) == []


def test_fit_takes_a_smiles_string(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is parametrised once; the same call goes on, and another molecule is refused."""
    seen = []

    def stop(molecule: object, *_: object, **__: object) -> None:
        seen.append(molecule)
        raise ValueError("far enough")

    monkeypatch.setattr("timewarp_openmm.workflows.fit.fit", stop)
    words = ("fit", "CCO", "--out", "m.pt", "--minutes", "1", "--workers", "1")
    code, _, error = command(*words)
    assert code == 2
    assert "structure in m.sdf, System in m.system.xml" in error
    assert "far enough" in error
    made = (tmp_path / "m.system.xml").read_bytes()
    assert openmm.XmlSerializer.deserialize(made.decode()).getNumParticles() == 9
    command("fit", "OCC", *words[2:])
    assert (tmp_path / "m.system.xml").read_bytes() == made
    assert len(seen) == 2
    code, _, error = command("fit", "CCN", *words[2:])
    assert code == 2
    assert "m.sdf is of CCO; name another --out for CCN" in error
    (tmp_path / "m.sdf").unlink()
    code, _, error = command(*words)
    assert code == 2
    assert "m.system.xml is there" in error
    for extra, message in (
        (("--system", "x.xml"), "--system goes with a structure file"),
        (("--force-field", "a.xml", "--force-field", "b.xml"), "has one --force-field"),
    ):
        code, _, error = command("fit", "CCO", "--out", "n.pt", *extra)
        assert code == 2
        assert message in error
