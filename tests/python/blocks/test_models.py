"""Where model files fit in a structure: copies of a molecule, places of a part, and nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from block_systems import trimer_positions, trimer_topology, write_trimer
from libraries import write_library, write_valine
from openmm import app, unit
from peptides import Structure
from residue_flows import write_residue_library

from timewarp_openmm import pretrained, read_metadata
from timewarp_openmm.blocks.cutting import common_temperature, joined, open_sources
from timewarp_openmm.blocks.models import MOST_COPIES, find_given, open_model
from timewarp_openmm.blocks.planned import tell_apart
from timewarp_openmm.blocks.sidechains import Cut, block_torsions, find_sidechains
from timewarp_openmm.molecule.matching import PartFinder
from timewarp_openmm.simulation.systems import named_molecule

ALANINE = pretrained("alanine-dipeptide")


def two_of_alanine(*mirrored: int) -> tuple[app.Topology, np.ndarray]:
    """Return two molecules of alanine dipeptide, chains X and Y, some of them mirrored."""
    one = named_molecule("alanine-dipeptide")
    modeller = app.Modeller(app.Topology(), [] * unit.nanometer)
    for number in range(2):
        shape = one.positions * ([1, 1, -1] if number in mirrored else 1)
        modeller.add(one.topology, (shape + 2.0 * number) * unit.nanometer)
    for chain, name in zip(modeller.topology.chains(), "XY", strict=True):
        chain.id = name
    return modeller.topology, np.array([list(p) for p in modeller.positions._value])


def found(models: Sequence[str | Path], topology: app.Topology, positions: np.ndarray) -> Cut:
    return find_given([open_model(model) for model in models], topology, positions)


def test_each_copy_of_a_molecule_is_a_block() -> None:
    cut = found([ALANINE], *two_of_alanine())
    assert cut.unserved == ()
    assert [(b.residue, b.index, b.kind, b.model) for b in cut.blocks] == [
        ("X:ACE1 to X:NME3", 0, "molecule", ALANINE),
        ("Y:ACE1 to Y:NME3", 3, "molecule", ALANINE),
    ]
    assert [b.particles for b in cut.blocks] == [tuple(range(22)), tuple(range(22, 44))]
    assert all(b.moved == b.particles for b in cut.blocks)


def test_the_other_enantiomer_is_named_and_gets_none() -> None:
    cut = found([ALANINE], *two_of_alanine(1))
    assert [b.residue for b in cut.blocks] == ["X:ACE1 to X:NME3"]
    (unserved,) = cut.unserved
    assert unserved.residue == "Y:ACE1 to Y:NME3"
    assert "another stereoisomer" in unserved.reason
    assert ALANINE in unserved.reason
    with pytest.raises(
        ValueError, match=r"alanine-dipeptide\.pt: .*stereoisomer.*X:ACE1 to X:NME3"
    ):
        found([ALANINE], *two_of_alanine(0, 1))


def test_two_models_have_their_own_copies(tmp_path: Path) -> None:
    topology, positions = two_of_alanine()
    modeller = app.Modeller(topology, positions * unit.nanometer)
    modeller.add(trimer_topology("SCC", 2), (trimer_positions(2) + 8) * unit.nanometer)
    positions = np.array([list(p) for p in modeller.positions._value])
    trimer = write_trimer(tmp_path / "trimer.pt", "SCC")
    cut = found([trimer, ALANINE], modeller.topology, positions)
    assert [(b.residue, Path(b.model).stem) for b in cut.blocks] == [
        ("A:MOL1", "trimer"),
        ("A:MOL2", "trimer"),
        ("X:ACE1 to X:NME3", "alanine-dipeptide"),
        ("Y:ACE1 to Y:NME3", "alanine-dipeptide"),
    ]


def test_a_part_has_a_block_for_each_place(tmp_path: Path) -> None:
    write_valine(tmp_path / "valine.pt")
    structure = Structure()
    cut = found([tmp_path / "valine.pt"], structure.topology, structure.positions)
    assert [(b.residue, b.kind) for b in cut.blocks] == [
        (f"A:VAL{number}", "part") for number in (2, 4, 6)
    ]
    assert all(set(b.moved) < set(b.particles) for b in cut.blocks)
    graph = PartFinder(structure.topology).graph
    assert [len(t) for t in block_torsions(cut.blocks, structure.topology, graph)] == [1, 1, 1]
    only = [structure.residue(4)]
    models = [open_model(tmp_path / "valine.pt")]
    (block,) = find_given(models, structure.topology, structure.positions, only).blocks
    assert block.residue == "A:VAL4"
    with pytest.raises(ValueError, match=r"names; it fits at A:VAL2, A:VAL4, A:VAL6: name one of"):
        find_given(models, structure.topology, structure.positions, [structure.residue(3)])


def test_parts_of_another_stereoisomer_are_named_by_their_residue(tmp_path: Path) -> None:
    write_valine(tmp_path / "valine.pt")
    mirrored = Structure()
    mirrored.positions[:, 0] *= -1
    both = Structure().beside(mirrored)
    list(both.topology.chains())[1].id = "B"
    cut = found([tmp_path / "valine.pt"], both.topology, both.positions)
    assert [block.residue for block in cut.blocks] == ["A:VAL2", "A:VAL4", "A:VAL6"]
    assert [entry.residue for entry in cut.unserved] == ["B:VAL2", "B:VAL4", "B:VAL6"]
    assert all("valine.pt: the structure is another" in entry.reason for entry in cut.unserved)


def test_a_model_that_is_given_stands_in_for_the_librarys(tmp_path: Path) -> None:
    """For the same atoms; the library's other side chains stay."""
    library = write_library(tmp_path / "library")
    write_valine(tmp_path / "valine.pt")
    structure = Structure()
    topology, positions = structure.topology, structure.positions
    sides = find_sidechains(topology, positions, None, library)
    one = find_given(
        [open_model(tmp_path / "valine.pt")], topology, positions, [structure.residue(4)]
    )
    cut = joined(one, Cut((), ()), sides, topology)
    assert [(b.residue, b.kind) for b in cut.blocks] == [
        ("A:VAL4", "part"),
        ("A:VAL2", "side chain"),
        ("A:VAL6", "side chain"),
    ]
    assert [entry.residue for entry in cut.unserved] == ["A:SER3", "A:CYS5"]


def test_what_any_block_moves_is_served(tmp_path: Path) -> None:
    """A whole molecule has residues that the library of side chains does not know."""
    topology, positions = two_of_alanine(1)
    sides = find_sidechains(topology, positions, None, write_library(tmp_path / "library"))
    assert [entry.residue for entry in sides.unserved] == ["X:ALA2", "Y:ALA2"]
    cut = joined(found([ALANINE], topology, positions), Cut((), ()), sides, topology)
    assert [entry.residue for entry in cut.unserved] == ["Y:ACE1 to Y:NME3", "Y:ALA2"]


def test_a_liquid_is_no_hundred_blocks(tmp_path: Path) -> None:
    trimer = write_trimer(tmp_path / "trimer.pt", "SCC")
    most = (trimer_topology("SCC", MOST_COPIES), trimer_positions(MOST_COPIES))
    assert len(found([trimer], *most).blocks) == MOST_COPIES
    topology, positions = trimer_topology("SCC", 500), trimer_positions(500)
    with pytest.raises(
        ValueError, match=r"trimer\.pt: .* 500 copies .*A:MOL1, A:MOL2.* a liquid.*--residue"
    ):
        found([trimer], topology, positions)
    chosen = [r for r in topology.residues() if r.id in ("7", "300")]
    cut = find_given([open_model(trimer)], topology, positions, chosen)
    assert [block.residue for block in cut.blocks] == ["A:MOL7", "A:MOL300"]


def test_models_that_no_structure_can_place(tmp_path: Path) -> None:
    water = write_trimer(tmp_path / "water.pt", "OHH")
    with pytest.raises(ValueError, match=r"water\.pt is a model of water, which needs none: it is"):
        open_model(water)
    trimer = write_trimer(tmp_path / "trimer.pt", "SCC")
    with pytest.raises(ValueError, match=r"trimer\.pt: .*molecule \(C2S\): it holds 2 x C6H12N2O2"):
        found([trimer], *two_of_alanine())
    part = write_trimer(tmp_path / "part.pt", "SCC", context=True)
    with pytest.raises(ValueError, match=r"part\.pt: the topology has no place for the model"):
        found([part], *two_of_alanine())
    with pytest.raises(FileNotFoundError, match=r"no model file at .*none\.pt"):
        open_model(tmp_path / "none.pt")


def test_parts_within_one_residue_are_told_apart(tmp_path: Path) -> None:
    """By the name of an atom that the one moves and the other does not."""
    topology = trimer_topology("SCC", 2)
    both = list(topology.residues())
    for atom in both[1].atoms():
        atom.name = f"{atom.name}B"
        atom.residue = both[0]
    part = write_trimer(tmp_path / "part.pt", "SCC", context=True)
    blocks = found([part], topology, trimer_positions(2)).blocks
    assert [block.residue for block in blocks] == ["A:MOL1", "A:MOL1"]
    assert tell_apart(blocks, topology) == ["C1", "C1B"]
    assert tell_apart(blocks[:1], topology) == [None]
    for atom in topology.atoms():
        atom.name = atom.name.removesuffix("B")
    with pytest.raises(ValueError, match="several parts of the structure are called A:MOL1"):
        tell_apart(blocks, topology)


def test_one_model_twice_is_refused(tmp_path: Path) -> None:
    topology, _ = two_of_alanine()
    copy = tmp_path / "copy.pt"
    copy.write_bytes(Path(ALANINE).read_bytes())
    graph = PartFinder(topology).graph
    with pytest.raises(
        ValueError, match=r"alanine-dipeptide\.pt and .*copy\.pt are the same model"
    ):
        open_sources([ALANINE, copy], None, None, topology, graph)


def test_libraries_are_told_by_what_they_hold(tmp_path: Path) -> None:
    topology, _ = two_of_alanine()
    graph = PartFinder(topology).graph
    units = write_residue_library(tmp_path / "units", "ALA")
    with pytest.raises(ValueError, match=r"residues has no models of side chains; .*--peptides"):
        open_sources([], str(units), None, topology, graph)
    # Nothing there has a side chain, so that no library of them is needed.
    trimer = write_trimer(tmp_path / "trimer.pt", "SCC")
    plain = trimer_topology("SCC")
    assert open_sources([trimer], None, None, plain, PartFinder(plain).graph).library is None
    sources = open_sources([trimer], None, str(units), topology, graph)
    assert sources.library is not None
    assert sources.library.is_bundled


def test_models_of_several_temperatures_are_named(tmp_path: Path) -> None:
    topology, _ = two_of_alanine()
    graph = PartFinder(topology).graph
    trimer = write_trimer(tmp_path / "trimer.pt", "SCC")
    assert read_metadata(trimer).temperature == 300
    sources = open_sources([trimer, ALANINE], None, None, topology, graph)
    with pytest.raises(
        ValueError, match=r"trimer\.pt is of 300 K and .*tide\.pt of 310 K; .*--temp"
    ):
        common_temperature(sources, Cut((), ()))
    units = write_residue_library(tmp_path / "units", "ALA")
    both = open_sources([ALANINE], None, str(units), topology, graph)
    with pytest.raises(ValueError, match=r"tide\.pt is of 310 K and the library residues of 300 K"):
        common_temperature(both, Cut((), ()))
    # A library that no block is of has no say.
    alone = open_sources([ALANINE], None, None, topology, graph)
    assert common_temperature(alone, Cut((), ())) == 310
    structure = Structure()
    library = write_library(tmp_path / "library")
    sides = find_sidechains(structure.topology, structure.positions, None, library)
    used = open_sources([ALANINE], str(library), None, topology, graph)
    with pytest.raises(ValueError, match=r"tide\.pt is of 310 K and the library small of 300 K"):
        common_temperature(used, sides)
