"""`timewarp-openmm analyze` from trajectories to page, numbers and warnings, and its bad inputs."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import pytest
from report_helpers import PDB, TOPOLOGY, md_frames, write

from timewarp_openmm import cli
from timewarp_openmm.curves import append_metrics
from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.report.study import Study
from timewarp_openmm.report.survey import Subject
from timewarp_openmm.simulation.systems import named_molecule


def analyze(arguments: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the command and return the numbers it wrote."""
    argv = ["timewarp-openmm", "analyze", "--out", str(out), *arguments.split()]
    monkeypatch.setattr(sys, "argv", argv)
    try:
        cli.main()
    except SystemExit as stop:
        if stop.code:
            raise
    content: dict[str, Any] = json.loads((out / "numbers.json").read_text())
    return content


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("trajectories")
    frames = md_frames()
    chain = md_frames(seed=2)[np.repeat(np.arange(100), 4)]
    (folder / "md").mkdir()
    (folder / "run").mkdir()
    for s in (1, 2, 3):
        entry = dict.fromkeys(("train_loss", "test_loss"), -float(s))
        entry |= dict.fromkeys(("train_log_likelihood", "test_log_likelihood"), float(s))
        entry |= {"seconds": 1.0, "learning_rate": 1e-3, "acceptance": math.nan}
        append_metrics(folder / "run", {"step": s, **entry})
    with open(folder / "run" / "metrics.jsonl", "a") as handle:
        handle.write('{"step": 4, "train')
    return {
        "folder": folder,
        "md": write(frames[:200], folder / "md" / "trajectory-000.h5"),
        "md2": write(frames[200:], folder / "md" / "trajectory-001.h5"),
        "chain": write(chain, folder / "chain.dcd"),
        "flow": write(md_frames(seed=3)[:200] * 1.05, folder / "flow.dcd"),
    }


@pytest.fixture(scope="module")
def report(
    files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("report") / "report"
    arguments = (
        f"--topology {PDB} --traj {files['chain']} --reference {files['folder'] / 'md'} "
        f"--proposals {files['flow']} --run {files['folder'] / 'run'} --temperature 500 "
        "--force-field amber99sbildn.xml --force-field amber99_obc.xml "
        "--tica-lag 2 --state-lag 2 --pdb-frame 7"
    )
    with pytest.MonkeyPatch.context() as patch:
        return out, analyze(arguments, out, patch)


def test_page_holds_every_figure_and_needs_nothing_else(
    report: tuple[Path, dict[str, Any]],
) -> None:
    out, _ = report
    page = (out / "index.html").read_text()
    figures = list((out / "figures").glob("*.png"))
    assert len(figures) >= 12
    assert page.count('src="data:image/png;base64,') == len(figures)
    # Licences and the viewer's own source name addresses; the report's own part does not.
    own = page[: page.index("<footer>")]
    assert "http:" not in own
    assert "https:" not in own
    for panel in ("MD", "flow without MH", "short chain", "long chain"):
        assert panel in page


def test_numbers_are_those_of_the_trajectories(report: tuple[Path, dict[str, Any]]) -> None:
    _, numbers = report
    structure = numbers["structure"]
    assert structure["MD"]["frames"] == 400
    assert structure["long chain"]["frames"] == 400
    acceptance = numbers["acceptance"]["chain.dcd"]
    # Every frame is repeated four times.
    assert acceptance["moved"] == pytest.approx(99 / 399)
    assert acceptance["longest_stay_frames"] == 3
    assert numbers["training"]["last"]["step"] == 3
    assert set(numbers["wasserstein"]["long chain"]) == {
        "torus_w2_rad", "tica_w2", "energy_w2_kj_per_mol"
    }  # fmt: skip
    profile = numbers["profiles"]["psi A:ALA2"]["long chain"]
    assert min(v for v in profile["free_energy_kT"] if v is not None) == 0.0
    assert "phi A:ALA2" in numbers["sampling"]["long chain"]
    populations = numbers["states"]["MD"]["populations"]
    assert sum(populations) + numbers["states"]["MD"]["outside"] == pytest.approx(1.0)


def test_stretched_flow_is_found_out(report: tuple[Path, dict[str, Any]]) -> None:
    _, numbers = report
    geometry = numbers["structure"]["geometry"]["flow without MH"]
    bonds = [entry for name, entry in geometry.items() if name.startswith("bond")]
    # Everything 5 % too long; 200 frames are few, so not each is beyond noise.
    assert sum(entry["different"] for entry in bonds) >= 5


def test_frame_as_pdb(report: tuple[Path, dict[str, Any]], files: dict[str, Path]) -> None:
    out, _ = report
    frame = mdtraj.load(str(out / "frame-7.pdb"))
    assert [a.name for a in frame.topology.atoms] == [a.name for a in TOPOLOGY.atoms]
    chain = mdtraj.load(str(files["chain"]), top=TOPOLOGY)
    np.testing.assert_allclose(frame.xyz[0], chain.xyz[7], atol=1e-4)
    assert frame.topology.n_bonds == 21


def test_few_effective_samples_are_a_warning(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = np.repeat(md_frames()[::100], 50, axis=0)
    chain = write(stuck, tmp_path / "stuck.dcd")
    numbers = analyze(
        f"--topology {PDB} --traj {chain} --reference {files['md']}", tmp_path / "r", monkeypatch
    )
    warnings = " ".join(numbers["warnings"])
    assert "fewer than 20 effective samples in the chain" in warnings
    assert "stood still for 49 of 200 frames" in warnings


def test_one_frame(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = write(md_frames()[:1], tmp_path / "one.dcd")
    numbers = analyze(
        f"--topology {PDB} --traj {chain} --reference {files['md']}", tmp_path / "r", monkeypatch
    )
    problems = numbers["problems"]
    assert any("there is one frame only" in p for p in problems["acceptance"])
    assert any("too few" in p for p in problems["sampling"])
    assert any("give --model" in p for p in problems["energies"])
    assert numbers["structure"]["long chain"]["frames"] == 1
    assert (tmp_path / "r" / "figures" / "ramachandran-A-ALA2.png").exists()


def test_constant_coordinates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.repeat(md_frames()[:1], 200, axis=0)
    chain, md = write(frames, tmp_path / "c.dcd"), write(frames, tmp_path / "md.h5")
    numbers = analyze(
        f"--topology {PDB} --traj {chain} --reference {md}", tmp_path / "r", monkeypatch
    )
    assert any("constant" in p for p in numbers["problems"]["sampling"])
    assert any("no torsion of the reference moves" in p for p in numbers["problems"]["tica"])
    assert numbers["acceptance"]["c.dcd"]["moved"] == 0.0
    assert (tmp_path / "r" / "index.html").exists()


def test_no_reference(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = analyze(f"--topology {PDB} --traj {files['chain']}", tmp_path / "r", monkeypatch)
    for key in ("tica", "states", "structure", "wasserstein", "ramachandran"):
        assert any("give --reference" in p for p in numbers["problems"][key])
    assert numbers["profiles"]["phi A:ALA2"]["long chain"]["blocks"] > 1


def test_molecule_without_phi_and_psi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    water = tmp_path / "water.pdb"
    water.write_text(
        "ATOM      1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O\n"
        "ATOM      2  H1  HOH A   1       0.957   0.000   0.000  1.00  0.00           H\n"
        "ATOM      3  H2  HOH A   1      -0.240   0.927   0.000  1.00  0.00           H\nEND\n"
    )
    topology = mdtraj.load(str(water)).topology
    start = mdtraj.load(str(water)).xyz
    noise = np.random.default_rng(1).normal(0, 0.002, (300, 3, 3))
    for name in ("a.dcd", "b.dcd"):
        mdtraj.Trajectory((start + noise).astype(np.float32), topology).save(str(tmp_path / name))
    numbers = analyze(
        f"--topology {water} --traj {tmp_path / 'a.dcd'} --reference {tmp_path / 'b.dcd'}",
        tmp_path / "r",
        monkeypatch,
    )
    problems = numbers["problems"]
    assert "no residue of this molecule has both phi and psi" in problems["ramachandran"][0]
    assert "no torsions" in problems["tica"][0]
    assert "no torsions" in problems["states"][0]
    assert "no torsion that turns" in problems["profiles"][0]
    assert numbers["structure"]["geometry"]["long chain"]


def test_trajectories_that_do_not_fit_are_left_out(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller = tmp_path / "smaller.dcd"
    mdtraj.Trajectory(
        md_frames()[:10, :10], TOPOLOGY.subset(range(10))
    ).save(str(smaller))  # fmt: skip
    broken = tmp_path / "broken.dcd"
    broken.write_bytes(b"nothing")
    numbers = analyze(
        f"--topology {PDB} --traj {files['chain']} --reference {smaller} --proposals {broken}",
        tmp_path / "r",
        monkeypatch,
    )
    warnings = " ".join(numbers["warnings"])
    assert "has 10 atoms but the topology has 22" in warnings
    assert "broken.dcd cannot be read" in warnings
    assert numbers["structure"]["long chain"]["frames"] == 400


def test_other_elements_and_other_order_are_noticed(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = np.arange(22)
    order[[1, 4]] = order[[4, 1]]
    shuffled = write(md_frames()[:50][:, order], tmp_path / "shuffled.dcd")
    other = tmp_path / "other.h5"
    mdtraj.Trajectory(
        md_frames()[:10][:, order], TOPOLOGY.subset(range(22))
    ).save(str(other))  # fmt: skip
    import tables

    with tables.open_file(str(other), "a") as file:
        content = json.loads(file.root.topology[0])
        content["chains"][0]["residues"][0]["atoms"][1]["element"] = "O"
        file.remove_node("/topology")
        file.create_array("/", "topology", obj=[json.dumps(content).encode()])
    numbers = analyze(
        f"--topology {PDB} --traj {shuffled} --reference {other}", tmp_path / "r", monkeypatch
    )
    warnings = " ".join(numbers["warnings"])
    assert "atoms in another order" in warnings
    assert "pass the topology that it was made with" in warnings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--topology none.pdb --traj t.dcd", "no structure file"),
        (f"--topology {PDB} --traj none.dcd", "no trajectory at none.dcd"),
        (f"--topology {PDB} --traj {{chain}} --pdb-frame 4000", "there is no frame 4000"),
        (f"--topology {PDB} --traj {{tmp}}", "holds no trajectory-*.h5"),
        (f"--topology {PDB} --traj {{chain}} --model none.pt", "no model file"),
    ],
)
def test_mistakes_are_one_message(
    arguments: str,
    message: str,
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = arguments.format(chain=files["chain"], tmp=tmp_path)
    argv = ["timewarp-openmm", "analyze", "--out", str(tmp_path / "r"), *filled.split()]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_nothing_readable_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.dcd").write_bytes(b"nothing")
    argv = ["timewarp-openmm", "analyze", "--topology", str(PDB), "--traj",
            str(tmp_path / "broken.dcd"), "--out", str(tmp_path / "r")]  # fmt: skip
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit):
        cli.main()
    assert "nothing to report on" in capsys.readouterr().err


def test_study_cannot_be_changed() -> None:
    alanine = named_molecule("alanine-dipeptide")
    molecule = molecule_from_topology(alanine.topology)
    given = {"long chain": np.zeros((1, 22, 3))}
    study = Study(Subject.of(molecule, TOPOLOGY, alanine.positions), None, velocities=given)
    for entry in fields(Study):
        with pytest.raises(FrozenInstanceError):
            setattr(study, entry.name, None)
    with pytest.raises(TypeError, match="does not support item assignment"):
        study.velocities["flow without MH"] = np.ones((1, 22, 3))  # type: ignore[index]
    given.clear()
    assert list(study.velocities) == ["long chain"]
