"""Which side chains of a structure a library serves, and why it does not serve the others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from libraries import PEPTIDE, write_library
from make_peptides import write_pdb
from model_archives import with_metadata
from openmm import app, unit
from peptides import Structure

from timewarp_openmm import (
    TimewarpMCMCIntegrator,
    read_metadata,
    sidechain_blocks,
    unserved_residues,
)
from timewarp_openmm.files import sha256_of
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.molecule.selection import residue_label
from timewarp_openmm.molecule.structure_files import alternate_locations

VALINES = ["A:VAL2", "A:VAL4", "A:VAL6"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_library(tmp_path_factory.mktemp("library"))


def served(structure: Structure, library: Path) -> list[str]:
    blocks = sidechain_blocks(structure.topology, structure.positions, library=library)
    return [block.residue for block in blocks]


def reasons(structure: Structure, library: Path) -> dict[str, str]:
    found = unserved_residues(structure.topology, structure.positions, library=library)
    return {entry.residue: entry.reason for entry in found}


def test_every_side_chain_of_the_library_is_a_block(library: Path) -> None:
    structure = Structure()
    blocks = sidechain_blocks(structure.topology, structure.positions, library=library)
    assert [block.residue for block in blocks] == VALINES
    atoms = list(structure.topology.atoms())
    for block in blocks:
        assert (block.kind, block.entry, block.acceptance) == ("side chain", "VAL", 0.4)
        moved = [atoms[i] for i in block.particles if atoms[i].name.startswith(("CG", "HG"))]
        assert len(moved) == 8
        assert {residue_label(atom.residue) for atom in moved} == {block.residue}
    assert reasons(structure, library) == {
        label: f"the library small has no model of {label[2:5]}; fit a model of it in place (fit "
        "--particles), or of a capped residue of this kind (fit --moved sidechain)"
        for label in ("A:SER3", "A:CYS5")
    }


def test_the_blocks_are_those_that_the_integrator_moves(library: Path) -> None:
    structure = Structure()
    force_field = app.ForceField("amber99sbildn.xml", "amber99_obc.xml")
    system = force_field.createSystem(structure.topology, constraints=app.HBonds)
    integrator = TimewarpMCMCIntegrator(temperature=300)
    blocks = sidechain_blocks(structure.topology, structure.positions, library=library)
    for block in blocks:
        integrator.addBlock(block.model, block.particles)
    integrator.setFrozenOthers(True)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, integrator, platform)
    context.setPositions(structure.positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    before = context.getState(positions=True).getPositions(asNumpy=True)._value
    integrator.step(200)
    after = context.getState(positions=True).getPositions(asNumpy=True)._value
    # CB stays, and what is beyond it has moved.
    gone = {
        a.index for a in structure.topology.atoms() if (before[a.index] != after[a.index]).any()
    }
    assert gone
    atoms = list(structure.topology.atoms())
    assert {residue_label(atoms[i].residue) for i in gone} <= set(VALINES)
    assert {atoms[i].name[:2] for i in gone} <= {"HB", "CG", "HG"}


def test_some_residues_are_asked_for(library: Path) -> None:
    structure = Structure()
    asked = ["A:SER3", structure.residue(6)]
    given = (structure.topology, structure.positions, asked, library)
    assert [block.residue for block in sidechain_blocks(*given)] == ["A:VAL6"]
    assert [entry.residue for entry in unserved_residues(*given)] == ["A:SER3"]
    with pytest.raises(ValueError, match="no residue 'A:VAL9'; it has A:VAL"):
        sidechain_blocks(structure.topology, structure.positions, ["A:VAL9"], library)
    capped = unserved_residues(structure.topology, structure.positions, ["A:ACE1"], library)
    assert capped[0].reason == "it has no side chain"


def test_positions_are_needed(library: Path) -> None:
    with pytest.raises(ValueError, match="positions= of all atoms"):
        sidechain_blocks(Structure().topology, None, library=library)  # type: ignore[arg-type]


def test_insertion_codes_and_chains_are_kept_apart(library: Path) -> None:
    text = PEPTIDE.read_text()
    for number, other in ((4, "  52 "), (5, "  52A"), (6, "  52B")):
        text = text.replace(f" A{number:4d} ", f" A{other}")
    structure = Structure(text).beside(Structure(text.replace(" A  ", " B  ")))
    expected = ["VAL2", "VAL52", "VAL52B"]
    assert served(structure, library) == [f"{c}:{label}" for c in "AB" for label in expected]
    assert set(reasons(structure, library)) == {
        f"{c}:{r}" for c in "AB" for r in ("SER3", "CYS52A")
    }


def test_residues_of_one_label_are_told_apart_by_themselves(library: Path) -> None:
    both = Structure().beside(Structure())
    assert served(both, library) == 2 * VALINES
    with pytest.raises(ValueError, match="2 residues of the structure are called A:VAL2"):
        sidechain_blocks(both.topology, both.positions, ["A:VAL2"], library)
    second = [both.residue(2, copy=1)]
    (block,) = sidechain_blocks(both.topology, both.positions, second, library)
    assert min(block.particles) >= Structure().topology.getNumAtoms()


def test_of_alternate_locations_the_first_is_read(library: Path, tmp_path: Path) -> None:
    lines = []
    for line in PEPTIDE.read_text().splitlines():
        if line[17:26] == "VAL A   4" and line[12:16].strip().startswith(("CG", "HG")):
            lines += [f"{line[:16]}{location}{line[17:]}" for location in "AB"]
        else:
            lines.append(line)
    path = tmp_path / "alternate.pdb"
    path.write_text("\n".join(lines))
    assert alternate_locations(path) == ["A:VAL4"]
    assert alternate_locations(PEPTIDE) == []
    assert served(Structure(path.read_text()), library) == VALINES


def test_names_of_residues_that_lie_do_not_matter(library: Path) -> None:
    structure = Structure()
    structure.residue(2).name, structure.residue(3).name = "LEU", "VAL"
    structure.residue(4).name = "XYZ"
    assert served(structure, library) == ["A:LEU2", "A:XYZ4", "A:VAL6"]
    assert "no model of SER" in reasons(structure, library)["A:VAL3"]


def test_names_of_atoms_that_differ_do_not_matter(library: Path) -> None:
    structure = Structure()
    for atom in structure.topology.atoms():
        atom.name = f"X{atom.index}"
    assert served(structure, library) == VALINES
    assert "no model of SER" in reasons(structure, library)["A:SER3"]


def mirrored() -> Structure:
    structure = Structure()
    structure.positions[:, 0] *= -1
    return structure


def without_hydrogens() -> Structure:
    structure = Structure()
    hydrogens = [a for a in structure.topology.atoms() if a.element.symbol == "H"]
    return structure.without(*hydrogens)


def without_a_methyl_group() -> Structure:
    structure = Structure()
    return structure.without(*(structure.atom(4, n) for n in ("CG1", "HG11", "HG12", "HG13")))


def without_a_sulfur() -> Structure:
    """What is left has the heavy atoms of alanine."""
    structure = Structure()
    return structure.without(structure.atom(5, "SG"), structure.atom(5, "HG"))


def without_some_hydrogens() -> Structure:
    structure = Structure()
    return structure.without(structure.atom(4, "HG11"), structure.atom(4, "HA"))


def without_an_end() -> Structure:
    structure = Structure()
    return structure.without(structure.residue(1))


def without_a_serine() -> Structure:
    """Its neighbours have no bond to anything there."""
    structure = Structure()
    return structure.without(structure.residue(3))


def with_a_gap() -> Structure:
    """OpenMM bonds residues that follow each other in a chain, however far they are apart."""
    structure = Structure()
    structure.positions[structure.after(4)] += 1.0
    return structure


def with_a_cis_peptide() -> Structure:
    structure = Structure()
    start, end = (structure.positions[structure.atom(*a).index] for a in ((4, "C"), (5, "N")))
    axis = (end - start) / np.linalg.norm(end - start)
    later = [i for i in structure.after(5) if i != structure.atom(5, "N").index]
    arms = structure.positions[later] - start
    # Half a turn about the peptide bond.
    structure.positions[later] = start + 2 * np.outer(arms @ axis, axis) - arms
    return structure


def with_unknown_bonds() -> Structure:
    return Structure(PEPTIDE.read_text().replace("VAL A   4", "XYZ A   4"))


def with_selenium() -> Structure:
    structure = Structure()
    structure.atom(5, "SG").element = app.Element.getBySymbol("Se")
    return structure


def with_a_disulfide() -> Structure:
    two = Structure().beside(Structure(PEPTIDE.read_text().replace(" A  ", " B  ")))
    two = two.without(*(two.atom(5, "HG", copy) for copy in (0, 1)))
    two.topology.addBond(two.atom(5, "SG", 0), two.atom(5, "SG", 1))
    return two


def with_a_ligand() -> Structure:
    """Bonded to a methyl group of a valine, in the place of a hydrogen; and one that is not."""
    ligands = app.Topology()
    chain = ligands.addChain("L")
    for name in ("LIG", "FRE"):
        residue = ligands.addResidue(name, chain)
        atoms = [ligands.addAtom(n, app.Element.getBySymbol("C"), residue) for n in ("C1", "C2")]
        ligands.addBond(*atoms)
    other = Structure()
    other.topology, other.positions = ligands, np.arange(12.0).reshape(4, 3)
    structure = Structure().beside(other)
    structure = structure.without(structure.atom(4, "HG11"))
    structure.topology.addBond(structure.atom(4, "CG1"), structure.atom(1, "C1", copy=1))
    return structure


@pytest.mark.parametrize(
    ("make", "blocks", "label", "reason"),
    [
        (mirrored, [], "A:VAL4", "it is a D residue"),
        (without_hydrogens, [], "A:VAL4", "it lacks the hydrogens HA, HB, HG11.*PDBFixer"),
        (without_a_methyl_group, [0, 2], "A:VAL4", "it lacks the atoms CG1; .*PDBFixer"),
        (without_a_sulfur, [0, 1, 2], "A:CYS5", "it lacks the atoms SG; .*PDBFixer"),
        (without_some_hydrogens, [0, 2], "A:VAL4", "it lacks the hydrogens HA, HG11; .*PDBFixer"),
        (without_an_end, [1, 2], "A:VAL2", "no residue is bonded before it.*caps"),
        (without_a_serine, [2], "A:VAL2", "no residue is bonded after it.*PDBFixer"),
        (without_a_serine, [2], "A:VAL4", "no residue is bonded before it.*PDBFixer"),
        (with_a_gap, [0, 2], "A:VAL4", r"bond to A:SER3 is 1\.\d\d nm long: the chain is broken"),
        (with_a_cis_peptide, [0, 2], "A:VAL4", "its peptide bond with A:CYS5 is cis"),
        (with_unknown_bonds, [0, 2], "A:XYZ4", "its bonds are not known: XYZ is no standard"),
        (with_selenium, [0, 1, 2], "A:CYS5", "none of the 20 amino acids'; fit a model"),
        (with_a_disulfide, None, "B:CYS5", "does not move CYX: its disulfide holds it"),
        (with_a_ligand, [0, 2], "A:VAL4", "its CG1 is bonded to L:LIG1:C1"),
        (with_a_ligand, [0, 2], "L:FRE2", "it is no amino acid"),
    ],
)
def test_what_cannot_be_served_is_named_and_the_rest_is_served(
    make: Callable[[], Structure],
    blocks: list[int] | None,
    label: str,
    reason: str,
    library: Path,
) -> None:
    structure = make()
    if blocks is not None:
        assert served(structure, library) == [VALINES[i] for i in blocks]
    found = reasons(structure, library)
    assert set(served(structure, library)).isdisjoint(found)
    assert label in found
    assert re.search(reason, found[label]), found[label]


def test_another_stereoisomer_of_a_side_chain_is_named(tmp_path: Path) -> None:
    """Allo-isoleucine, which differs at CB alone, beside a model of isoleucine."""
    pieces = {"ILE": "[C@@H](C)CC", "allo": "[C@H](C)CC"}
    structures = {}
    for name, side_chain in pieces.items():
        path = tmp_path / f"{name}.pdb"
        smiles = f"CC(=O)N[C@@H]({side_chain})C(=O)NC"
        write_pdb(path, smiles, ("ACE", "ILE", "NME"))
        structures[name] = Structure(path.read_text())
    folder = write_library(tmp_path / "library")
    like = structures["ILE"]
    molecule = molecule_from_topology(like.topology)
    beyond = ("CG", "HG", "CD", "HD", "HB")
    moved = [atom.index for atom in like.residue(2).atoms() if atom.name[:2] in beyond]
    content = (folder / "VAL.pt").read_bytes()
    entries = {"moved": moved, "stretches": None, "reference_positions": like.positions.tolist()}
    metadata = replace(read_metadata(folder / "VAL.pt"), molecule=molecule, **entries)
    shown = json.loads(metadata.to_json())["molecule"]
    changed = with_metadata(content, molecule=shown, **entries)
    (folder / "ILE.pt").write_bytes(changed)
    (entry,) = json.loads((folder / "library.json").read_text())["entries"]
    entry |= {"residue": "ILE", "file": "ILE.pt", "sha256": sha256_of(folder / "ILE.pt")}
    write_library(folder, entries=[entry])
    assert served(structures["ILE"], folder) == ["A:ILE2"]
    assert reasons(structures["allo"], folder) == {
        "A:ILE2": "it is another stereoisomer than the library's model: the chirality of its side "
        "chain differs; fit a model of it in place (fit --particles)"
    }


def test_water_and_ions_are_no_residues_to_serve(library: Path) -> None:
    structure = Structure()
    modeller = app.Modeller(structure.topology, structure.positions * unit.nanometer)
    force_field = app.ForceField("amber14/protein.ff14SB.xml", "amber14/opc.xml")
    modeller.addExtraParticles(force_field)
    modeller.addSolvent(
        force_field, model="tip4pew", boxSize=(3, 3, 3), ionicStrength=0.1 * unit.molar
    )
    positions = modeller.positions
    blocks = sidechain_blocks(modeller.topology, positions, library=library)
    assert [block.residue for block in blocks] == VALINES
    found = unserved_residues(modeller.topology, positions, library=library)
    assert [entry.residue for entry in found] == ["A:SER3", "A:CYS5"]
