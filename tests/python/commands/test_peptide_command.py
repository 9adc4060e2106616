"""A peptide's model on the command line: what is written, that it runs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from command_line import run
from openmm import app, unit
from residue_flows import capped, write_residue_library

from timewarp_openmm import TimewarpMCMCIntegrator, peptide_blocks, read_metadata
from timewarp_openmm.blocks.kinds import END
from timewarp_openmm.files import sha256_of
from timewarp_openmm.flows.loading import load_module
from timewarp_openmm.simulation.systems import with_hydrogen_bonds_constrained

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return lambda *arguments: run([str(a) for a in arguments], monkeypatch, capsys)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("ALA", "GLY", "NALA", "CGLY")
    return write_residue_library(tmp_path_factory.mktemp("residues"), *names)


def write_pdb(path: Path, *residues: str) -> Path:
    peptide = capped(*residues)
    with path.open("w") as handle:
        app.PDBFile.writeFile(peptide.topology, peptide.positions * unit.nanometer, handle)
    return path


def test_a_model_is_written_that_samples(library: Path, tmp_path: Path, command: Command) -> None:
    structure, out = write_pdb(tmp_path / "ag.pdb", "ALA", "GLY"), tmp_path / "ag.pt"
    code, text, error = command("peptide", structure, "--library", library, "--out", out)
    assert (code, error) == (0, "")
    assert "29 atoms, ALA GLY of residues" in text
    metadata = read_metadata(out)
    assert metadata.coordinates == "peptide"
    assert metadata.temperature == 300.0
    assert metadata.moved is None
    assert len(metadata.torsion_noise or ()) == 4
    made_of = metadata.provenance["peptide"]
    assert made_of["entries"] == ["ALA", "GLY"]
    assert made_of["library_sha256"] == sha256_of(library / "library.json")
    card = out.with_suffix(".md").read_text()
    assert "ALA2: ALA, of which 50.0% of proposals are accepted with nothing but caps" in card
    frames = tmp_path / "ag.dcd"
    sample = ("sample", "--model", out, "--pdb", structure, "--steps", 20, "--out", frames)
    code, text, error = command(*sample, "--seed", 1)
    assert code == 0, error
    assert "2 frames, acceptance" in text
    _keeps_bonds(out, "ALA", "GLY")
    code, _, error = command("peptide", structure, "--library", library, "--out", out)
    assert code == 2
    assert f"{out} exists" in error


def without_forces(system: openmm.System) -> openmm.System:
    """Return a System in which something of a flow that was never trained is accepted."""
    bare = openmm.XmlSerializer.clone(system)
    for k in reversed(range(bare.getNumForces())):
        bare.removeForce(k)
    return bare


def drawn(model: Path) -> np.ndarray:
    """Return positions [N, 3] / nm of what the model draws itself, near the origin."""
    metadata = read_metadata(model)
    x = torch.tensor(metadata.reference_positions, dtype=torch.float64)
    noise = torch.randn((20, metadata.noise_size), generator=torch.Generator().manual_seed(1))
    lag = torch.full((20,), torch.inf, dtype=torch.float64)
    y, _, log_q = load_module(model).sample(x, noise.double(), lag)
    return y[torch.isfinite(log_q)][0].numpy()


def test_a_zwitterion_is_sampled(library: Path, tmp_path: Path, command: Command) -> None:
    structure, out = write_pdb(tmp_path / "ag.pdb", "NALA", "CGLY"), tmp_path / "ag.pt"
    code, text, error = command("peptide", structure, "--library", library, "--out", out)
    assert (code, error) == (0, "")
    assert "20 atoms, NALA CGLY of residues" in text
    metadata = read_metadata(out)
    assert metadata.moved is None
    # psi and phi; those of NH3+, the methyl group and the carboxylate are symmetric.
    assert len(metadata.torsion_noise or ()) == 2
    frames = tmp_path / "ag.dcd"
    sample = ("sample", "--model", out, "--pdb", structure, "--steps", 20, "--out", frames)
    code, text, error = command(*sample, "--seed", 1)
    assert code == 0, error
    _keeps_bonds(out, "NALA", "CGLY")


def _keeps_bonds(model: Path, *residues: str) -> None:
    """Where bonds to hydrogen are constrained, proposals are made that keep them."""
    peptide = capped(*residues)
    system = without_forces(with_hydrogen_bonds_constrained(peptide))
    integrator = TimewarpMCMCIntegrator(str(model), topology=peptide.topology)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(drawn(model))
    context.applyConstraints(1e-8)
    integrator.step(50)
    assert integrator.getNumAccepted() > 0
    x = context.getState(positions=True).getPositions(asNumpy=True)._value
    elements = [atom.element.symbol for atom in peptide.topology.atoms()]
    assert system.getNumConstraints() == elements.count("H")
    assert max(_stretch(system, k, x) for k in range(system.getNumConstraints())) < 1e-6


def test_blocks_of_charged_ends(library: Path, tmp_path: Path) -> None:
    """Both at once, each of which moves what it says and keeps bonds to hydrogen."""
    peptide = capped("NALA", "ALA", "CGLY")
    given = (peptide.topology, peptide.positions, library, tmp_path / "models")
    blocks = peptide_blocks(*given, longest=2)
    assert [(block.kind, block.entry) for block in blocks] == [(END, "NALA"), (END, "CGLY")]
    system = without_forces(with_hydrogen_bonds_constrained(peptide))
    for block in blocks:
        integrator = TimewarpMCMCIntegrator(temperature=300)
        integrator.addBlock(block.model, block.particles)
        integrator.setFrozenOthers(True)
        integrator.setRandomNumberSeed(1)
        platform = openmm.Platform.getPlatformByName("Reference")
        context = openmm.Context(system, integrator, platform)
        start = peptide.positions.copy()
        start[list(block.particles)] = drawn(Path(block.model)) + start.mean(axis=0)
        context.setPositions(start)
        context.applyConstraints(1e-8)
        before = context.getState(positions=True).getPositions(asNumpy=True)._value
        integrator.step(50)
        x = context.getState(positions=True).getPositions(asNumpy=True)._value
        gone = {i for i in range(len(x)) if (x[i] != before[i]).any()}
        assert gone == set(block.moved)
        lengths = [_stretch(system, k, x) for k in range(system.getNumConstraints())]
        assert max(lengths) < 1e-6


def _stretch(system: openmm.System, constraint: int, x: np.ndarray) -> float:
    """Return by how much / nm a constrained bond is too long or short."""
    i, j, length = system.getConstraintParameters(constraint)
    return abs(float(np.linalg.norm(x[i] - x[j])) - length._value)


def test_blocks_of_short_peptides_and_of_ends(library: Path, tmp_path: Path) -> None:
    """A model is written once, and the block moves what it says."""
    peptide = capped("ALA", "GLY")
    given = (peptide.topology, peptide.positions, library, tmp_path / "models")
    (end,) = peptide_blocks(*given, longest=1, end=1)
    assert (end.kind, end.entry, end.residue) == (END, "GLY", "1:GLY3 to 1:NME4")
    written = Path(end.model).stat().st_mtime_ns
    assert peptide_blocks(*given, longest=1, end=1) == [end]
    assert Path(end.model).stat().st_mtime_ns == written
    integrator = TimewarpMCMCIntegrator(temperature=300)
    integrator.addBlock(end.model, end.particles)
    integrator.setFrozenOthers(True)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(without_forces(peptide.system), integrator, platform)
    start = peptide.positions.copy()
    start[list(end.particles)] = drawn(Path(end.model)) + start.mean(axis=0)
    context.setPositions(start)
    integrator.step(50)
    x = context.getState(positions=True).getPositions(asNumpy=True)._value
    gone = {a for a in peptide.topology.atoms() if (x[a.index] != start[a.index]).any()}
    moved = [a for a in peptide.topology.atoms() if a.residue.index > 1]
    nitrogen = next(a for a in moved if (a.residue.index, a.name) == (2, "N"))
    assert gone == {a for a in moved if a != nitrogen}


def test_what_is_refused(library: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "x.pt"
    ending = ("--library", library, "--out", out)
    valine = write_pdb(tmp_path / "v.pdb", "ALA", "VAL")
    proline = write_pdb(tmp_path / "p.pdb", "PRO", "ALA")
    bare = tmp_path / "bare.pdb"
    lines = valine.read_text().splitlines(keepends=True)
    bare.write_text("".join(line for line in lines if " NME " not in line and "CONECT" not in line))
    water = tmp_path / "water.pdb"
    water.write_text(
        "HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O\n"
    )
    for arguments, message in (
        (("peptide", valine, *ending), "VAL3 is not served: the library residues has no model of"),
        (("peptide", proline, *ending), "PRO2 is not served: the library does not move PRO"),
        (("peptide", bare, *ending), "lacks COO- or an N-methyl group (NME) after A:VAL3"),
        (("peptide", water, *ending), "the structure holds no amino acids"),
        (("peptide", tmp_path / "no.pdb", *ending), "no structure file at"),
        (("peptide", valine, "--library", tmp_path, "--out", out), "is no library"),
        (("library", "build", "--ends", "--out", tmp_path / "s"), "residues, or leave --ends out"),
    ):
        code, _, error = command(*arguments)
        assert code == 2
        assert message in error, error
        assert "Traceback" not in error
    assert not out.exists()


def test_damaged_flows_are_named(library: Path, tmp_path: Path, command: Command) -> None:
    folder = write_residue_library(tmp_path / "broken", "ALA", "GLY")
    structure = write_pdb(tmp_path / "a.pdb", "ALA")
    for content in (b"", (folder / "ALA.pt").read_bytes()[:-100]):
        (folder / "ALA.pt").write_bytes(content)
        arguments = ("peptide", structure, "--library", folder, "--out", tmp_path / "a.pt")
        code, _, error = command(*arguments)
        assert code == 2
        assert "ALA.pt is damaged or was changed" in error
        # The checksum of the list is that of the damaged file, which is then found by itself.
        text = (folder / "library.json").read_text()
        old = sha256_of(library / "ALA.pt")
        (folder / "library.json").write_text(text.replace(old, sha256_of(folder / "ALA.pt")))
        code, _, error = command(*arguments)
        assert code == 2
        assert "ALA.pt is damaged or was changed" in error
        (folder / "library.json").write_text(text)
