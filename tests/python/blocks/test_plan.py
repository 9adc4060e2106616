"""The file of blocks: written, edited by people, and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from block_systems import trimer_positions, write_trimer
from libraries import write_library
from openmm import app
from peptides import Structure

from timewarp_openmm import open_library
from timewarp_openmm.blocks.plan import (
    BlockPlan,
    NotServed,
    PlannedBlock,
    describe_library,
    describe_model,
    portable,
    proposed_weight,
    read_plan,
    write_plan,
)
from timewarp_openmm.blocks.planned import planned_blocks, planned_library, planned_models
from timewarp_openmm.files import sha256_of


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
    found = planned_blocks(plan, library, {}, structure.topology, structure.positions)
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
        planned_blocks(edited, library, {}, structure.topology, structure.positions)
    elsewhere = plan.model_copy(update={"blocks": [PlannedBlock(residue="A:VAL7")]})
    with pytest.raises(ValueError, match="no residue 'A:VAL7'"):
        planned_blocks(elsewhere, library, {}, structure.topology, structure.positions)


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
        ("residue: 'A:VAL2'", "resdue: 'A:VAL2'", r"line 12, blocks\.1\.residue: Field required"),
        ("residue: 'A:VAL2'", "resdue: 'A:VAL2'", r"line 12, blocks\.1\.resdue: Extra inputs"),
        ("weight: 2.0", "weight: -1", r"line 11, blocks\.0\.weight: Input should be greater"),
        ("weight: 2.0", "weight: often", r"line 11, blocks\.0\.weight"),
        ("exposed: 0.5", "exposed: 50", r"line 12, blocks\.1\.exposed: must be from 0 to 1"),
        ("temperature: 300.0", "temperature: 0", r"line 8, temperature: must be above 0"),
        ("format: 1", "format: 2", r"line 5, format: Input should be 1"),
        ("kind: side chain", "kind: tail", r"blocks\.0\.kind: Input should be 'side chain', 'pep"),
        ("'A:VAL2'", "'A:VAL6'", "line 12 has a second block of A:VAL6, after line 11"),
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


def write_ligands(folder: Path) -> BlockPlan:
    """Write two models and the plan of a structure of two molecules of the one, in a residue each,
    and two places of the other, in one residue."""
    write_trimer(folder / "ligand.pt", "SCC")
    write_trimer(folder / "part.pt", "NCC", context=True)
    files = ("ligand.pt", "part.pt")
    return BlockPlan(
        format=1,
        structure="ligands.pdb",
        temperature=300.0,
        models=[describe_model(folder / file, folder) for file in files],
        blocks=[
            PlannedBlock(residue="A:MOL2", kind="molecule", model="ligand.pt", weight=0.5),
            PlannedBlock(residue="A:MOL1", kind="molecule", model="ligand.pt"),
            PlannedBlock(residue="B:MOL1", kind="part", model="part.pt", atom="C2B"),
            PlannedBlock(residue="B:MOL1", kind="part", model="part.pt", atom="C1"),
        ],
    )


def ligands() -> tuple[app.Topology, np.ndarray]:
    """Return the structure of `write_ligands`."""
    topology = app.Topology()
    for name, elements, suffixes in (("A", "SCC", [[""], [""]]), ("B", "NCC", [["", "B"]])):
        chain = topology.addChain(name)
        for number, copies in enumerate(suffixes, 1):
            residue = topology.addResidue("MOL", chain, str(number))
            for suffix in copies:
                first, *others = (
                    topology.addAtom(f"{e}{i}{suffix}", app.Element.getBySymbol(e), residue)
                    for i, e in enumerate(elements)
                )
                for other in others:
                    topology.addBond(first, other)
    return topology, np.concatenate([trimer_positions(2), trimer_positions(2) + 5])


def placed(plan: BlockPlan, folder: Path) -> list[tuple[tuple[int, ...], float]]:
    found = planned_blocks(plan, None, planned_models(plan, folder), *ligands())
    return [(block.moved, weight) for block, weight in found]


def test_models_are_written_with_their_digests_and_read(tmp_path: Path) -> None:
    plan = write_ligands(tmp_path)
    lines = write(plan, tmp_path / "plan.yaml")
    assert read_plan(tmp_path / "plan.yaml") == plan
    assert not any(line.startswith("library") for line in lines)
    digest = sha256_of(tmp_path / "part.pt")
    assert f"- {{file: part.pt, sha256: {digest}}}" in lines
    assert sum(line.startswith("- {residue") for line in lines) == 4
    assert [block.name for block in plan.blocks] == [
        "A:MOL2 (molecule, ligand.pt)",
        "A:MOL1 (molecule, ligand.pt)",
        "B:MOL1:C2B (part, part.pt)",
        "B:MOL1:C1 (part, part.pt)",
    ]


def test_blocks_of_models_are_found_by_their_labels(tmp_path: Path) -> None:
    plan = write_ligands(tmp_path)
    assert placed(plan, tmp_path) == [
        ((3, 4, 5), 0.5), ((0, 1, 2), 1.0), ((10, 11), 1.0), ((7, 8), 1.0)
    ]  # fmt: skip
    # A model that no line needs any more may be gone.
    (tmp_path / "part.pt").unlink()
    fewer = plan.model_copy(update={"blocks": plan.blocks[:1]})
    assert placed(fewer, tmp_path) == [((3, 4, 5), 0.5)]


def test_models_that_are_gone_or_others_are_named(tmp_path: Path) -> None:
    plan = write_ligands(tmp_path)
    write_trimer(tmp_path / "ligand.pt", "SNN")
    with pytest.raises(ValueError, match=r"ligand\.pt is not the one .*make them again"):
        planned_models(plan, tmp_path)
    (tmp_path / "ligand.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"the blocks' model .*ligand\.pt is missing; rest"):
        planned_models(plan, tmp_path)


def test_places_that_are_not_there_are_all_named(tmp_path: Path) -> None:
    plan = write_ligands(tmp_path)
    ligand, part = plan.blocks[1], plan.blocks[2]
    wrong = [
        ligand.model_copy(update={"residue": "A:MOL7"}),
        ligand.model_copy(update={"residue": "B:MOL1"}),
        part.model_copy(update={"atom": None}),
        part.model_copy(update={"atom": "C9"}),
    ]
    with pytest.raises(ValueError, match="some residues cannot be blocks here") as raised:
        placed(plan.model_copy(update={"blocks": wrong}), tmp_path)
    message = str(raised.value)
    assert "A:MOL7 (molecule, ligand.pt): the structure has no residue 'A:MOL7'" in message
    assert "B:MOL1 (molecule, ligand.pt): ligand.pt does not fit there" in message
    assert "part.pt fits 2 places there; name an atom that the one moves, such as atom: C1" in (
        message
    )
    assert "B:MOL1:C9 (part, part.pt): part.pt moves no atom C9 there" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", model: ligand.pt", "", "line 12: the molecule A:MOL2 has no model; name its file"),
        (
            ", model: ligand.pt",
            ", model: x.pt",
            "line 12: A:MOL2 has the model x.pt, which is none",
        ),
        ("kind: molecule", "kind: side chain", "line 12: the side chain A:MOL2 has the library's"),
        ("kind: molecule, model: ligand.pt", "kind: side chain", "line 12: .*but no library is"),
        (
            "A:MOL1",
            "A:MOL2",
            r"line 13 has a second block of A:MOL2 \(molecule, ligand.pt\), after",
        ),
        ("atom: C1}", "atom: C2B}", "line 15 has a second block of B:MOL1:C2B"),
        ("sha256: ", "sha256: x", r"line 9, models\.0\.sha256: String should match pattern"),
    ],
)
def test_what_is_wrong_with_a_models_line_is_named(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "plan.yaml"
    write_plan(path, write_ligands(tmp_path))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_plan(path)


def test_files_of_before_models_are_read(plan: BlockPlan, tmp_path: Path) -> None:
    """A file as earlier versions wrote it, word for word."""
    assert plan.library is not None
    text = f"""\
format: 1
structure: peptide.pdb
library: {{name: small, sha256: {plan.library.sha256}, folder: library}}
temperature: 300.0
force_field: [amber99sbildn.xml, amber99_obc.xml]
blocks:
- {{residue: 'A:VAL6', weight: 2.0, kind: side chain}}
- {{residue: 'A:VAL2', weight: 1.0, kind: side chain, exposed: 0.5, acceptance: 0.1, proposals: 9}}
not_served:
- {{residues: ['A:SER3'], reason: 'why: # not'}}
"""
    path = tmp_path / "old.yaml"
    path.write_text(text)
    assert read_plan(path) == plan
