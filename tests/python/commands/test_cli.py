"""The command line: a user's mistake is one message and exit code 2, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import run

from timewarp_openmm import cli
from timewarp_openmm.contract import ContractError
from timewarp_openmm.simulation.systems import structure_file

PDB = str(structure_file("alanine-dipeptide"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("simulate --out {tmp}/o", "give either --preset"),
        ("simulate --out {tmp}/o --preset nothing", "no preset named 'nothing'"),
        ("simulate --out {tmp}/o --preset ala2 --temperature 0", "--temperature must be above 0"),
        ("simulate --out {tmp}/o --preset ala2 --platform Abacus", "no OpenMM platform named"),
        ("simulate --out {tmp}/o --preset ala2 --workers 0", "--workers must be from 1"),
        ("simulate --out {tmp}/o --pdb {tmp}/none.pdb", "no structure file"),
        ("simulate --out {tmp}/o --pdb {pdb} --force-field none.xml b.xml", "none.xml b.xml"),
        ("simulate --out {tmp}/o --pdb {pdb} --system {tmp}/none.xml", "no System XML"),
        ("simulate --out {tmp}/o --preset ala2 --no-such-option", "no-such-option"),
        ("simulate --out {tmp}/o --pdb {pdb} --force-field", "requires an argument"),
        ("train {tmp}/none.yaml --out {tmp}/o", "no configuration file"),
        ("train {tmp}/bad.yaml --out {tmp}/o", "flow: Field required"),
        ("train {tmp}/nodata.yaml --out {tmp}/o", "no data folder"),
        ("export {tmp} --out {tmp}/m.pt", "holds no best.ckpt"),
        ("export {tmp}/broken --out {tmp}/m.pt", "best.ckpt is damaged"),
        ("sample --model {tmp}/none.pt --pdb {pdb} --steps 1 --out {tmp}/t.dcd", "no model file"),
        (
            "sample --model {tmp}/bad.pt --pdb {pdb} --steps 1 --out {tmp}/t.dcd",
            "not a TorchScript",
        ),
        ("sample --model {tmp}/bad.pt --pdb {pdb} --steps 1 --out {tmp}/bad.pt", "exists"),
        ("sample --model {tmp}/bad.pt --pdb {pdb} --steps 0 --out {tmp}/t.dcd", "--steps"),
        (
            "sample --model {tmp}/bad.pt --pdb {pdb} --steps 1 --subchain -1 --out {tmp}/t.dcd",
            "--subchain",
        ),
        (
            "import {tmp}/none.pt --config {tmp}/c.json --topology {pdb} --out {tmp}/m.pt",
            "No such file or directory: {tmp}/c.json",
        ),
    ],
)
def test_mistakes_are_one_message(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.yaml").write_text("lag_times: [1.0]\n")
    (tmp_path / "nodata.yaml").write_text(
        "flow: {coordinates: cartesian}\ndata: {folder: nowhere}\nlag_times: [1.0]\n"
    )
    (tmp_path / "bad.pt").write_bytes(b"no archive")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "best.ckpt").write_bytes(b"no archive")
    filled = arguments.format(tmp=tmp_path, pdb=PDB).split()
    code, _, error = run(filled, monkeypatch, capsys)
    assert code == 2
    assert message.format(tmp=tmp_path) in error
    assert "Traceback" not in error


def test_openmm_errors_are_user_errors_and_defects_are_not() -> None:
    import openmm

    assert cli.is_user_error(openmm.OpenMMException("no"))
    assert cli.is_user_error(ContractError("no"))
    assert not cli.is_user_error(RuntimeError("defect"))
    assert not cli.is_user_error(KeyError("defect"))


def test_one_command_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = "--length 1 --interval 0.1 --equilibration 0.1 --trajectories 2 --workers 1"
    data = f"simulate --pdb {PDB} --force-field amber99sbildn.xml amber99_obc.xml {short}"
    code, out, _ = run([*data.split(), "--out", str(tmp_path / "data")], monkeypatch, capsys)
    assert code == 0
    assert "2 trajectories, 0.002 ns, 0 starts dropped" in out
    (tmp_path / "c.yaml").write_text(
        "flow: {coordinates: cartesian, d_model: 8, num_coupling_layers: 2,"
        " num_transformer_layers: 1, length_scales: [0.2],"
        " mlp_hidden: [8], feedforward: 8, embedding_size: 4}\n"
        f"data: {{folder: {tmp_path / 'data'}}}\nlag_times: [0.1]\nmax_steps: 4\n"
        "batch_size: 8\nevaluation_interval: 2\nevaluation_pairs: 8\n"
    )
    train = ["train", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]
    code, out, _ = run(train, monkeypatch, capsys)
    assert code == 0
    assert "4 steps" in out
    export = ["export", str(tmp_path / "run"), "--out", str(tmp_path / "m.pt")]
    assert run(export, monkeypatch, capsys)[0] == 0
    assert run(export, monkeypatch, capsys)[0] == 2
    assert run([*export, "--force"], monkeypatch, capsys)[0] == 0
