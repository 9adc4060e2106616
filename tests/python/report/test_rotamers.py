"""The report on rotamers, of trajectories whose rotamers are known."""

from __future__ import annotations

import json
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from command_line import run
from libraries import PEPTIDE, write_library
from numpy.typing import NDArray
from peptides import Structure
from turning import turned

from timewarp_openmm.blocks.sidechains import residue_torsions
from timewarp_openmm.blocks.statistics import read_statistics
from timewarp_openmm.molecule.matching import PartFinder
from timewarp_openmm.report.rotamers import OtherBlock, SideChain, assess_rotamers
from timewarp_openmm.report.study import LONG, MD

VALINES = ["A:VAL2", "A:VAL4", "A:VAL6"]


def side_chains(*counts: tuple[int, int]) -> list[SideChain]:
    return [SideChain(label, [(0, 1, 2, 3)], *c) for label, c in zip(VALINES, counts, strict=True)]


def test_what_never_moved_is_named() -> None:
    run_states = [[np.array([0, 1] * 50)], [np.zeros(100, int)], [np.zeros(100, int)]]
    md_states = [[np.array([0, 1] * 50)], [np.array([0, 0, 1, 1] * 25)], [np.zeros(100, int)]]
    found = assess_rotamers(
        "a", side_chains((9, 3), (9, 0), (9, 1)), {LONG: run_states, MD: md_states}
    )
    assert found.warnings[:3] == [
        "blocks that no proposal has moved: A:VAL4",
        "rotamers that never changed in the run, so that their populations are those of the start: "
        "A:VAL4, A:VAL6",
        "rotamers that never changed in MD: A:VAL6",
    ]
    assert "differ from MD's by more than 4 standard errors: A:VAL4;" in found.warnings[3]
    numbers = found.numbers()
    changes = {label: numbers["transitions"]["residues"][label]["changes"] for label in VALINES}
    assert changes == {
        "A:VAL2": {LONG: 99, MD: 99},
        "A:VAL4": {LONG: 0, MD: 49},
        "A:VAL6": {LONG: 0, MD: 0},
    }
    assert numbers["populations"]["A:VAL4"][MD]["t"]["population"] == 0.5
    (table,) = found.sections[1].tables
    assert [row[0] for row in table.rows] == [
        "A:VAL2 p", "A:VAL2 t", "A:VAL4 p", "A:VAL4 t", "A:VAL6 p"
    ]  # fmt: skip
    assert [picture.name for s in found.sections for picture in s.pictures] == [
        "changes",
        "agreement",
    ]


def test_without_md_and_statistics() -> None:
    states = [[np.array([0, 1, 1]), np.array([2, 2])]]
    found = assess_rotamers("a", [SideChain("A:VAL2", [(0, 1, 2, 3)])], {LONG: states})
    assert found.warnings == []
    numbers = found.numbers()
    assert numbers["transitions"]["frames"] == {LONG: 5}
    assert numbers["transitions"]["residues"]["A:VAL2"]["changes"] == {LONG: 1}, (
        "none from run to run"
    )
    populations = numbers["populations"]["A:VAL2"][LONG]
    assert [populations[name]["population"] for name in "ptm"] == pytest.approx([0.2, 0.4, 0.4])


def test_other_blocks_are_named_with_their_proposals() -> None:
    others = [
        OtherBlock("B:LIG1 (molecule, a.pt)", 50, 5),
        OtherBlock("A:ACE1 to A:NME7 (peptide)", 9, 0),
        OtherBlock("C:LIG1 (molecule, a.pt)"),
    ]
    found = assess_rotamers("a", [], {LONG: []}, others)
    assert found.warnings == ["blocks that no proposal has moved: A:ACE1 to A:NME7 (peptide)"]
    (section,) = found.sections
    assert section.tables[0].rows == [
        ["B:LIG1 (molecule, a.pt)", "50", "10.00%"],
        ["A:ACE1 to A:NME7 (peptide)", "9", "0.00%"],
        ["C:LIG1 (molecule, a.pt)", "", ""],
    ]
    states = [[np.array([0, 1, 1])]]
    side_chain = SideChain("A:VAL2", [(0, 1, 2, 3)], 5, 0)
    both = assess_rotamers("a", [side_chain], {LONG: states}, others[1:2])
    assert [section.key for section in both.sections] == ["transitions", "populations", "blocks"]
    assert "no proposal has moved: A:VAL2, A:ACE1 to A:NME7 (peptide)" in both.warnings[0]


def in_wells(structure: Structure, number: int, wells: list[int]) -> NDArray[np.float32]:
    """Return frames [F, N, 3] / nm in which chi1 of a valine is in these wells."""
    graph = PartFinder(structure.topology).graph
    ((a, b, c, d),) = residue_torsions(structure.residue(number), graph)
    frame = mdtraj.Trajectory(structure.positions, mdtraj.load(str(PEPTIDE)).topology)
    now = mdtraj.compute_dihedrals(frame, [[a, b, c, d]])[0, 0]
    frames = [
        turned(structure.positions, graph, (b, c), np.radians(60.0 + 120.0 * well) - now)
        for well in wells
    ]
    return np.array(frames, dtype=np.float32)


def test_the_command_follows_chi1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_library(tmp_path / "library")
    make = f"blocks {PEPTIDE} --out {tmp_path}/b.yaml --library {tmp_path}/library --measure 0"
    assert run(make.split(), monkeypatch, capsys)[0] == 0
    topology = mdtraj.load(str(PEPTIDE)).topology
    structure = Structure()
    for name, wells in (("run", [0, 1, 1, 2, 0, 0, 2, 1]), ("md", [0, 0, 0, 0, 0, 0, 0, 1])):
        frames = mdtraj.Trajectory(in_wells(structure, 4, wells), topology)
        frames.save(str(tmp_path / f"{name}.dcd"))
    columns = [f"block {i} {what}" for i in range(3) for what in ("tried", "accepted")]
    (tmp_path / "run.blocks.csv").write_text(f"step,{','.join(columns)}\n9,5,0,6,4,7,1\n")
    line = f"analyze --topology {PEPTIDE} --traj {tmp_path}/run.dcd --reference {tmp_path}/md.dcd "
    line += f"--blocks {tmp_path}/b.yaml --out {tmp_path}/report"
    code, out, error = run(line.split(), monkeypatch, capsys)
    assert code == 0, error
    assert "3 side chains" in out
    assert "warning: blocks that no proposal has moved: A:VAL2" in error
    numbers = json.loads((tmp_path / "report" / "numbers.json").read_text())
    found = numbers["transitions"]["residues"]["A:VAL4"]
    assert found == {"tried": 6, "accepted": 4, "changes": {LONG: 5, MD: 1}}
    shares = numbers["populations"]["A:VAL4"][LONG]
    assert [shares[name]["population"] for name in "ptm"] == [0.375, 0.375, 0.25]
    page = (tmp_path / "report" / "index.html").read_text()
    assert "blocks that no proposal has moved: A:VAL2" in page
    code, _, error = run(line.split(), monkeypatch, capsys)
    assert (code, "exists" in error) == (2, True)
    (tmp_path / "run.blocks.csv").unlink()
    code, _, error = run([*line.split(), "--force"], monkeypatch, capsys)
    assert code == 0
    assert "what became of proposals is not known: no statistics of blocks at" in error
    code, _, error = run([*line.split(), "--force", "--model", "a.pt"], monkeypatch, capsys)
    assert (code, "--model is about a whole molecule" in error) == (2, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "step,block 0 tried,block 0 accepted\n",
        "step,block 0 tried\n1,2\n",
        "step,block 0 tried,block 0 accepted,block 1 tried\n1,2,3,4\n",
        "step,block 0 tried,block 0 accepted\n1,x,3\n",
        "step,block 0 tried,block 0 accepted\n1,2\n",
    ],
)
def test_other_statistics_are_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.blocks.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"does not hold the statistics of .* \(1\)"):
        read_statistics(path, 1)
