"""``blocks --model`` and ``--peptides``, and their plans in ``sample`` and ``analyze``."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import mdtraj
import openmm
import pytest
import torch
import yaml
from block_systems import trimer_positions, trimer_system, trimer_topology, write_trimer
from command_line import run
from libraries import MODEL, PEPTIDE, write_library
from openmm import Vec3, app, unit
from peptides import Structure
from residue_flows import write_residue_library

from timewarp_openmm.blocks.plan import BlockPlan, read_plan
from timewarp_openmm.blocks.planned import planned_blocks, planned_library, planned_models
from timewarp_openmm.commands.blocks import BlocksOptions, blocks
from timewarp_openmm.commands.options import validated
from timewarp_openmm.contract import METADATA_FILE, read_metadata
from timewarp_openmm.molecule.structure_files import load_structure
from timewarp_openmm.simulation.systems import named_molecule

VALINE = PEPTIDE.parents[2] / "examples" / "molecules" / "valine-dipeptide.pdb"
#: All of the plan that `plans` writes.
LABELS = ["X:ACE1 to X:NME3", "Y:ACE1 to Y:NME3", "V:ACE1 to V:NME3", "V:VAL2"]


@dataclass(frozen=True)
class Files:
    """Valine dipeptide (chain V) and two molecules of alanine dipeptide (X and Y), libraries of a
    side chain and of residues, a model of alanine dipeptide, and a plan of all this."""

    folder: Path

    @property
    def structure(self) -> Path:
        return self.folder / "structure.pdb"

    def __call__(self, line: str) -> list[str]:
        return line.format(files=self.folder, structure=self.structure).split()


def write_alanine(path: Path) -> None:
    """Write a model of alanine dipeptide that is said to be of 300 K."""
    source = MODEL.parent / "alanine-dipeptide-small.pt"
    metadata = replace(read_metadata(source), temperature=300.0)
    extra = {METADATA_FILE: metadata.to_json()}
    torch.jit.save(torch.jit.load(str(source)), str(path), _extra_files=extra)


def write_structure(path: Path, mirrored: bool = False) -> app.Modeller:
    """Write the dipeptides, the second one of alanine mirrored if that is asked for."""
    valine = app.PDBFile(str(VALINE))
    modeller = app.Modeller(valine.topology, valine.positions)
    alanine = named_molecule("alanine-dipeptide")
    for number, shift in enumerate(([0.0, 1.0, 0.0], [0.0, 0.0, 1.0])):
        shape = alanine.positions * ([1, 1, -1] if mirrored and number == 1 else 1)
        modeller.add(alanine.topology, (shape - shape.mean(axis=0) + shift) * unit.nanometer)
    for chain, name in zip(modeller.topology.chains(), "VXY", strict=True):
        chain.id = name
    write_pdb(path, modeller.topology, modeller.positions)
    return modeller


def write_pdb(path: Path, topology: app.Topology, positions: object) -> None:
    with open(path, "w") as handle:
        app.PDBFile.writeFile(topology, positions, handle, keepIds=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    found = Files(tmp_path_factory.mktemp("models"))
    write_structure(found.structure)
    write_library(found.folder / "sides")
    write_residue_library(found.folder / "units", "ALA", "VAL")
    write_alanine(found.folder / "alanine.pt")
    options = {
        "structure": found.structure,
        "out": found.folder / "plan.yaml",
        "library": str(found.folder / "sides"),
        "peptides": str(found.folder / "units"),
        "model": [found.folder / "alanine.pt"],
        "force_field": ["amber99sbildn.xml", "amber99_obc.xml"],
        "measure": 20,
        "relax": 0.02,
        "seed": 1,
    }
    blocks(validated(BlocksOptions, options))
    return found


@pytest.fixture
def plan(files: Files) -> BlockPlan:
    return read_plan(files.folder / "plan.yaml")


def test_a_plan_of_all_kinds(files: Files, plan: BlockPlan) -> None:
    """Alanine dipeptide's own model stands in for what the library of residues makes of it."""
    assert [block.residue for block in plan.blocks] == LABELS
    assert [block.kind for block in plan.blocks] == [
        "molecule", "molecule", "peptide", "side chain"
    ]  # fmt: skip
    assert plan.not_served == []
    alanine, valine = plan.models
    assert alanine.file == "alanine.pt"
    assert re.fullmatch(r"plan\.models/VAL-[0-9a-f]{12}\.pt", valine.file)
    assert [p.name for p in (files.folder / "plan.models").iterdir()] == [Path(valine.file).name]
    assert [b.model for b in plan.blocks] == [alanine.file, alanine.file, valine.file, None]
    assert plan.temperature == 300
    assert sum(block.proposals or 0 for block in plan.blocks) == 80
    assert [block.rotamer_changes is not None for block in plan.blocks] == [
        False, False, True, True
    ]  # fmt: skip
    assert max(block.acceptance or 0 for block in plan.blocks[:2]) > 0
    # Others are around, so that something could be buried; where these are far nothing is.
    assert all(0.5 < (block.exposed or 0) <= 1 for block in plan.blocks)
    assert (files.folder / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_an_edited_plan_is_sampled_and_analysed(
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A molecule less, another order, a weight; a block that never moves is named."""
    content = yaml.safe_load((files.folder / "plan.yaml").read_text())
    first, _, peptide, side_chain = content["blocks"]
    content["blocks"] = [side_chain, peptide, {**first, "weight": 3.0}]
    edited = files.folder / "edited.yaml"
    edited.write_text(yaml.safe_dump(content))
    line = f"sample --blocks {edited} --out {tmp_path}/s.dcd --steps 6 --interval 2 --dynamics 2 "
    line += "--step-size 0.001 --proposals 8 --seed 1"
    code, out, error = run(line.split(), monkeypatch, capsys)
    assert code == 0, error
    assert "3 blocks, in the order of V:VAL2 to X:ACE1 to X:NME3 (molecule, alanine.pt)" in out
    rows = list(csv.DictReader((tmp_path / "s.blocks.csv").read_text().splitlines()))
    tried = [int(rows[-1][f"block {i} tried"]) for i in range(3)]
    accepted = [int(rows[-1][f"block {i} accepted"]) for i in range(3)]
    assert sum(tried) == 48
    assert tried[2] > tried[0]
    assert accepted[2] > 0
    # The library's flow is untrained.
    assert accepted[1] == 0
    assert "V:ACE1 to V:NME3 (peptide)" in out.split("never moved by a proposal: ")[1]

    line = f"analyze --topology {files.structure} --traj {tmp_path}/s.dcd --blocks {edited} "
    code, out, error = run([*line.split(), "--out", f"{tmp_path}/report"], monkeypatch, capsys)
    assert code == 0, error
    assert "1 side chains, other blocks: 2" in out
    warned = error.split("blocks that no proposal has moved: ")[1].splitlines()[0]
    assert "V:ACE1 to V:NME3 (peptide)" in warned
    numbers = json.loads((tmp_path / "report" / "numbers.json").read_text())
    assert numbers["transitions"]["residues"]["V:VAL2"]["tried"] == tried[0]
    assert numbers["blocks"] == {
        "V:ACE1 to V:NME3 (peptide)": {"tried": tried[1], "accepted": 0},
        "X:ACE1 to X:NME3 (molecule, alanine.pt)": {"tried": tried[2], "accepted": accepted[2]},
    }


def test_the_same_blocks_are_sampled_in_water(
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of all kinds, with PME, constraints and repartitioned masses."""
    modeller = write_structure(tmp_path / "dry.pdb")
    water = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    modeller.addSolvent(water, boxSize=Vec3(2.3, 2.3, 2.3))
    write_pdb(tmp_path / "wet.pdb", modeller.topology, modeller.positions)
    line = "sample --blocks {files}/plan.yaml --steps 2 --interval 1 --dynamics 2 --cutoff 0.9 "
    line += "--force-field amber14-all.xml amber14/tip3p.xml --hydrogen-mass 3 --seed 1"
    given = ["--pdb", f"{tmp_path}/wet.pdb", "--out", f"{tmp_path}/s.dcd"]
    code, out, error = run([*files(line), *given], monkeypatch, capsys)
    assert code == 0, error
    assert "2 frames" in out
    frames = mdtraj.load(tmp_path / "s.dcd", top=str(tmp_path / "wet.pdb"))
    assert frames.unitcell_lengths[0] == pytest.approx([2.3] * 3, abs=1e-3)
    rows = list(csv.DictReader((tmp_path / "s.blocks.csv").read_text().splitlines()))
    assert sum(int(rows[-1][f"block {i} tried"]) for i in range(4)) == 8


def test_the_end_of_a_chain_is_found_again(
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its model is read from the file, without the library of residues."""
    line = f"blocks {PEPTIDE} --out {tmp_path}/b.yaml --measure 0 --longest 4 --end 1"
    code, out, error = run(
        [*line.split(), *files("--library {files}/sides --peptides {files}/units")],
        monkeypatch,
        capsys,
    )
    assert code == 0, error
    assert "1 end of a chain and 3 side chains as blocks, 2 residues without" in out
    plan = read_plan(tmp_path / "b.yaml")
    assert (plan.blocks[0].residue, plan.blocks[0].kind) == (
        "A:VAL6 to A:NME7", "end of a chain"
    )  # fmt: skip
    library, models = planned_library(plan, tmp_path), planned_models(plan, tmp_path)
    topology, positions = load_structure(PEPTIDE)
    (end, _), *_ = planned_blocks(plan, library, models, topology, positions)
    atoms = list(topology.atoms())
    assert {atoms[i].residue.id for i in end.moved} == {"6", "7"}
    names = read_metadata(end.model).molecule.atom_names  # type: ignore[union-attr]
    assert [atoms[i].name for i in end.particles] == list(names)
    line = f"sample --blocks {tmp_path}/b.yaml --out {tmp_path}/s.dcd --steps 2 --dynamics 2"
    code, out, error = run([*line.split(), "--seed", "1"], monkeypatch, capsys)
    assert code == 0, error
    assert "4 blocks, in the order of A:VAL6 to A:NME7 (end of a chain) to A:VAL6" in out


def test_what_a_library_of_residues_does_not_serve_is_named(
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    structure = Structure()
    bare = structure.without(structure.residue(7))
    write_pdb(tmp_path / "bare.pdb", bare.topology, bare.positions * unit.nanometer)
    line = f"blocks {tmp_path}/bare.pdb --out {tmp_path}/b.yaml --measure 0"
    libraries = files("--library {files}/sides --peptides {files}/units")
    code, out, error = run([*line.split(), *libraries], monkeypatch, capsys)
    assert code == 0, error
    assert "not served: A:VAL6: as a peptide or the end of one: A:VAL6 is not served: no res" in out
    assert not (tmp_path / "b.models").exists()


def test_a_mirrored_copy_is_not_served(
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_structure(tmp_path / "mirrored.pdb", mirrored=True)
    line = f"blocks {tmp_path}/mirrored.pdb --out {tmp_path}/b.yaml --measure 0 "
    line += "--library {files}/sides --model {files}/alanine.pt"
    code, out, error = run(files(line), monkeypatch, capsys)
    assert code == 0, error
    assert "1 molecule and 1 side chain as blocks, 2 residues without" in out
    (mirrored, _) = read_plan(tmp_path / "b.yaml").not_served
    assert mirrored.residues == ["Y:ACE1 to Y:NME3"]
    assert re.search(r"alanine\.pt: .*another stereoisomer .*ALA2:CA", mirrored.reason)


def write_ligands(folder: Path, copies: int = 2) -> None:
    """Write a structure of ligands alone, their System, and a model.

    It draws about the origin, and all but the first copy are held where they are.
    """
    system = trimer_system("SCC", copies)
    held = openmm.CustomExternalForce("1000 * ((x - x0)^2 + (y - y0)^2 + (z - z0)^2)")
    for name in ("x0", "y0", "z0"):
        held.addPerParticleParameter(name)
    for i, place in enumerate(trimer_positions(copies)[3:]):
        held.addParticle(3 + i, place)
    system.addForce(held)
    (folder / "system.xml").write_text(openmm.XmlSerializer.serialize(system))
    positions = trimer_positions(copies) * unit.nanometer
    write_pdb(folder / "ligands.pdb", trimer_topology("SCC", copies), positions)
    write_trimer(folder / "ligand.pt", "SCC")


def test_ligands_alone_need_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The copy that never moves is named, at each step."""
    monkeypatch.setattr("timewarp_openmm.blocks.cutting.open_library", None)
    monkeypatch.setattr("timewarp_openmm.blocks.planned.open_library", None)
    write_ligands(tmp_path)
    system = f"--system {tmp_path}/system.xml --seed 1"
    line = f"blocks {tmp_path}/ligands.pdb --out {tmp_path}/b.yaml --model {tmp_path}/ligand.pt "
    code, out, error = run(f"{line} --measure 30 {system}".split(), monkeypatch, capsys)
    assert code == 0, error
    assert "2 molecules as blocks, 0 residues without" in out
    assert "never moved: A:MOL2 (molecule, ligand.pt)" in out
    plan = read_plan(tmp_path / "b.yaml")
    assert (plan.library, plan.force_field) == (None, None)
    assert (plan.blocks[0].acceptance or 0) > 0
    line = f"sample --blocks {tmp_path}/b.yaml --out {tmp_path}/s.dcd --steps 4 --interval 1"
    code, _, error = run(line.split(), monkeypatch, capsys)
    assert (code, "names no force field, because the blocks were made for a Sys" in error) == (
        2, True
    )  # fmt: skip
    code, out, error = run(f"{line} {system}".split(), monkeypatch, capsys)
    assert code == 0, error
    assert "never moved by a proposal: A:MOL2 (molecule, ligand.pt)" in out
    line = f"analyze --topology {tmp_path}/ligands.pdb --traj {tmp_path}/s.dcd "
    line += f"--blocks {tmp_path}/b.yaml --out {tmp_path}/report"
    code, out, error = run(line.split(), monkeypatch, capsys)
    assert code == 0, error
    assert "0 side chains, other blocks: 2" in out
    page = (tmp_path / "report" / "index.html").read_text()
    assert "A:MOL1 (molecule, ligand.pt)" in page


def test_a_block_that_is_the_whole_structure_is_tried_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is left that a local energy could be of."""
    write_ligands(tmp_path, copies=1)
    write_trimer(tmp_path / "part.pt", "SCC", context=True)
    models = f"--model {tmp_path}/ligand.pt --model {tmp_path}/part.pt"
    line = f"blocks {tmp_path}/ligands.pdb --out {tmp_path}/b.yaml --measure 0 {models}"
    code, out, error = run(line.split(), monkeypatch, capsys)
    assert code == 0, error
    assert "1 molecule and 1 part as blocks" in out
    plan = read_plan(tmp_path / "b.yaml")
    assert [(b.exposed, b.weight) for b in plan.blocks] == [(None, 1.0)] * 2
    line = f"sample --blocks {tmp_path}/b.yaml --system {tmp_path}/system.xml --steps 2"
    code, _, error = run([*line.split(), "--out", f"{tmp_path}/s.dcd"], monkeypatch, capsys)
    assert code == 0, error
    given = ["--out", f"{tmp_path}/t.dcd", "--blocks-per-try", "2"]
    code, _, error = run([*line.split(), *given], monkeypatch, capsys)
    assert code == 2
    assert "blocks that are parts of the structure, and A:MOL1 (molecule, ligand.pt) is all" in (
        error
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model {tmp}/none.pt", "no model file at {tmp}/none.pt"),
        ("--model {tmp}/ligand.pt --model {tmp}/ligand.pt", "are the same model; give it once"),
        (
            "--model {tmp}/other.pt",
            "other.pt: the topology does not hold the model's molecule (C2N)",
        ),
        ("--model {tmp}/ligand.pt --residue A:MOL9", "the structure has no residue 'A:MOL9'"),
        (
            "--model {tmp}/ligand.pt --model {tmp}/warm.pt",
            "is of 300 K and the model {tmp}/warm.pt of 310 K",
        ),
        ("--longest 3", "--longest goes with --peptides"),
        ("--model {tmp}/ligand.pt --end 2", "--end goes with --peptides"),
        ("--peptides {tmp}/sides", "has no flows of whole residues; build one with"),
        ("--library {tmp}/units", "has no models of side chains; if it is one of whole residues"),
        ("--model {tmp}/ligand.pt --measure 1", "does not say which force field it is for; name"),
        ("--model {tmp}/sides/library.json", "is not a TorchScript file"),
    ],
)
def test_mistakes_end_in_one_message(
    options: str,
    message: str,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_ligands(tmp_path)
    write_trimer(tmp_path / "other.pt", "NCC")
    metadata = replace(read_metadata(tmp_path / "ligand.pt"), temperature=310.0)
    extra = {METADATA_FILE: metadata.to_json()}
    module = torch.jit.load(str(tmp_path / "ligand.pt"))
    torch.jit.save(module, str(tmp_path / "warm.pt"), _extra_files=extra)
    for name in ("sides", "units"):
        (tmp_path / name).symlink_to(files.folder / name)
    measured = "" if "--measure" in options else "--measure 0"
    line = f"blocks {tmp_path}/ligands.pdb --out {tmp_path}/b.yaml {measured} {options}"
    code, _, error = run(line.format(tmp=tmp_path).split(), monkeypatch, capsys)
    assert code == 2
    assert message.format(tmp=tmp_path) in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("b.*"))


def test_a_temperature_settles_what_models_do_not_agree_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ligands(tmp_path)
    line = f"blocks {tmp_path}/ligands.pdb --out {tmp_path}/b.yaml --measure 0 --temperature 320 "
    code, _, error = run([*line.split(), "--model", f"{tmp_path}/ligand.pt"], monkeypatch, capsys)
    assert code == 0, error
    assert read_plan(tmp_path / "b.yaml").temperature == 320


def test_a_model_that_has_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ligands(tmp_path)
    line = f"blocks {tmp_path}/ligands.pdb --out {tmp_path}/b.yaml --measure 0 "
    code, _, error = run([*line.split(), "--model", f"{tmp_path}/ligand.pt"], monkeypatch, capsys)
    assert code == 0, error
    write_trimer(tmp_path / "ligand.pt", "NCC")
    line = f"sample --blocks {tmp_path}/b.yaml --out {tmp_path}/s.dcd --steps 1"
    code, _, error = run(line.split(), monkeypatch, capsys)
    assert (code, "ligand.pt is not the one that the blocks were made with" in error) == (2, True)
    (tmp_path / "ligand.pt").unlink()
    code, _, error = run(line.split(), monkeypatch, capsys)
    assert (code, "ligand.pt is missing; restore it, or make the blocks again" in error) == (
        2, True
    )  # fmt: skip
    assert not (tmp_path / "s.dcd").exists()
