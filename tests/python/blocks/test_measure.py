"""Exposure, and what blocks accept, in the structure that they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from block_systems import trimer_positions, trimer_topology
from libraries import write_library
from openmm import app, unit
from peptides import Structure

from timewarp_openmm import sidechain_blocks
from timewarp_openmm.blocks.exposure import exposed_shares, side_chain_parts
from timewarp_openmm.blocks.measure import _RotamerCounter, measure_blocks, relax
from timewarp_openmm.blocks.picture import by_residue, draw_blocks
from timewarp_openmm.blocks.sidechains import Block, Measured, block_torsions, residue_torsions
from timewarp_openmm.molecule.matching import PartFinder

FORCE_FIELD = app.ForceField("amber99sbildn.xml", "amber99_obc.xml")


def shares(structure: Structure, numbers: list[int]) -> list[float]:
    graph = PartFinder(structure.topology).graph
    parts = side_chain_parts([structure.residue(number) for number in numbers], graph)
    found = exposed_shares(structure.topology, structure.positions, parts)
    return [share for share in found if share is not None]


def test_exposure_is_what_others_leave() -> None:
    alone = shares(Structure(), [2, 3, 4, 5, 6])
    assert all(0.3 < share <= 1 for share in alone)
    far = shares(Structure().beside(Structure(), 5.0), [2, 3, 4, 5, 6])
    assert far == pytest.approx(alone, abs=1e-6)
    near = shares(Structure().beside(Structure(), 0.25), [2, 3, 4, 5, 6])
    assert sum(near) < 0.7 * sum(alone)


def test_exposure_of_whole_molecules_is_what_others_leave() -> None:
    """And nothing where there are no others."""
    structure = Structure()
    own = set(range(structure.topology.getNumAtoms()))
    alone = (structure.topology, structure.positions)
    assert exposed_shares(*alone, [(own, own)]) == [None]
    assert exposed_shares(*alone, []) == []
    far, near = structure.beside(Structure(), 5.0), structure.beside(Structure(), 0.25)
    assert exposed_shares(far.topology, far.positions, [(own, own)]) == [1.0]
    (share,) = exposed_shares(near.topology, near.positions, [(own, own)])
    assert share is not None
    assert 0.1 < share < 0.9
    ion = far.topology.addResidue("NA", far.topology.addChain("C"))
    far.topology.addAtom("NA", app.element.sodium, ion)
    positions, last = np.concatenate([far.positions, [[9.0, 0.0, 0.0]]]), {len(far.positions)}
    assert exposed_shares(far.topology, positions, [(last, last), (own, own)]) == [None, 1.0]


def test_water_does_not_cover_anything() -> None:
    structure = Structure()
    modeller = app.Modeller(structure.topology, structure.positions * unit.nanometer)
    modeller.addSolvent(app.ForceField("amber14-all.xml", "amber14/tip3p.xml"), padding=0.3)
    solvated = Structure._of(modeller)
    assert solvated.topology.getNumAtoms() > structure.topology.getNumAtoms()
    assert shares(solvated, [2, 4]) == pytest.approx(shares(structure, [2, 4]), abs=0.02)


def test_a_side_chain_inside_of_a_cage_is_buried() -> None:
    structure = Structure()
    beta = structure.positions[structure.atom(4, "CG1").index]
    cage = app.Topology()
    residue = cage.addResidue("CAG", cage.addChain("Z"))
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(300, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for i in range(len(directions)):
        cage.addAtom(f"C{i}", app.Element.getBySymbol("C"), residue)
    other = Structure()
    other.topology, other.positions = cage, beta + 0.45 * directions
    (share,) = shares(structure.beside(other, 0.0), [4])
    assert share < 0.02


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_library(tmp_path_factory.mktemp("library"))


def test_what_blocks_accept_is_counted_with_their_rotamers(library: Path) -> None:
    structure = Structure()
    graph = PartFinder(structure.topology).graph
    system = FORCE_FIELD.createSystem(structure.topology, constraints=app.HBonds)
    positions = relax(system, structure.positions, 300.0, 0.2, "Reference", 1)
    assert np.abs(positions - structure.positions).max() > 0.01
    blocks = sidechain_blocks(structure.topology, positions, library=library)
    given = (structure.topology, graph, system, positions, 300.0, 60, "Reference")
    done: list[int] = []
    found = measure_blocks(blocks, *given, seed=1, report=done.append)
    assert sum(entry.tried for entry in found) == 180 == done[-1]
    assert all(30 < entry.tried < 90 for entry in found)
    assert all(entry.rotamer_changes <= entry.accepted for entry in found)
    assert sum(entry.accepted for entry in found) > 10
    assert sum(entry.rotamer_changes for entry in found) > 0
    assert found == measure_blocks(blocks, *given, seed=1)
    assert found != measure_blocks(blocks, *given, seed=2)


def test_a_rotamer_is_counted_where_it_changed(library: Path) -> None:
    """Beside a proposal that changes it there are those that stay, and those of other blocks."""
    structure = Structure()
    graph = PartFinder(structure.topology).graph
    blocks = sidechain_blocks(structure.topology, structure.positions, library=library)
    torsions = block_torsions(blocks, structure.topology, graph)
    assert [len(entry) for entry in torsions] == [1, 1, 1]
    names = [atom.name for atom in structure.topology.atoms()]
    assert [names[i] for i in torsions[1][0]] == ["N", "CA", "CB", "CG1"]
    counter = _RotamerCounter(torsions, structure.positions)
    alpha, beta = (structure.positions[structure.atom(4, name).index] for name in ("CA", "CB"))
    axis = (beta - alpha) / np.linalg.norm(beta - alpha)
    beyond = [a.index for a in structure.residue(4).atoms() if a.name[:2] in ("CG", "HG", "HB")]
    for degrees in (2.0, 118.0, 0.0, 120.0):
        angle = np.radians(degrees)
        arms = structure.positions[beyond] - beta
        along = np.outer(arms @ axis, axis)
        structure.positions[beyond] = (
            beta + along + np.cos(angle) * (arms - along) + np.sin(angle) * np.cross(axis, arms)
        )
        counter.count(structure.positions, {0, 1})
    assert counter.changes == [0, 2, 0]


def test_of_blocks_with_a_torsion_in_common_the_one_that_moved_counts() -> None:
    """As a peptide and the side chain of one of its residues have."""
    structure = Structure()
    graph = PartFinder(structure.topology).graph
    chi1 = residue_torsions(structure.residue(4), graph)
    counter = _RotamerCounter([chi1, chi1, []], structure.positions)
    for moved in ({0}, {0, 1}, {2}):
        structure.positions[:, 0] *= -1  # the mirror image of any other rotamer than trans
        counter.count(structure.positions, moved)
    assert counter.changes == [2, 1, 0]
    nothing = _RotamerCounter([[], []], structure.positions)
    nothing.count(structure.positions, {0, 1})
    assert nothing.changes == [0, 0]


def test_what_cannot_be_relaxed_is_named() -> None:
    structure = Structure()
    system = FORCE_FIELD.createSystem(structure.topology, constraints=app.HBonds)
    structure.positions[3] = structure.positions[60]
    with pytest.raises(ValueError, match=r"cannot be relaxed \(its energy is (nan|inf)\)"):
        relax(system, structure.positions, 300.0, 0.01, "Reference", 1)


def test_the_picture_marks_what_never_moved() -> None:
    structure = Structure().beside(Structure(), 2.0)
    graph = PartFinder(structure.topology).graph
    index = [structure.residue(n, copy).index for n, copy in ((2, 0), (4, 0), (6, 0), (2, 1))]
    entries = [Measured(10, 5, 1), Measured(10, 0, 0), None, Measured(10, 1, 0)]
    measured = dict(zip(index, entries, strict=True))
    figure = draw_blocks(structure.topology, structure.positions, graph, measured, "peptide")
    axis = figure.axes[0]
    assert axis.get_legend_handles_labels()[1] == ["never moved", "not measured"]
    texts = {text.get_text(): text.get_color() for text in axis.texts}
    assert set(texts) == {"VAL2", "VAL4", "VAL6"}
    assert texts["VAL4"] != texts["VAL2"] == texts["VAL6"]
    scatter = axis.collections[0]
    assert scatter.get_array().tolist() == [0.5, 0.1]
    # Two chains, and the points of all residues.
    assert len(axis.lines) == 3
    # Distances along the chain are those of the plane, never longer than in space.
    steps = np.linalg.norm(np.diff(axis.lines[0].get_xydata(), axis=0), axis=1)
    assert ((steps > 0) & (steps < 0.45)).all()


def block(moved: range) -> Block:
    return Block("", 0, "a.pt", tuple(moved), tuple(moved), "molecule")


def test_the_picture_shows_every_residue_that_a_block_moves() -> None:
    """Ligands have no alpha carbon; of several blocks the one that accepts most has the say."""
    ligands = Structure()
    ligands.topology, ligands.positions = trimer_topology("SCC", 2), trimer_positions(2)
    both = Structure().beside(ligands, 1.0)
    first = Structure().topology.getNumAtoms()
    residues = list(both.topology.residues())
    blocks = [block(range(first)), block(range(16, 20)), block(range(first, first + 3))]
    entries = [Measured(10, 0, 0), Measured(10, 4, 0), Measured(10, 2, 0)]
    found = by_residue(both.topology, blocks, entries)
    assert {residues[i].id: m.acceptance for i, m in found.items() if m and i < 7} == {
        "1": 0, "2": 0.4, "3": 0, "4": 0, "5": 0, "6": 0, "7": 0
    }  # fmt: skip
    assert found[7] == Measured(10, 2, 0)
    assert 8 not in found
    unmeasured = by_residue(both.topology, blocks, [None] * 3)
    assert unmeasured == dict.fromkeys(found)
    graph = PartFinder(both.topology).graph
    axis = draw_blocks(both.topology, both.positions, graph, found, "a").axes[0]
    assert {"ACE1", "VAL2", "MOL1"} <= {text.get_text() for text in axis.texts}
    # No residue of these has an alpha carbon, and one molecule has no plane.
    for copies in (1, 2):
        topology, positions = trimer_topology("SCC", copies), trimer_positions(copies)
        measured = dict.fromkeys(range(copies), Measured(10, 1, 0))
        graph = PartFinder(topology).graph
        axis = draw_blocks(topology, positions, graph, measured, "a").axes[0]
        assert len(axis.collections[0].get_array()) == copies
    draw_blocks(topology, positions, graph, {}, "nothing has a block")
