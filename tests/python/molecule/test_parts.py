"""The Z-matrix of a part of a molecule, and how atoms are selected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from molecules import make

from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.molecule.selection import select_atoms
from timewarp_openmm.molecule.structure_files import load_structure
from timewarp_openmm.molecule.zmatrix import CoordinateKind, build_zmatrix
from timewarp_openmm.simulation.capped_peptides import capped_peptide

MOLECULES = Path(__file__).parents[3] / "examples" / "molecules"
TOPOLOGY = load_structure(MOLECULES / "valine-dipeptide.pdb")[0]
VALINE = molecule_from_topology(TOPOLOGY)
SIDE_CHAIN = ("HB", "CG1", "HG11", "HG12", "HG13", "CG2", "HG21", "HG22", "HG23")


def at(*names: str) -> list[int]:
    """Return atoms of the valine residue."""
    return [
        i
        for name in names
        for i, found in enumerate(VALINE.atom_names)
        if found == name and VALINE.residue_names[i] == "VAL"
    ]


def test_a_side_chain_is_placed_from_the_backbone() -> None:
    zmatrix = build_zmatrix(VALINE, at(*SIDE_CHAIN))
    assert sorted(p.atom for p in zmatrix.placed) == sorted(at(*SIDE_CHAIN))
    assert sorted((*zmatrix.context, *at(*SIDE_CHAIN))) == list(range(VALINE.num_atoms))
    first = zmatrix.placed[0]
    assert (first.atom, *first.references) == tuple(at("CG1", "CB", "CA", "N"))
    assert first.kind is CoordinateKind.ROTATABLE
    assert zmatrix.roots == first.references == zmatrix.context[:3]
    kinds = [p.kind for p in zmatrix.placed]
    assert kinds.count(CoordinateKind.ROTATABLE) == 3, "chi1 and two methyl groups"
    assert len(zmatrix.symmetric_torsions) == 2
    for placed in zmatrix.placed:
        levels = {p.atom: p.level for p in zmatrix.placed}
        assert all(levels.get(i, 0) < placed.level for i in placed.references)


def test_all_atoms_moved_are_the_whole_molecule() -> None:
    everything = range(VALINE.num_atoms)
    assert build_zmatrix(VALINE, everything) == build_zmatrix(VALINE)
    assert build_zmatrix(VALINE).context == ()


def test_beside_two_bonds_that_stay_an_atom_has_no_torsion_of_its_own() -> None:
    zmatrix = build_zmatrix(VALINE, at("HA", "CB", *SIDE_CHAIN))
    kinds = {p.atom: p.kind for p in zmatrix.placed}
    assert kinds[at("CB")[0]] is kinds[at("HA")[0]] is CoordinateKind.IMPROPER


def test_what_a_part_does_not_need_may_be_anything() -> None:
    """A straight angle, or a ring of 14, elsewhere in the molecule."""
    for smiles in ("CC#CCCCO", "OCC1CCCCCCCCCCCCC1"):
        molecule, _ = make(smiles)
        graph, oxygen = molecule.graph(), molecule.elements.index("O")
        hydroxyl = [oxygen, *(i for i in graph[oxygen] if molecule.elements[i] == "H")]
        assert len(build_zmatrix(molecule, hydroxyl).placed) == 2
        # The methyl group and its alkyne carbon, or all.
        end = [0, *(i for i in graph[0] if molecule.elements[i] == "H"), 1]
        with pytest.raises(ValueError, match=r"straight, and what is to be moved|ring"):
            build_zmatrix(molecule, end if "#" in smiles else None)


def test_what_is_made_later_may_lie_beyond_a_straight_line() -> None:
    molecule, _ = make("OCC#CCC")
    graph = molecule.graph()
    later = [4, 5, *(i for a in (4, 5) for i in graph[a] if molecule.elements[i] == "H")]
    placed = {p.atom for p in build_zmatrix(molecule, absent=later).placed}
    assert len(placed) == molecule.num_atoms - len(later) - 3
    assert not placed & set(later)


@pytest.mark.parametrize(
    ("moved", "message"),
    [
        ([], "moved must name atoms"),
        ([99], "moved must name atoms"),
        ([i for i in range(VALINE.num_atoms) if i != at("CB")[0]], r"nothing says in which"),
        (
            [i for i in range(VALINE.num_atoms) if i not in at("CB", "CG1")],
            r"VAL2:CB \(atom \d+\) need two more atoms that stay",
        ),
    ],
)
def test_parts_that_cannot_be_placed_are_named(moved: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_zmatrix(VALINE, moved)


def test_a_molecule_none_of_whose_atoms_stay_is_named() -> None:
    molecule, _ = make("CCCO.O")
    water = [i for i, e in enumerate(molecule.elements) if e == "O"][1]
    with pytest.raises(ValueError, match=rf"atom {water}\).*no bonds join them"):
        build_zmatrix(molecule, [water, *molecule.graph()[water]])


def test_selections() -> None:
    side_chain = tuple(sorted(at(*SIDE_CHAIN)))
    assert select_atoms(TOPOLOGY, "sidechain") == side_chain
    assert select_atoms(TOPOLOGY, "sidechain of resSeq 2") == side_chain
    assert select_atoms(TOPOLOGY, f"sidechain of {side_chain[0]}") == side_chain
    with pytest.raises(ValueError, match="'sidechain of resname NME' names no atom"):
        select_atoms(TOPOLOGY, "sidechain of resname NME")
    with pytest.raises(ValueError, match=r"cannot select 'resSeq \(': .*'sidechain of resSeq 45'"):
        select_atoms(TOPOLOGY, "sidechain of resSeq (")
    assert select_atoms(TOPOLOGY, "resname VAL and name CB HB") == tuple(sorted(at("CB", "HB")))
    assert select_atoms(TOPOLOGY, "4, 7-9") == (4, 7, 8, 9)
    assert select_atoms(TOPOLOGY, "4 7-9 8") == (4, 7, 8, 9)


def test_a_ring_over_the_backbone_is_no_side_chain() -> None:
    topology = load_structure(MOLECULES / "glycine-proline.pdb")[0]
    with pytest.raises(ValueError, match="names no atom"):
        select_atoms(topology, "sidechain")


@pytest.mark.parametrize("text", ["", "name XX", "4-", "7-4", "9999", "name CB and", "1,2,x"])
def test_selections_of_nothing_are_named(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text.split(",")[-1] or "''")):
        select_atoms(TOPOLOGY, text)


AMBER = ("amber14/protein.ff14SB.xml",)


def test_a_peptide_plane_takes_along_what_is_on_its_alpha_carbons() -> None:
    topology = capped_peptide(["ALA", "GLY"], AMBER).topology
    atoms = list(topology.atoms())
    moved = [(atoms[i].residue.name, atoms[i].name) for i in select_atoms(topology, "plane")]
    assert sorted(moved) == [
        *(("ALA", name) for name in ("C", "CB", "HA", "HB1", "HB2", "HB3", "O")),
        *(("GLY", name) for name in ("H", "HA2", "HA3", "N")),
    ]


@pytest.mark.parametrize(
    ("residues", "message"),
    [
        (["ALA"], "has 0 such planes; give a dipeptide"),
        (["GLY", "ALA", "GLY"], "has 2 such planes; give a dipeptide"),
        (["ALA", "PRO"], "PRO3 has a ring over its backbone"),
        (["PRO", "GLY"], "PRO2 has a ring over its backbone"),
    ],
)
def test_peptide_planes_that_are_not_one_that_turns_are_named(
    residues: list[str], message: str
) -> None:
    topology = capped_peptide(residues, AMBER).topology
    with pytest.raises(ValueError, match=message):
        select_atoms(topology, "plane")


def test_a_plane_beside_a_disulfide_is_named() -> None:
    """Two cysteines side by side: their ring is over the backbone. One, elsewhere: another
    residue would move."""
    topology = capped_peptide(["CYM", "CYM"], AMBER).topology
    sulfurs = [atom for atom in topology.atoms() if atom.name == "SG"]
    topology.addBond(*sulfurs)
    with pytest.raises(ValueError, match="CYM3 has a ring over its backbone"):
        select_atoms(topology, "plane")
    topology = capped_peptide(["CYM", "GLY"], AMBER).topology
    other = topology.addResidue("HEM", topology.addChain("B"), "7")
    (sulfur,) = (atom for atom in topology.atoms() if atom.name == "SG")
    topology.addBond(sulfur, topology.addAtom("FE", None, other))
    with pytest.raises(ValueError, match="because B:HEM7 would move with it"):
        select_atoms(topology, "plane")
