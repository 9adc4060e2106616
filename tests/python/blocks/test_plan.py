"""The file of blocks: written, edited by people, and read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from libraries import write_library
from peptides import Structure

from timewarp_openmm import open_library
from timewarp_openmm.blocks.plan import (
    BlockPlan,
    NotServed,
    PlannedBlock,
    describe_library,
    planned_blocks,
    planned_library,
    portable,
    proposed_weight,
    read_plan,
    write_plan,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a library in it."""
    folder = tmp_path_factory.mktemp("plans")
    write_library(folder / "library")
    return folder


@pytest.fixture
def plan(folder: Path) -> BlockPlan:
    library = open_library(folder / "library")
    return BlockPlan(
        format=1,
        structure="peptide.pdb",
        library=describe_library(library, folder),
        temperature=300.0,
        force_field=["amber99sbildn.xml", "amber99_obc.xml"],
        blocks=[
            PlannedBlock(residue="A:VAL6", weight=2.0),
            PlannedBlock(residue="A:VAL2", exposed=0.5, acceptance=0.1, proposals=9),
        ],
        not_served=[NotServed(residues=["A:SER3"], reason="why: # not")],
    )


def write(plan: BlockPlan, path: Path) -> list[str]:
    write_plan(path, plan)
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("exposed", "weight"), [(1.0, 1.0), (0.3, 1.0), (0.15, 0.5), (0.03, 0.1), (0.0, 0.1)]
)
def test_exposed_side_chains_are_tried_more_often(exposed: float, weight: float) -> None:
    assert proposed_weight(exposed) == weight


def test_what_is_written_is_read(plan: BlockPlan, tmp_path: Path) -> None:
    lines = write(plan, tmp_path / "plan.yaml")
    assert read_plan(tmp_path / "plan.yaml") == plan
    assert sum(line.startswith("- ") for line in lines) == 3, "a line for each block"
    assert plan.library.folder == "library"


def test_blocks_come_in_the_order_of_the_file(plan: BlockPlan, folder: Path) -> None:
    structure = Structure()
    library = planned_library(plan, folder)
    found = planned_blocks(plan, library, structure.topology, structure.positions)
    assert [(block.residue, weight) for block, weight in found] == [
        ("A:VAL6", 2.0),
        ("A:VAL2", 1.0),
    ]


def test_residues_that_cannot_be_blocks_are_all_named(plan: BlockPlan, folder: Path) -> None:
    structure = Structure()
    structure = structure.without(structure.residue(7))
    blocks = [*plan.blocks, PlannedBlock(residue="A:SER3")]
    edited = plan.model_copy(update={"blocks": blocks})
    library = planned_library(plan, folder)
    with pytest.raises(ValueError, match=r"(?s)A:SER3: .*no model of SER.*A:VAL6: no residue"):
        planned_blocks(edited, library, structure.topology, structure.positions)
    elsewhere = plan.model_copy(update={"blocks": [PlannedBlock(residue="A:VAL7")]})
    with pytest.raises(ValueError, match="no residue 'A:VAL7'"):
        planned_blocks(elsewhere, library, structure.topology, structure.positions)


def test_another_library_is_refused(plan: BlockPlan, tmp_path: Path) -> None:
    write_library(tmp_path / "library", name="another")
    with pytest.raises(ValueError, match=r"the library small in .* is not the one"):
        planned_library(plan, tmp_path)
    with pytest.raises(FileNotFoundError, match="no library"):
        planned_library(plan, tmp_path / "nowhere")


def test_paths_are_relative_within_the_folder_only(tmp_path: Path) -> None:
    assert portable(tmp_path / "runs" / "a.pdb", tmp_path) == "runs/a.pdb"
    assert portable(tmp_path / "a.pdb", tmp_path / "runs") == str((tmp_path / "a.pdb").resolve())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("residue: 'A:VAL2'", "resdue: 'A:VAL2'", r"line 13, blocks\.1\.residue: Field required"),
        ("residue: 'A:VAL2'", "resdue: 'A:VAL2'", r"line 13, blocks\.1\.resdue: Extra inputs"),
        ("weight: 2.0", "weight: -1", r"line 12, blocks\.0\.weight: Input should be greater"),
        ("weight: 2.0", "weight: often", r"line 12, blocks\.0\.weight"),
        ("exposed: 0.5", "exposed: 50", r"line 13, blocks\.1\.exposed: must be from 0 to 1"),
        ("temperature: 300.0", "temperature: 0", r"line 9, temperature: must be above 0"),
        ("format: 1", "format: 2", r"line 5, format: Input should be 1"),
        ("kind: side chain", "kind: tail", r"blocks\.0\.kind: Input should be 'side chain'"),
        ("'A:VAL2'", "'A:VAL6'", "line 13 has a second block of A:VAL6, after line 12"),
        ("blocks:\n", "blocks: [\n", "is not YAML"),
        ("format: 1\n", "format: 1\nformat:\n- 1\n", r"format"),
    ],
)
def test_what_is_wrong_with_an_edited_file_is_named_with_its_line(
    old: str, new: str, message: str, plan: BlockPlan, tmp_path: Path
) -> None:
    path = tmp_path / "plan.yaml"
    write_plan(path, plan)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_plan(path)


@pytest.mark.parametrize("text", ["", "blocks", "- 1", "7", "\x00", "{" * 300])
def test_other_contents_are_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"plan\.yaml (holds no blocks|is not YAML)"):
        read_plan(path)


def test_no_blocks_are_named(plan: BlockPlan, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    write_plan(path, plan.model_copy(update={"blocks": []}))
    with pytest.raises(ValueError, match="has no blocks"):
        read_plan(path)
    still = [PlannedBlock(residue="A:VAL2", weight=0.0)]
    write_plan(path, plan.model_copy(update={"blocks": still}))
    with pytest.raises(ValueError, match="all weights of blocks are 0"):
        read_plan(path)
    with pytest.raises(FileNotFoundError, match="no file of blocks"):
        read_plan(tmp_path / "none.yaml")
