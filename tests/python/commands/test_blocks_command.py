"""``blocks`` and ``sample --blocks`` from the command line."""

from __future__ import annotations

import csv
import re
import struct
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import yaml
from command_line import run
from libraries import PEPTIDE, write_library
from openmm import Vec3, app, unit
from peptides import Structure

from timewarp_openmm.blocks.plan import proposed_weight, read_plan
from timewarp_openmm.commands.sample import _tries_of_blocks

DIPEPTIDE = PEPTIDE.parents[2] / "examples" / "molecules" / "valine-dipeptide.pdb"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_library(tmp_path_factory.mktemp("library"))


class CommandLine:
    """The command line in a folder, with a library."""

    def __init__(
        self, folder: Path, library: Path, monkeypatch: pytest.MonkeyPatch, capsys: object
    ) -> None:
        self.folder, self._library = folder, library
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, line: str) -> tuple[int, str, str]:
        words = line.format(tmp=self.folder, library=self._library, pdb=PEPTIDE).split()
        return run(words, self._monkeypatch, self._capsys)  # type: ignore[arg-type]

    def write(self, structure: Structure, name: str = "structure.pdb") -> Path:
        path = self.folder / name
        with open(path, "w") as handle:
            positions = structure.positions * unit.nanometer
            app.PDBFile.writeFile(structure.topology, positions, handle, keepIds=True)
        return path


@pytest.fixture
def command(
    tmp_path: Path,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> CommandLine:
    return CommandLine(tmp_path, library, monkeypatch, capsys)


QUICK = "--library {library} --relax 0.02 --measure 10 --seed 1"


def test_a_structure_is_cut_and_sampled(command: CommandLine) -> None:
    code, out, error = command(f"blocks {{pdb}} --out {{tmp}}/b.yaml {QUICK}")
    assert code == 0, error
    assert "3 side chains as blocks, 2 residues without" in out
    assert "acceptance: median" in out
    assert "not served: A:SER3: the library small has no model of SER" in out
    plan = read_plan(command.folder / "b.yaml")
    assert [block.residue for block in plan.blocks] == ["A:VAL2", "A:VAL4", "A:VAL6"]
    assert sum(block.proposals or 0 for block in plan.blocks) == 30
    for block in plan.blocks:
        assert 0.2 < (block.exposed or 0) <= 1
        assert block.weight == pytest.approx(proposed_weight(block.exposed or 0), abs=0.03)
    picture = (command.folder / "b.png").read_bytes()
    assert picture.startswith(b"\x89PNG")

    # As people edit it: a block less, another order, a weight.
    text = (command.folder / "b.yaml").read_text().splitlines()
    first, second, third = (i for i, line in enumerate(text) if line.startswith("- {residue: "))
    text[first], text[third] = (
        re.sub(r"weight: [\d.]+", f"weight: {weight}", text[row])
        for row, weight in ((third, 3), (first, 1))
    )
    del text[second]
    (command.folder / "b.yaml").write_text("\n".join(text))
    options = "--steps 12 --interval 3 --dynamics 2 --proposals 5 --step-size 0.001 --seed 1"
    code, out, error = command(f"sample --blocks {{tmp}}/b.yaml --out {{tmp}}/s.dcd {options}")
    assert code == 0, error
    assert "4 frames" in out
    assert "2 blocks, in the order of A:VAL6 to A:VAL2" in out
    frames = mdtraj.load(command.folder / "s.dcd", top=str(PEPTIDE))
    assert frames.n_frames == 4
    # Of a step, in the header's unit of 0.04888821 ps.
    (step_time,) = struct.unpack("<f", (command.folder / "s.dcd").read_bytes()[44:48])
    assert step_time * 0.04888821 == pytest.approx(2 * 0.001, rel=1e-5)
    assert np.abs(np.diff(frames.xyz, axis=0)).max(axis=(0, 2)).min() > 1e-4, "all atoms move"
    rows = list(csv.DictReader((command.folder / "s.blocks.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["3", "6", "9", "12"]
    tried = [int(rows[-1][f"block {i} tried"]) for i in (0, 1)]
    assert sum(tried) == 60
    assert tried[0] > 1.5 * tried[1]

    again = command(f"sample --blocks {{tmp}}/b.yaml --out {{tmp}}/t.dcd {options}")
    assert again[0] == 0
    same = mdtraj.load(command.folder / "t.dcd", top=str(PEPTIDE))
    assert np.array_equal(same.xyz, frames.xyz)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((121, None, None), (16, 8)),
        ((3, None, None), (1, 3)),
        ((3, None, 1), (3, 1)),
        ((121, 127, None), (127, 1)),
        ((2, 12, None), (2, 6)),
        ((2, 12, 4), (3, 4)),
    ],
)
def test_tries_are_whole(
    arguments: tuple[int, int | None, int | None], expected: tuple[int, int]
) -> None:
    assert _tries_of_blocks(*arguments) == expected
    tries, size = expected
    assert tries * size >= (arguments[1] or arguments[0])


def test_proposals_that_make_no_whole_tries_are_refused() -> None:
    with pytest.raises(ValueError, match="--proposals 10 is no multiple of --blocks-per-try 4"):
        _tries_of_blocks(2, 10, 4)


def test_nothing_is_overwritten(command: CommandLine) -> None:
    make = "blocks {pdb} --out {tmp}/b.yaml --library {library} --measure 0"
    assert command(make)[0] == 0
    before = (command.folder / "b.yaml").read_text()
    assert "acceptance: 0" not in before
    assert "rotamer_changes: " not in before
    code, _, error = command(make)
    assert (code, "b.yaml exists" in error) == (2, True)
    (command.folder / "b.yaml").rename(command.folder / "kept.yaml")
    code, _, error = command(make)
    assert (code, "b.png exists" in error) == (2, True)
    assert not (command.folder / "b.yaml").exists()
    assert command(f"{make} --force")[0] == 0
    sample = "sample --blocks {tmp}/b.yaml --out {tmp}/s.dcd --steps 1 --dynamics 1"
    (command.folder / "s.blocks.csv").write_text("kept")
    code, _, error = command(sample)
    assert (code, "s.blocks.csv exists" in error) == (2, True)
    assert (command.folder / "s.blocks.csv").read_text() == "kept"
    assert not (command.folder / "s.dcd").exists()
    assert command(f"{sample} --force")[0] == 0


def test_missing_atoms_are_named_with_the_remedy(command: CommandLine) -> None:
    structure = Structure()
    lacking = structure.without(structure.atom(4, "HG11"), structure.atom(5, "SG"))
    command.write(lacking)
    code, _, error = command(f"blocks {{tmp}}/structure.pdb --out {{tmp}}/b.yaml {QUICK}")
    assert code == 2
    assert "A:VAL4: it lacks the hydrogens HG11; add them, with PDBFixer" in error
    assert "A:CYS5: it lacks the atoms SG; add them, with PDBFixer" in error
    assert "Traceback" not in error
    assert not (command.folder / "b.yaml").exists()
    # What is whole is proposed all the same where nothing has to be simulated.
    code, out, _ = command(
        "blocks {tmp}/structure.pdb --out {tmp}/b.yaml --library {library} --measure 0"
    )
    assert code == 0
    assert "2 side chains as blocks, 3 residues without" in out


def test_a_structure_without_blocks_says_so(command: CommandLine) -> None:
    structure = Structure()
    structure.positions[:, 0] *= -1
    command.write(structure)
    code, out, _ = command(f"blocks {{tmp}}/structure.pdb --out {{tmp}}/b.yaml {QUICK}")
    assert code == 0
    assert "0 side chains as blocks, 5 residues without" in out
    assert "not served: A:VAL2, A:VAL4, A:VAL6: it is a D residue" in out
    code, _, error = command("sample --blocks {tmp}/b.yaml --steps 1 --out {tmp}/s.dcd")
    assert (code, "has no blocks" in error) == (2, True)


def test_alternate_locations_are_told(command: CommandLine) -> None:
    lines = PEPTIDE.read_text().splitlines()
    doubled = [
        f"{line[:16]}{location}{line[17:]}" if line[12:26] == " CG1 VAL A   4" else line
        for line in lines
        for location in ("AB" if line[12:26] == " CG1 VAL A   4" else "A")
    ]
    (command.folder / "a.pdb").write_text("\n".join(doubled))
    line = "blocks {tmp}/a.pdb --out {tmp}/b.yaml --library {library} --measure 0"
    code, out, error = command(line)
    assert code == 0
    assert "atoms at several locations, the first of which is taken: A:VAL4" in error
    assert "3 side chains" in out


def test_residues_of_one_label_are_refused(command: CommandLine) -> None:
    path = command.write(Structure().beside(Structure()))
    path.write_text(path.read_text().replace(" B  ", " A  "))
    line = "blocks {tmp}/structure.pdb --out {tmp}/b.yaml --library {library} --measure 0"
    code, _, error = command(line)
    assert code == 2
    assert "two residues of the structure are called A:VAL2; give its chains different" in error


def test_in_water_the_same_blocks_move(command: CommandLine) -> None:
    """Blocks of the dry structure, in a box of water with PME and constraints."""
    chosen = "--residue A:VAL2 --measure 0 --library {library}"
    assert command(f"blocks {DIPEPTIDE} --out {{tmp}}/b.yaml {chosen}")[0] == 0
    dry = app.PDBFile(str(DIPEPTIDE))
    modeller = app.Modeller(dry.topology, dry.positions)
    water = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    modeller.addSolvent(water, boxSize=Vec3(1.9, 1.9, 1.9))
    path = command.folder / "wet.pdb"
    with open(path, "w") as handle:
        app.PDBFile.writeFile(modeller.topology, modeller.positions, handle, keepIds=True)
    line = (
        "sample --blocks {tmp}/b.yaml --pdb {tmp}/wet.pdb --out {tmp}/s.dcd --steps 2 --cutoff 0.9"
    )
    for implicit in (
        "amber99sbildn.xml amber99_obc.xml ",
        "amber14-all.xml implicit/obc2.xml amber14/",
    ):
        code, _, error = command(f"{line} --force-field {implicit}tip3p.xml")
        assert (code, "the structure holds water" in error) == (2, True)
    options = "--force-field amber14-all.xml amber14/tip3p.xml --dynamics 2 --interval 1 --seed 1"
    code, out, error = command(f"{line} {options} --hydrogen-mass 3")
    assert code == 0, error
    assert "2 frames" in out
    frames = mdtraj.load(command.folder / "s.dcd", top=str(path))
    assert frames.unitcell_lengths[0] == pytest.approx([1.9] * 3, abs=1e-3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("blocks {tmp}/none.pdb --out {tmp}/b.yaml --library {library}", "no structure file"),
        ("blocks {pdb} --out {tmp}/b.yaml --library {tmp}/none", "there is no library"),
        ("blocks {pdb} --out {tmp}/b.png --library {library}", "the name of the picture"),
        ("blocks {pdb} --out {tmp}/b.yaml --library {library} --residue A:X1", "no residue 'A:X1'"),
        (
            "blocks {pdb} --out {tmp}/b.yaml --library {library} --force-field none.xml",
            "cannot load the force field none.xml",
        ),
        (
            "blocks {pdb} --out {tmp}/b.yaml --library {library} --platform Abacus",
            "no OpenMM platform named 'Abacus'",
        ),
        ("sample --steps 1 --out {tmp}/s.dcd", "give either --model or --blocks"),
        (
            "sample --model a.pt --blocks b.yaml --steps 1 --out {tmp}/s.dcd",
            "give either --model or --blocks",
        ),
        ("sample --model {tmp}/a.pt --steps 1 --out {tmp}/s.dcd", "give --pdb"),
        (
            "sample --model a.pt --pdb {pdb} --steps 1 --out {tmp}/s.dcd --dynamics 3",
            "--dynamics goes with --blocks",
        ),
        (
            "sample --model a.pt --pdb {pdb} --steps 1 --out {tmp}/s.dcd --step-size 0.002",
            "--step-size goes with --blocks",
        ),
        ("sample --blocks {tmp}/none.yaml --steps 1 --out {tmp}/s.dcd", "no file of blocks"),
        ("sample --blocks {pdb} --steps 1 --out {tmp}/s.dcd", "holds no blocks"),
        ("sample --blocks {tmp}/b.yaml --steps 1 --out {tmp}/s.dcd --dynamics 0", "--dynamics"),
    ],
)
def test_mistakes_are_one_message(line: str, message: str, command: CommandLine) -> None:
    code, _, error = command(line)
    assert code == 2
    assert message in error
    assert "Traceback" not in error
    assert not list(command.folder.glob("b.*"))


def test_a_changed_library_is_refused(command: CommandLine) -> None:
    write_library(command.folder / "library")
    line = "blocks {pdb} --out {tmp}/b.yaml --library {tmp}/library --measure 0"
    assert command(line)[0] == 0
    content = yaml.safe_load((command.folder / "b.yaml").read_text())
    assert content["library"]["folder"] == "library"
    write_library(command.folder / "library", name="other")
    code, _, error = command("sample --blocks {tmp}/b.yaml --steps 1 --out {tmp}/s.dcd")
    assert code == 2
    assert "is not the one that the blocks were made with" in error
