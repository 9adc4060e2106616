"""Exposure, and what blocks accept, in the structure that they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from libraries import write_library
from openmm import app, unit
from peptides import Structure

from timewarp_openmm import sidechain_blocks
from timewarp_openmm.blocks.exposure import exposed_shares
from timewarp_openmm.blocks.measure import _RotamerCounter, measure_blocks, relax
from timewarp_openmm.blocks.picture import draw_blocks
from timewarp_openmm.blocks.sidechains import Measured, block_torsions
from timewarp_openmm.molecule.matching import PartFinder

FORCE_FIELD = app.ForceField("amber99sbildn.xml", "amber99_obc.xml")


def shares(structure: Structure, numbers: list[int]) -> list[float]:
    graph = PartFinder(structure.topology).graph
    residues = [structure.residue(number) for number in numbers]
    return exposed_shares(structure.topology, structure.positions, residues, graph)


def test_exposure_is_what_others_leave() -> None:
    alone = shares(Structure(), [2, 3, 4, 5, 6])
    assert all(0.3 < share <= 1 for share in alone)
    far = shares(Structure().beside(Structure(), 5.0), [2, 3, 4, 5, 6])
    assert far == pytest.approx(alone, abs=1e-6)
    near = shares(Structure().beside(Structure(), 0.25), [2, 3, 4, 5, 6])
    assert sum(near) < 0.7 * sum(alone)


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
        counter.count(structure.positions)
    assert counter.changes == [0, 2, 0]


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
