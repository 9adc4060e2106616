"""Amino acids by their bonds, in all protonation states that force fields have."""

from __future__ import annotations

import pytest
from openmm import app

from timewarp_openmm.molecule.amino_acids import find_backbone, identify, missing_heavy_atoms
from timewarp_openmm.molecule.matching import PartFinder

FORCE_FIELD = app.ForceField("amber14/protein.ff14SB.xml")
STATES = (
    "ALA", "ARG", "ASH", "ASN", "ASP", "CYM", "CYS", "GLH", "GLN", "GLU", "GLY", "HID", "HIE",
    "HIP", "ILE", "LEU", "LYN", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL",
)  # fmt: skip


def residue_of(template: str, name: str, numbered: bool = False) -> app.Topology:
    """Return a topology with the atoms and bonds of a force field's residue, under another name."""
    topology = app.Topology()
    residue = topology.addResidue(name, topology.addChain("A"))
    found = FORCE_FIELD._templates[template]
    atoms = [
        topology.addAtom(f"X{i}" if numbered else atom.name, atom.element, residue)
        for i, atom in enumerate(found.atoms)
    ]
    for a, b in found.bonds:
        topology.addBond(atoms[a], atoms[b])
    return topology


@pytest.mark.parametrize("numbered", [False, True], ids=["names", "no names"])
@pytest.mark.parametrize("state", STATES)
def test_bonds_say_which_one_it_is(state: str, numbered: bool) -> None:
    topology = residue_of(state, "XYZ", numbered)
    (residue,) = topology.residues()
    graph = PartFinder(topology).graph
    backbone = find_backbone(residue, graph)
    assert backbone is not None
    found = identify(residue, graph, backbone)
    assert found is not None
    assert (found.name, found.missing, found.links) == (state, (), ())
    if not numbered:
        named = {name: list(residue.atoms())[atom].name for name, atom in found.atoms.items()}
        assert sorted(named) == sorted(named.values())


@pytest.mark.parametrize("state", ["NVAL", "CVAL", "NPRO", "CSER", "NTHR", "CASP"])
def test_ends_of_chains_are_the_same_amino_acids(state: str) -> None:
    topology = residue_of(state, state[1:])
    (residue,) = topology.residues()
    graph = PartFinder(topology).graph
    backbone = find_backbone(residue, graph)
    assert backbone is not None
    found = identify(residue, graph, backbone)
    assert found is not None
    assert (found.name, found.missing) == (state[1:], ())


@pytest.mark.parametrize("state", ["ACE", "NME", "NHE"])
def test_caps_are_none(state: str) -> None:
    topology = residue_of(state, "XYZ")
    (residue,) = topology.residues()
    assert find_backbone(residue, PartFinder(topology).graph) is None


def test_atoms_that_a_name_promises() -> None:
    (residue,) = residue_of("HIE", "HID").residues()
    assert missing_heavy_atoms(residue) == []
    (residue,) = residue_of("ALA", "LEU").residues()
    assert missing_heavy_atoms(residue) == ["CG", "CD1", "CD2"]
    (residue,) = residue_of("VAL", "LEU").residues()
    assert missing_heavy_atoms(residue) == [], "it is no leucine"
    (residue,) = residue_of("ALA", "LIG").residues()
    assert missing_heavy_atoms(residue) == []
