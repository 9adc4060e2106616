"""Which peptides and ends of chains a library of residues makes, and why not others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from libraries import write_library
from openmm import app
from peptides import Structure
from residue_flows import capped, write_residue_library
from test_sidechains import (
    mirrored,
    with_a_cis_peptide,
    with_a_disulfide,
    with_a_gap,
    without_a_methyl_group,
    without_an_end,
    without_some_hydrogens,
)

from timewarp_openmm import unserved_chains
from timewarp_openmm.blocks.peptides import NotServedError, PeptideFinder

FIVE = ("VAL", "SER", "VAL", "CYS", "VAL")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_residue_library(tmp_path_factory.mktemp("residues"), *sorted(set(FIVE)))


def test_a_peptide_is_made_whole(library: Path) -> None:
    structure = Structure()
    finder = PeptideFinder(structure.topology, structure.positions, library)
    (chain,) = finder.chains
    made = finder.make(chain)
    assert made.entries == FIVE
    assert made.residues == ("A:VAL2", "A:SER3", "A:VAL4", "A:CYS5", "A:VAL6")
    assert made.particles == tuple(range(structure.topology.getNumAtoms()))
    assert made.moved == made.particles
    # Each atom is made once.
    places = [int(i) for place in made.flow.places for i in place.made]
    assert sorted(places) == list(range(len(made.particles)))
    assert made.flow.noise_size == 6 * len(made.particles) - 6


@pytest.mark.parametrize("count", [1, 3])
def test_of_an_end_the_atoms_before_it_stay(library: Path, count: int) -> None:
    """What moves hangs on the nitrogen of its first residue, which stays with the carbonyl."""
    structure = Structure()
    finder = PeptideFinder(structure.topology, structure.positions, library)
    made = finder.make(finder.chains[0].end(count))
    assert made.entries == FIVE[-count:]
    names = made.molecule.atom_names
    context = [i for i in range(len(names)) if i not in made.moved]
    assert sorted(names[i] for i in context) == ["C", "CA", "N", "O"]
    first = 7 - count
    atoms = list(structure.topology.atoms())
    moved = {atoms[made.particles[i]] for i in made.moved}
    nitrogen = structure.atom(first, "N")
    assert moved == {a for a in atoms if int(a.residue.id) >= first and a != nitrogen}


def test_names_and_order_do_not_matter(library: Path) -> None:
    structure = Structure()
    for atom in structure.topology.atoms():
        atom.name = f"X{atom.index}"
    for residue in structure.topology.residues():
        residue.name = "ALA"
    finder = PeptideFinder(structure.topology, structure.positions, library)
    assert finder.make(finder.chains[0]).entries == FIVE


def test_several_chains_are_told_apart(library: Path) -> None:
    both = Structure().beside(Structure())
    finder = PeptideFinder(both.topology, both.positions, library)
    assert len(finder.chains) == 2
    second = finder.make(finder.chains[1])
    assert min(second.particles) == Structure().topology.getNumAtoms()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (mirrored, "A:VAL2 is not served: it is a D residue"),
        (with_a_cis_peptide, "A:VAL4 is not served: its peptide bond with A:CYS5 is cis"),
        (with_a_gap, r"A:SER3 is not served: its peptide bond to A:VAL4 is 1\.\d\d nm long"),
        (
            without_some_hydrogens,
            "A:VAL4 is not served: it lacks the hydrogens HA, HG11; .*Fixer",
        ),
        (without_a_methyl_group, "A:VAL4 is not served: it lacks the atoms CG1; .*PDBFixer"),
        (with_a_disulfide, "A:CYS5 is not served: the library does not move CYX"),
        (without_an_end, "A:VAL2 is not served: no residue is bonded before it.*caps"),
    ],
)
def test_what_is_not_served_is_named(
    make: Callable[[], Structure], reason: str, library: Path
) -> None:
    structure = make()
    finder = PeptideFinder(structure.topology, structure.positions, library)
    reasons = []
    for chain in finder.chains:
        try:
            finder.make(chain)
        except NotServedError as error:
            reasons.append(str(error))
    assert re.match(reason, reasons[0]), reasons


def test_the_end_of_a_chain_is_served_whatever_comes_before(library: Path) -> None:
    """A cis peptide further up, and an end without a cap, are no obstacles."""
    for structure in (with_a_cis_peptide(), without_an_end()):
        given = (structure.topology, structure.positions, library)
        assert unserved_chains(*given, longest=4, end=1) == []
        (unserved,) = unserved_chains(*given, longest=4, end=5)
        assert unserved.residue == "A:VAL6"


def test_proline_and_a_free_end_are_named(library: Path) -> None:
    proline = capped("ALA", "PRO")
    (unserved,) = unserved_chains(proline.topology, proline.positions, library)
    assert re.search(
        "ALA2 is not served: the library residues has no model of ALA", unserved.reason
    )
    (unserved,) = unserved_chains(proline.topology, proline.positions, library, longest=1)
    assert re.search("PRO3 is not served: the library does not move PRO", unserved.reason)
    structure = Structure()
    structure = structure.without(structure.residue(7))
    given = (structure.topology, structure.positions, library)
    (unserved,) = unserved_chains(*given)
    assert re.search("A:VAL6 is not served: no residue is bonded after it", unserved.reason)


def ring() -> Structure:
    structure = Structure()
    structure = structure.without(structure.residue(1), structure.residue(7))
    structure.topology.addBond(structure.atom(6, "C"), structure.atom(2, "N"))
    # Near enough for a bond; nothing else of its shape is looked at.
    shift = structure.positions[structure.atom(2, "N").index] + [0.0, 0.0, 0.13]
    structure.positions[structure.atom(6, "C").index] = shift
    return structure


def test_a_ring_of_residues_is_named(library: Path) -> None:
    structure = ring()
    finder = PeptideFinder(structure.topology, structure.positions, library)
    (chain,) = finder.chains
    assert chain.is_ring
    assert len(chain.residues) == 5
    given = (structure.topology, structure.positions, library)
    (unserved,) = unserved_chains(*given, end=5)
    assert re.search("A:VAL[26] is", unserved.reason)


def test_what_is_bonded_to_something_else_is_not_moved_from_it(library: Path) -> None:
    structure = Structure().beside(Structure())
    oxygen, other = (structure.atom(6, "O", copy) for copy in (0, 1))
    structure.topology.addBond(oxygen, other)
    finder = PeptideFinder(structure.topology, structure.positions, library)
    with pytest.raises(NotServedError, match="A:VAL6 is not served: its O is bonded to A:VAL6:O"):
        finder.make(finder.chains[0].end(1))
    unserved = unserved_chains(structure.topology, structure.positions, library)
    assert [entry.residue for entry in unserved] == ["A:VAL6", "A:VAL6"]


@pytest.fixture(scope="module")
def charged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of alanine, also at both charged ends of chains."""
    return write_residue_library(tmp_path_factory.mktemp("charged"), "ALA", "NALA", "CALA")


def of_alanine(*residues: str) -> Structure:
    peptide = capped(*residues)
    return Structure.of(peptide.topology, peptide.positions)


@pytest.mark.parametrize(
    "entries", [("NALA", "CALA"), ("NALA", "ALA"), ("ALA", "CALA"), ("NALA",), ("CALA",)]
)
def test_peptides_with_charged_ends_are_made_whole(entries: tuple[str, ...], charged: Path) -> None:
    structure = of_alanine(*entries)
    finder = PeptideFinder(structure.topology, structure.positions, charged)
    (chain,) = finder.chains
    found = finder.make(chain)
    assert found.entries == entries
    assert found.moved == tuple(range(structure.topology.getNumAtoms()))
    places = [int(i) for place in found.flow.places for i in place.made]
    assert sorted(places) == list(found.moved)
    assert unserved_chains(structure.topology, structure.positions, charged) == []


def test_of_charged_ends_what_they_hang_on_stays(charged: Path) -> None:
    """Of the beginning, the alpha carbon and the carbonyl; of the end, a nitrogen."""
    structure = of_alanine("NALA", "ALA", "ALA", "CALA")
    finder = PeptideFinder(structure.topology, structure.positions, charged)
    (chain,) = finder.chains
    atoms = list(structure.topology.atoms())
    first, _, third, last = ({(a.residue.index, a.name) for a in r.atoms()} for r in chain.residues)
    for part, entries, expected in (
        (chain.beginning(), ("NALA",), first - {(0, "CA"), (0, "C"), (0, "O")}),
        (chain.end(2), ("ALA", "CALA"), (third | last) - {(2, "N")}),
    ):
        found = finder.make(part)
        moved = {atoms[found.particles[i]] for i in found.moved}
        assert found.entries == entries
        assert {(a.residue.index, a.name) for a in moved} == expected


def test_both_ends_of_a_chain_are_told_apart(charged: Path) -> None:
    """As chains of most proteins are where a library has but some residues at ends."""
    structure = of_alanine("NVAL", "VAL", "CALA")
    given = (structure.topology, structure.positions, charged)
    (unserved,) = unserved_chains(*given, longest=2)
    assert unserved.residue == "1:VAL1"
    assert re.search(r"no model of NVAL; build one.* --residue NVAL\)", unserved.reason)
    # The whole chain, of which nothing but its end would be served.
    (unserved,) = unserved_chains(*given, longest=3)
    assert unserved.residue == "1:ALA3"


def test_the_end_of_a_chain_has_something_before_it(charged: Path) -> None:
    structure = of_alanine("NALA", "ALA", "CALA")
    given = (structure.topology, structure.positions, charged)
    assert unserved_chains(*given, longest=2, end=9) == []


def without_atom(structure: Structure, number: int, name: str) -> Structure:
    return structure.without(structure.atom(number, name))


def with_atom(structure: Structure, name: str, beside: app.topology.Atom) -> Structure:
    """Return a structure with one more atom in its last residue, 0.1 nm from what it is bonded to;
    its name begins with its element."""
    topology = app.Topology()
    chain, atoms = topology.addChain(), {}
    for residue in structure.topology.residues():
        copy = topology.addResidue(residue.name, chain, residue.id)
        for atom in residue.atoms():
            atoms[atom] = topology.addAtom(atom.name, atom.element, copy)
    for a, b in structure.topology.bonds():
        topology.addBond(atoms[a], atoms[b])
    added = topology.addAtom(name, app.Element.getBySymbol(name[0]), copy)
    topology.addBond(atoms[beside], added)
    place = structure.positions[beside.index] + [0.0, 0.0, 0.1]
    return Structure.of(topology, np.vstack([structure.positions, place]))


def with_an_acid() -> Structure:
    structure = of_alanine("NALA", "CALA")
    return with_atom(structure, "HXT", structure.atom(2, "OXT"))


def an_amino_acid_by_itself() -> Structure:
    structure = of_alanine("NALA", "CALA")
    structure = structure.without(structure.residue(2))
    return with_atom(structure, "OXT", structure.atom(1, "C"))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: of_alanine("NALA", "CVAL"),
            r"VAL2 is not served: .* no model of CVAL; build one.* --residue CVAL\)",
        ),
        (
            lambda: without_atom(of_alanine("NALA", "CALA"), 1, "H3"),
            "ALA1 is not served: its chain ends with NH2 there, .* NH3.* caps",
        ),
        (with_an_acid, "ALA2 is not served: its chain ends with COOH there, .* COO- only"),
        (
            lambda: without_atom(of_alanine("NALA", "CALA"), 2, "OXT"),
            "ALA2 is not served: no residue is bonded after it",
        ),
        (
            lambda: without_atom(of_alanine("NALA", "ALA"), 3, "C"),
            "the chain does not end with an N-methyl group or COO- after .*ALA2, and libraries",
        ),
        (
            lambda: of_alanine("NALA", "CPRO"),
            "PRO2 is not served: the library does not move PRO: it is a ring",
        ),
        (
            an_amino_acid_by_itself,
            "ALA1 is not served: it is an amino acid by itself, with both ends charged; fit a",
        ),
    ],
)
def test_other_ends_are_named(make: Callable[[], Structure], reason: str, charged: Path) -> None:
    structure = make()
    given = (structure.topology, structure.positions, charged)
    (unserved,) = unserved_chains(*given, end=2)
    assert re.search(reason, unserved.reason), unserved.reason


def test_a_library_of_side_chains_is_refused(tmp_path: Path) -> None:
    structure = Structure()
    side_chains = write_library(tmp_path / "side-chains")
    with pytest.raises(ValueError, match="library small has no flows of whole residues; build"):
        PeptideFinder(structure.topology, structure.positions, side_chains)


def test_positions_that_are_not_those_of_the_topology(library: Path) -> None:
    structure = Structure()
    with pytest.raises(ValueError, match="positions= is of shape"):
        PeptideFinder(structure.topology, np.zeros((3, 3)), library)
    with pytest.raises(ValueError, match="positions= of all atoms are needed"):
        PeptideFinder(structure.topology, None, library)  # type: ignore[arg-type]


@pytest.mark.parametrize(("longest", "end"), [(-1, 1), (4, 0)])
def test_numbers_of_residues_that_make_no_sense(library: Path, longest: int, end: int) -> None:
    structure = Structure()
    given = (structure.topology, structure.positions, library)
    with pytest.raises(ValueError, match="longest must be 0 or more and end 1 or more"):
        unserved_chains(*given, longest=longest, end=end)
