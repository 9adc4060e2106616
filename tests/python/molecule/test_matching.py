"""Which atom of a topology is which of a model's molecule, whatever names and order it has."""

from __future__ import annotations

import copy
import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import openmm
import pytest
from molecules import SMILES, from_rdkit, make
from openmm import app, unit
from rdkit import Chem

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.contract import read_metadata
from timewarp_openmm.molecule import Molecule, isomorphism
from timewarp_openmm.molecule.isomorphism import Shapes, find_isomorphism
from timewarp_openmm.molecule.matching import (
    PartFinder,
    find_molecules,
    match_atoms,
    match_molecules,
)
from timewarp_openmm.molecule.stereochemistry import Stereochemistry
from timewarp_openmm.simulation.systems import build_system, named_molecule

MODEL = pretrained("alanine-dipeptide")
#: The table of molecules, and what equivalent atoms make hard.
CASES = [
    *SMILES,
    "CC(C)C[C@H](N)C(=O)N",  # isopropyl, primary amide
    "CN(C)C(=O)C(C)C",  # cis and trans methyl of an amide
    "C1CC2(C1)CC2",  # spiro
    "C[C@H]1CC[C@@H](C)CC1",  # equivalent ring carbons
    "O[C@H](C)[C@@H](O)C",  # meso
    "C[C@@H](O)C[C@H](O)C[C@H](C)O",  # branches that differ in chirality alone
    "FC(F)(F)[C@H](Cl)Br",
    "CC(C)(C)c1cc(C(C)(C)C)cc(C(C)(C)C)c1",
]


def renamed(molecule: Molecule, order: np.ndarray) -> Molecule:
    """Return a molecule whose atom k is atom order[k], under names that say nothing."""
    place = np.argsort(order)
    bonds = {tuple(sorted((int(place[a]), int(place[b])))) for a, b in molecule.bonds}
    return dataclasses.replace(
        molecule,
        atom_names=tuple(f"X{k}" for k in range(molecule.num_atoms)),
        elements=tuple(molecule.elements[i] for i in order),
        masses=tuple(molecule.masses[i] for i in order),
        bonds=tuple(sorted((a, b) for a, b in bonds)),
    )


def shuffled(count: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)


def assert_matches(wanted: Molecule, found: Molecule, mapping: list[int]) -> None:
    assert sorted(mapping) == list(range(wanted.num_atoms))
    assert [found.elements[i] for i in mapping] == list(wanted.elements)
    bonds = {tuple(sorted((mapping[a], mapping[b]))) for a, b in wanted.bonds}
    assert bonds == set(found.bonds)


@pytest.mark.parametrize("name", CASES)
def test_positions_decide_what_the_bonds_leave_open(name: str) -> None:
    """Another conformation, other names, other order: no centre or amide looks flipped."""
    molecule, conformations = make(name, conformers=2)
    order = shuffled(molecule.num_atoms)
    other = renamed(molecule, order)
    reference, positions = conformations[0], conformations[1][order]
    mapping = match_molecules(molecule, other, Shapes(reference, positions))
    assert_matches(molecule, other, mapping)
    flips = Stereochemistry(molecule, reference).find_flips(positions[mapping])
    # A turned amide is no matter of labels, unless its substituents are equivalent.
    amides = "CN(C)C(=O)C(C)C", "CC(C)C[C@H](N)C(=O)N"
    assert [f for f in flips if "amide" not in f or name in amides] == []


@pytest.mark.parametrize("name", ["ala", "ibuprofen", "penicillin", "C[C@H]1CC[C@H](O)CC1"])
def test_stereoisomers_are_told_apart(name: str) -> None:
    molecule, (reference,) = make(name)
    order = shuffled(molecule.num_atoms)
    other = renamed(molecule, order)
    # Every other ring substituent up or down: the mirror image of a cis ring is itself.
    mirrored = (reference * [1, 1, -1])[order]
    if name == "C[C@H]1CC[C@H](O)CC1":
        assert_matches(
            molecule, other, match_molecules(molecule, other, Shapes(reference, mirrored))
        )
        return
    with pytest.raises(ValueError, match=r"another stereoisomer .*\(atom \d+\)"):
        match_molecules(molecule, other, Shapes(reference, mirrored))


def test_cis_and_trans_rings_are_told_apart() -> None:
    cis, (reference,) = make("C[C@H]1CC[C@@H](C)CC1")
    trans, (positions,) = make("C[C@H]1CC[C@H](C)CC1")
    order = shuffled(trans.num_atoms)
    with pytest.raises(ValueError, match="another stereoisomer"):
        match_molecules(cis, renamed(trans, order), Shapes(reference, positions[order]))


@pytest.mark.parametrize(
    ("smiles", "ambiguous"),
    [
        ("C" * 29, False),  # a chain of 60 hydrogens
        ("CC(C)(C)C(C(C)(C)C)(C(C)(C)C)C(C)(C)C", True),
        ("C[Si](C)(C)[Si]([Si](C)(C)C)([Si](C)(C)C)[Si](C)(C)C", True),
        ("CC(C)(C)c1cc(C(C)(C)C)cc(-c2cc(C(C)(C)C)cc(C(C)(C)C)c2)c1", True),
        ("CCCCN(CCCC)c1ccc(cc1)N(CCCC)CCCC", False),
    ],
)
def test_search_grows_with_atoms_not_with_their_permutations(
    smiles: str, ambiguous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydrogens of methyls alone could be permuted in 6^12 ways; few pairs are ever looked at."""
    tries = 0
    feasible = isomorphism._Matcher.semantic_feasibility

    def counting(self: isomorphism._Matcher, a: int, b: int) -> bool:
        nonlocal tries
        tries += 1
        return feasible(self, a, b)

    monkeypatch.setattr(isomorphism._Matcher, "semantic_feasibility", counting)
    molecule, (reference,) = make(smiles)
    order = shuffled(molecule.num_atoms)
    other = renamed(molecule, order)
    mapping = match_molecules(molecule, other, Shapes(reference, reference[order]))
    assert_matches(molecule, other, mapping)
    assert Stereochemistry(molecule, reference).find_flips(reference[order][mapping]) == []
    if ambiguous:
        with pytest.raises(ValueError, match="pass positions="):
            match_molecules(molecule, other)
    else:
        assert_matches(molecule, other, match_molecules(molecule, other))
    assert 0 < tries < 2 * molecule.num_atoms


def test_names_decide_where_positions_are_not_known() -> None:
    molecule, _ = make("CC(C)[C@H](N)C(=O)O")
    order = shuffled(molecule.num_atoms)
    other = renamed(molecule, order)
    with pytest.raises(ValueError, match=r"C0 \(atom 0\) and LIG1:C2 \(atom 2\) .* positions="):
        match_molecules(molecule, other)
    # Carbons by the model's names, hydrogens by others: as between Amber and CHARMM.
    names = [molecule.atom_names[i] if molecule.elements[i] == "C" else f"X{i}" for i in order]
    named = dataclasses.replace(other, atom_names=tuple(names))
    mapping = match_molecules(molecule, named)
    assert_matches(molecule, named, mapping)
    carbons = [i for i, e in enumerate(molecule.elements) if e == "C"]
    assert [order[mapping[i]] for i in carbons] == carbons


def test_chirality_comes_before_names() -> None:
    """The two methyls of valine are named by their chirality, and files get it wrong."""
    molecule, (reference,) = make("CC(C)[C@H](N)C(=O)O")
    wrong = list(molecule.atom_names)
    wrong[0], wrong[2] = wrong[2], wrong[0]
    order = shuffled(molecule.num_atoms)
    other = dataclasses.replace(renamed(molecule, order), atom_names=tuple(wrong[i] for i in order))
    mapping = match_molecules(molecule, other, Shapes(reference, reference[order]))
    assert [order[mapping[i]] for i in (0, 2)] == [0, 2]
    by_name = match_molecules(molecule, other)
    assert [order[by_name[i]] for i in (0, 2)] == [2, 0]


def test_symmetry_that_turns_into_itself_needs_no_names() -> None:
    for smiles in ("OC(=O)Cc1ccccc1", "c1ccncc1", "OS(=O)(=O)CC"):
        molecule = from_rdkit(Chem.AddHs(Chem.MolFromSmiles(smiles)))
        other = renamed(molecule, shuffled(molecule.num_atoms))
        if smiles == "OS(=O)(=O)CC":  # which oxygen is which is a matter of chirality
            with pytest.raises(ValueError, match="positions="):
                match_molecules(molecule, other)
        else:
            assert_matches(molecule, other, match_molecules(molecule, other))


def test_other_bonds_are_seen_where_all_atoms_look_alike() -> None:
    """Decalin and bicyclopentyl: each atom has like neighbours, to any depth."""
    decalin = from_rdkit(Chem.AddHs(Chem.MolFromSmiles("C1CCC2CCCCC2C1")))
    bicyclopentyl = from_rdkit(Chem.AddHs(Chem.MolFromSmiles("C1CCC(C1)C1CCCC1")))
    assert find_isomorphism(decalin, bicyclopentyl) is None
    with pytest.raises(ValueError, match="other bonds"):
        match_molecules(decalin, bicyclopentyl)
    alone = dataclasses.replace(decalin, bonds=())
    with pytest.raises(ValueError, match="add its bonds"):
        match_molecules(decalin, alone)


@pytest.fixture(scope="module")
def two_copies() -> app.Modeller:
    """A leucine dipeptide, two alanine dipeptides (atoms 31 to 52, 53 to 74) and two waters."""
    path = Path(__file__).parents[3] / "examples/molecules/leucine-dipeptide.pdb"
    leucine = app.PDBFile(str(path))
    both = app.Modeller(leucine.topology, leucine.positions)
    alanine = named_molecule("alanine-dipeptide")
    for shift in (1.5, 3.5):
        both.add(alanine.topology, (alanine.positions + np.array([shift, 0, 0])) * unit.nanometer)
    water = app.Topology()
    chain = water.addChain("W")
    for _ in range(2):
        residue = water.addResidue("HOH", chain)
        oxygen, *others = (
            water.addAtom(name, element, residue)
            for name, element in (
                ("O", app.element.oxygen),
                ("H1", app.element.hydrogen),
                ("H2", app.element.hydrogen),
                ("M", None),  # the virtual site of TIP4P
            )
        )
        for hydrogen in others[:2]:
            water.addBond(oxygen, hydrogen)
    both.add(water, np.zeros((8, 3)) * unit.nanometer)
    for chain, name in zip(both.topology.chains(), "LABW", strict=True):
        chain.id = name
    return both


def test_several_copies_are_named_and_one_is_asked_for(two_copies: app.Modeller) -> None:
    topology = two_copies.topology
    with pytest.raises(ValueError, match="2 copies") as raised:
        TimewarpMCMCIntegrator(MODEL, topology=topology)
    message = str(raised.value)
    assert "A:ACE1 to A:NME3 (range(31, 53))" in message
    assert "B:ACE1 to B:NME3 (range(53, 75))" in message
    for first in (31, 53):
        atoms = list(range(first, first + 22))
        integrator = TimewarpMCMCIntegrator(MODEL, topology=topology, particles=atoms[::-1])
        assert integrator.getParticles() == atoms


def test_all_copies_are_found_whatever_their_order(two_copies: app.Modeller) -> None:
    metadata = read_metadata(str(MODEL))
    molecule = metadata.molecule
    assert molecule is not None
    copies = [list(range(31, 53)), list(range(53, 75))]
    assert find_molecules(molecule, two_copies.topology) == copies
    backwards = molecule.part(range(21, -1, -1))
    assert find_molecules(backwards, two_copies.topology) == copies
    finder = PartFinder(two_copies.topology)
    assert finder.find(metadata) == copies
    assert finder.find(metadata, set(range(40, 80))) == copies[1:]
    water = Molecule(("O", "H", "H"), ("HOH",) * 3, (0,) * 3, ("O", "H", "H"), (16.0, 1.0, 1.0),
                     ((0, 1), (0, 2)))  # fmt: skip
    assert find_molecules(water, two_copies.topology) == [[75, 76, 77], [79, 80, 81]]
    assert find_molecules(dataclasses.replace(water, bonds=((0, 1),)), two_copies.topology) == []


def test_a_molecule_is_found_among_others(two_copies: app.Modeller) -> None:
    one = app.Modeller(two_copies.topology, two_copies.positions)
    one.delete([chain for chain in one.topology.chains() if chain.id == "A"])
    assert match_atoms(MODEL, one.topology) == list(range(31, 53))
    one.delete([chain for chain in one.topology.chains() if chain.id == "B"])
    with pytest.raises(ValueError, match=r"does not hold .*C6H12N2O2\): it holds 2 x .* C9H18N2O2"):
        match_atoms(MODEL, one.topology)


def test_only_the_molecule_that_is_found_moves(two_copies: app.Modeller) -> None:
    pair = app.Modeller(two_copies.topology, two_copies.positions)
    pair.delete([chain for chain in pair.topology.chains() if chain.id in "BW"])
    integrator = TimewarpMCMCIntegrator(MODEL, topology=pair.topology, positions=pair.positions)
    assert integrator.getParticles() == list(range(31, 53))


@pytest.mark.parametrize("first", ["leucine-dipeptide", "alanine-dipeptide"])
def test_what_is_asked_for_where_others_come_first(two_copies: app.Modeller, first: str) -> None:
    """The messages lead to the topology of the whole System, not in a circle."""
    pair = app.Modeller(two_copies.topology, two_copies.positions)
    dropped = "BW" if first == "leucine-dipeptide" else "LBW"
    pair.delete([chain for chain in pair.topology.chains() if chain.id in dropped])
    if first == "alanine-dipeptide":
        leucine = app.Modeller(two_copies.topology, two_copies.positions)
        leucine.delete([chain for chain in leucine.topology.chains() if chain.id != "L"])
        pair.add(leucine.topology, leucine.positions)
    system = build_system(pair.topology)
    reference = openmm.Platform.getPlatformByName("Reference")
    with pytest.raises(openmm.OpenMMException, match="pass topology= of the whole System"):
        openmm.Context(system, TimewarpMCMCIntegrator(MODEL), reference)
    alone = named_molecule("alanine-dipeptide").topology
    integrator = TimewarpMCMCIntegrator(MODEL, topology=alone)
    for one in (integrator, copy.deepcopy(integrator)):
        with pytest.raises(openmm.OpenMMException, match="pass topology= of the whole System"):
            openmm.Context(system, one, reference)
    integrator = TimewarpMCMCIntegrator(MODEL, topology=pair.topology)
    integrator.setFrozenOthers(True)
    openmm.Context(system, integrator, reference)


def test_isomer_among_others_is_not_taken(two_copies: app.Modeller) -> None:
    """The same atoms with other bonds."""
    metadata = read_metadata(str(MODEL))
    assert metadata.molecule is not None
    topology = app.Topology()
    chain = topology.addChain()
    residue = topology.addResidue("ISO", chain)
    atoms = [
        topology.addAtom(f"X{i}", app.Element.getBySymbol(e), residue)
        for i, e in enumerate(metadata.molecule.elements)
    ]
    heavy = [a for a in atoms if a.element.symbol != "H"]
    for a, b in pairwise(heavy):
        topology.addBond(a, b)
    for hydrogen in (a for a in atoms if a.element.symbol == "H"):
        topology.addBond(hydrogen, heavy[0])
    other = topology.addResidue("NE", chain)
    topology.addAtom("NE", app.element.neon, other)
    with pytest.raises(ValueError, match="none has its bonds"):
        match_atoms(MODEL, topology)


@pytest.mark.parametrize(
    ("particles", "message"),
    [
        (range(31, 52), "cuts the bond"),
        (range(31), r"the model's molecule is C6H12N2O2, that of the topology C9"),
        ([*range(31, 53), 31], "different atoms"),
        (range(70, 92), "different atoms"),
        ([], "different atoms"),
    ],
)
def test_wrong_particles_are_refused(
    two_copies: app.Modeller, particles: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        match_atoms(MODEL, two_copies.topology, particles)


def test_positions_and_particles_are_those_of_the_topology(two_copies: app.Modeller) -> None:
    with pytest.raises(ValueError, match="pass it, too"):
        TimewarpMCMCIntegrator(MODEL, particles=range(22))
    with pytest.raises(ValueError, match=r"shape \(22, 3\), but the topology has 83 atoms"):
        match_atoms(MODEL, two_copies.topology, range(31, 53), np.zeros((22, 3)))


def test_mirror_image_of_the_bundled_molecule_is_refused() -> None:
    alanine = named_molecule("alanine-dipeptide")
    mirrored = alanine.positions * [1, 1, -1]
    with pytest.raises(ValueError, match="chirality differs at ALA2:CA"):
        TimewarpMCMCIntegrator(MODEL, topology=alanine.topology, positions=mirrored)


def test_system_of_the_found_molecule_runs(two_copies: app.Modeller) -> None:
    pair = app.Modeller(two_copies.topology, two_copies.positions)
    pair.delete([chain for chain in pair.topology.chains() if chain.id in "BW"])
    # No force: what others do to a molecule that nothing turns or moves is another matter.
    system = openmm.System()
    for atom in pair.topology.atoms():
        system.addParticle(atom.element.mass)
    alone = build_system(named_molecule("alanine-dipeptide").topology)
    bonds = openmm.HarmonicBondForce()
    for force in alone.getForces():
        if isinstance(force, openmm.HarmonicBondForce):
            for k in range(force.getNumBonds()):
                a, b, *parameters = force.getBondParameters(k)
                bonds.addBond(a + 31, b + 31, *parameters)
    system.addForce(bonds)
    integrator = TimewarpMCMCIntegrator(MODEL, topology=pair.topology)
    integrator.setFrozenOthers(True)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(pair.positions)
    before = context.getState(positions=True).getPositions(asNumpy=True)._value
    integrator.step(50)
    after = context.getState(positions=True).getPositions(asNumpy=True)._value
    assert integrator.getNumAccepted() > 0
    assert (before[:31] == after[:31]).all()
