"""A library of whole residues: what a fit is asked for, what is kept of it, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from residue_flows import FORCE_FIELD, capped, chain_of
from test_build_library import Silent

from timewarp_openmm.blocks.peptides import PeptideFinder
from timewarp_openmm.library import open_library
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.stored import DamagedFileError
from timewarp_openmm.workflows import library as library_module
from timewarp_openmm.workflows import library_kinds
from timewarp_openmm.workflows.fit import Validation
from timewarp_openmm.workflows.library import LibrarySettings, build_library
from timewarp_openmm.workflows.merging import merge_libraries

SETTINGS = LibrarySettings(
    "units", FORCE_FIELD, kind="residue", residues=("ALA", "GLY"), minutes=2.0, workers=1
)
#: Of residues at charged ends: what hangs on the alpha carbon of the first, and the carboxylate.
RESIDUE_ATOMS = {"NALA": {"N", "H", "H2", "H3", "HA"}, "CALA": {"H", "CA", "C", "O", "OXT"}}


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let fits end at once with flows of random weights."""
    asked: list[str] = []

    def fit(molecule, out, settings, work, display, force, budget, workers):
        asked.append(molecule.name)
        names = [atom.name for atom in molecule.topology.atoms()]
        residue, *methyl = settings.later_parts
        assert settings.moved is None
        assert {names[i] for i in residue} >= RESIDUE_ATOMS.get(
            molecule.name, {"H", "CA", "C", "O"}
        )
        assert [sorted(names[i] for i in part) for part in methyl] == (
            [] if molecule.name == "CALA" else [["C", "H", "H1", "H2", "H3"]]
        )
        # The data of a residue that is moved with its backbone must not be spread over it.
        assert len(molecule.system.getForces()) == len(capped(molecule.name).system.getForces())
        out.write_text("a model of the capped residue")
        out.with_suffix(".md").write_text(f"the card of {molecule.name}")
        return Validation(0.5, 0.01, 0.4, 8, 1000, 100.0)

    def fitted_flow(work: Path) -> SimpleNamespace:
        flow, config = chain_of(work.name)
        peptide = capped(work.name)
        provenance = SimpleNamespace(
            molecule=molecule_from_topology(peptide.topology, peptide.system),
            reference_positions=peptide.positions.tolist(),
        )
        return SimpleNamespace(
            config=SimpleNamespace(flow=config),
            provenance=provenance,
            weights=flow.state_dict(),
            path=work,
        )

    monkeypatch.setattr(library_module, "fit", fit)
    monkeypatch.setattr(library_kinds, "fitted_flow", fitted_flow)
    return asked


def test_a_library_of_residues_makes_peptides(tmp_path: Path, fits: list[str]) -> None:
    out = tmp_path / "units"
    content = build_library(out, SETTINGS, Silent())
    assert [(e["residue"], e["kind"]) for e in content["entries"]] == [
        ("ALA", "residue"),
        ("GLY", "residue"),
    ]
    assert set(content["not_moved"]) == {"CYX", "PRO"}
    assert (out / "GLY.md").read_text() == "the card of GLY"
    assert {path.name for path in out.iterdir()} == {
        "ALA.md", "ALA.pt", "GLY.md", "GLY.pt", "library.json"
    }  # fmt: skip
    peptide = capped("ALA", "GLY")
    finder = PeptideFinder(peptide.topology, peptide.positions, open_library(out))
    made = finder.make(finder.chains[0])
    # Weights have fewer bits than those of training, and are the same but for that.
    for name, weights in chain_of("ALA")[0].links[1].state_dict().items():
        found = made.flow.links[1].state_dict()[name]
        torch.testing.assert_close(found, weights.to(found.dtype), rtol=2**-10, atol=0)
    build_library(out, SETTINGS, Silent())
    assert fits == ["ALA", "GLY"]


def test_charged_ends_are_made_where_they_are_asked_for(tmp_path: Path, fits: list[str]) -> None:
    out = tmp_path / "units"
    asked = replace(SETTINGS, residues=("ALA",))
    build_library(out, asked, Silent())
    content = build_library(out, replace(asked, ends=True), Silent())
    assert fits == ["ALA", "NALA", "CALA"]
    assert [entry["residue"] for entry in content["entries"]] == ["ALA", "CALA", "NALA"]
    peptide = capped("NALA", "ALA", "CALA")
    finder = PeptideFinder(peptide.topology, peptide.positions, open_library(out))
    assert finder.make(finder.chains[0]).entries == ("NALA", "ALA", "CALA")
    build_library(out, replace(asked, residues=("CALA",)), Silent())
    assert len(fits) == 3


def test_libraries_of_ends_are_merged(tmp_path: Path, fits: list[str]) -> None:
    folders = [tmp_path / name for name in ("NALA", "CALA")]
    for folder in folders:
        build_library(folder, replace(SETTINGS, residues=(folder.name,)), Silent())
    content = merge_libraries(folders, tmp_path / "units", "units")
    assert [entry["residue"] for entry in content["entries"]] == ["CALA", "NALA"]
    peptide = capped("NALA", "CALA")
    finder = PeptideFinder(peptide.topology, peptide.positions, tmp_path / "units")
    assert finder.make(finder.chains[0]).entries == ("NALA", "CALA")


def test_which_ends_there_are() -> None:
    every = replace(SETTINGS, residues=(), ends=True).chosen()
    assert len(every) == len(set(every)) == 25 + 2 * 21
    assert {"NHIE", "CGLY", "NCYS"} <= set(every)
    # Amber has no ends in these states of protonation.
    assert not {"NASH", "CCYM"} & set(every)
    with pytest.raises(ValueError, match=r"of CPRO: .* cis; choose among ALA, .*, NALA, .*CALA"):
        replace(SETTINGS, residues=("CPRO",))
    with pytest.raises(ValueError, match="no library of this kind has a model of CVAL; choose"):
        replace(SETTINGS, kind="side chain", residues=("CVAL",))
    with pytest.raises(ValueError, match=r"ends of chains are of whole residues.*--ends"):
        replace(SETTINGS, kind="side chain", residues=("VAL",), ends=True)


def test_kinds_do_not_mix_and_residues_are_checked(tmp_path: Path, fits: list[str]) -> None:
    build_library(tmp_path / "units", replace(SETTINGS, residues=("GLY",)), Silent())
    side_chains = replace(SETTINGS, kind="side chain", residues=("VAL",))
    with pytest.raises(FileExistsError, match="kind: 'residue' there, 'side chain' now"):
        build_library(tmp_path / "units", side_chains, Silent())
    with pytest.raises(ValueError, match=r"has a model of PRO: .* turns to cis"):
        replace(SETTINGS, residues=("PRO",))
    with pytest.raises(ValueError, match="has a model of GLY: it has no side chain"):
        replace(side_chains, residues=("GLY",))
    with pytest.raises(ValueError, match="no library is of 'whole'; choose among side chain, res"):
        replace(SETTINGS, kind="whole")
    assert len(SETTINGS.chosen()) == 2
    assert len(replace(SETTINGS, residues=()).chosen()) == 25


def test_a_flow_that_is_no_residue_is_refused(tmp_path: Path) -> None:
    from timewarp_openmm.flows.residues.residue import read_residue_flow, write_residue_flow

    flow, config = chain_of("ALA")
    peptide = capped("ALA")
    molecule = molecule_from_topology(peptide.topology, peptide.system)
    path = tmp_path / "ALA.pt"
    weights = {name: value * float("nan") for name, value in flow.state_dict().items()}
    for broken, message in (
        (replace(molecule, residue_names=("ALA",) * 22), "does not make a residue with caps"),
        (molecule, "its weights are not finite"),
    ):
        fake = SimpleNamespace(state_dict=lambda: weights)
        write_residue_flow(path, fake, config, broken, peptide.positions)  # type: ignore[arg-type]
        with pytest.raises(DamagedFileError, match=message):
            read_residue_flow(path)
