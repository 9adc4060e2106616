"""Residues between caps, made from their names: the right atoms, chirality and amides."""

from __future__ import annotations

import random

import networkx as nx
import numpy as np
import openmm
import pytest
from openmm import app
from turning import turned

from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.molecule.torsions import measure_torsions
from timewarp_openmm.simulation.backbone_spread import (
    CEILING,
    SHARE,
    SIZE,
    backbone_free_energy,
    backbone_torsions,
    with_spread_backbone,
)
from timewarp_openmm.simulation.capped_peptides import SIDE_CHAINS, capped_peptide
from timewarp_openmm.workflows.library_kinds import RESIDUE_KIND

AMBER14 = ("amber14/protein.ff14SB.xml", "implicit/obc2.xml")
#: Hydrogens of the side chain and of N and CA, with which each state of protonation is told.
HYDROGENS = {
    "ARG": 13, "ASH": 5, "ASN": 6, "ASP": 4, "CYM": 4, "CYS": 5, "GLH": 7, "GLN": 8, "GLU": 6,
    "HID": 7, "HIE": 7, "HIP": 8, "ILE": 11, "LEU": 11, "LYN": 12, "LYS": 13, "MET": 9, "PHE": 9,
    "SER": 5, "THR": 7, "TRP": 10, "TYR": 9, "VAL": 9,
}  # fmt: skip


def atoms_by_name(topology: app.Topology) -> dict[tuple[int, str], int]:
    return {(a.residue.index, a.name): a.index for a in topology.atoms()}


@pytest.mark.parametrize("name", SIDE_CHAINS)
def test_capped_residue(name):
    molecule = capped_peptide([name], AMBER14)
    topology, x = molecule.topology, molecule.positions
    assert [r.name for r in topology.residues()] == ["ACE", name, "NME"]
    own = [a for a in topology.atoms() if a.residue.index == 1]
    assert sum(a.element.symbol == "H" for a in own) == HYDROGENS[name]
    graph = nx.Graph((a.index, b.index) for a, b in topology.bonds())
    assert nx.is_connected(graph)
    assert len(graph) == len(x) == molecule.system.getNumParticles()
    atoms = atoms_by_name(topology)
    n, c, ca, cb = (x[atoms[1, k]] for k in ("N", "C", "CA", "CB"))
    # L: seen from H, the groups CO, R and N follow one another clockwise (CORN).
    assert np.dot(np.cross(n - ca, c - ca), cb - ca) > 0
    amides = [
        (atoms[0, "CH3"], atoms[0, "C"], atoms[1, "N"], atoms[1, "CA"]),
        (atoms[1, "CA"], atoms[1, "C"], atoms[2, "N"], atoms[2, "C"]),
    ]
    assert (np.abs(measure_torsions(x[None], amides)) > np.radians(140)).all()
    # What a flow is built of.
    assert molecule_from_topology(topology, molecule.system).num_atoms == len(x)


@pytest.mark.parametrize(
    ("name", "carbon", "others"),
    [("ILE", "CB", ("CA", "CG1", "CG2")), ("THR", "CB", ("CA", "OG1", "CG2"))],
)
def test_second_stereocentre(name, carbon, others):
    """L-isoleucine is (2S,3S) and L-threonine (2S,3R)."""
    molecule = capped_peptide([name], AMBER14)
    atoms = atoms_by_name(molecule.topology)
    centre = molecule.positions[atoms[1, carbon]]
    a, b, c = (molecule.positions[atoms[1, k]] - centre for k in others)
    # By rank: ILE CA > CG1 > CG2 is S, THR OG1 > CA > CG2 is R: in both, CA, X, CG2 turn alike.
    assert np.dot(np.cross(a, b), c) > 0


def test_names_of_isoleucine_are_those_of_pdb_files():
    bonds = {
        frozenset((a.name, b.name)) for a, b in capped_peptide(["ILE"], AMBER14).topology.bonds()
    }
    assert frozenset(("CG1", "CD1")) in bonds


@pytest.mark.parametrize(
    "names", [("GLY", "ILE", "HIP", "PRO", "ASH"), ("LEU", "ALA", "GLU", "LYS") * 4]
)
def test_capped_peptide(names):
    molecule = capped_peptide(names, AMBER14)
    topology = molecule.topology
    assert [r.name for r in topology.residues()] == ["ACE", *names, "NME"]
    assert len(molecule.positions) == molecule.system.getNumParticles()
    atoms = atoms_by_name(topology)
    amides = [
        (atoms[i, "CA"], atoms[i, "C"], atoms[i + 1, "N"], atoms[i + 1, "CA"])
        for i in range(1, len(names))
    ]
    turns = np.abs(measure_torsions(molecule.positions[None], amides))
    assert (turns > np.radians(140)).all()


def test_the_same_peptide_is_made_each_time():
    """Hydrogens of amides and of carbons with two of them have labels; a build that goes on needs
    the molecule that it began with."""
    state = random.getstate()
    first, again = (capped_peptide(["GLN", "LYS"], AMBER14).positions for _ in range(2))
    assert (first == again).all()
    assert random.getstate() == state


@pytest.mark.parametrize("wanted", [(-62.0, -42.0), (-130.0, 140.0)])
def test_backbone(wanted):
    """Within what minimising the energy changes."""
    molecule = capped_peptide(["ALA"] * 3, AMBER14, backbone=wanted)
    atoms = atoms_by_name(molecule.topology)
    torsions = [
        torsion
        for i in (1, 2, 3)
        for torsion in (
            (atoms[i - 1, "C"], atoms[i, "N"], atoms[i, "CA"], atoms[i, "C"]),
            (atoms[i, "N"], atoms[i, "CA"], atoms[i, "C"], atoms[i + 1, "N"]),
        )
    ]
    found = np.degrees(measure_torsions(molecule.positions[None], torsions)[0])
    away = (found - np.tile(wanted, 3) + 180) % 360 - 180
    assert (np.abs(away) < 45).all()


@pytest.mark.parametrize("name", RESIDUE_KIND.ends)
def test_residue_at_a_charged_end(name):
    molecule = capped_peptide([name], AMBER14)
    topology, x = molecule.topology, molecule.positions
    cap, place = ("NME", 0) if name.startswith("N") else ("ACE", 1)
    assert {r.name for r in topology.residues()} == {name[1:], cap}
    atoms = atoms_by_name(topology)
    own = {label for index, label in atoms if index == place}
    assert {"H2", "H3"} <= own if cap == "NME" else "OXT" in own
    charges = [f for f in molecule.system.getForces() if isinstance(f, openmm.NonbondedForce)]
    total = sum(charges[0].getParticleParameters(i)[0]._value for i in range(len(x)))
    side_chain = {"ARG": 1, "LYS": 1, "HIP": 1, "ASP": -1, "GLU": -1}.get(name[1:], 0)
    assert total == pytest.approx(side_chain + (1 if cap == "NME" else -1), abs=1e-3)
    if name[1:] != "GLY":
        n, c, ca, cb = (x[atoms[place, k]] for k in ("N", "C", "CA", "CB"))
        assert np.dot(np.cross(n - ca, c - ca), cb - ca) > 0


def test_a_zwitterion_has_trans_amides():
    molecule = capped_peptide(["NALA", "HIE", "CILE"], AMBER14)
    assert molecule.name == "NALA-HIE-CILE"
    assert [r.name for r in molecule.topology.residues()] == ["ALA", "HIE", "ILE"]
    atoms = atoms_by_name(molecule.topology)
    amides = [tuple(atoms[i + k, a] for k, a in _AMIDE) for i in range(2)]
    assert (np.abs(measure_torsions(molecule.positions[None], amides)) > np.radians(140)).all()


_AMIDE = ((0, "CA"), (0, "C"), (1, "N"), (1, "CA"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ALA", "XYZ"], "XYZ is none of the residues"),
        (["ALA", "NALA"], "NALA can only be the first residue"),
        (["CALA", "ALA"], "CALA can only be the last residue"),
        (["NXYZ", "ALA"], "NXYZ is none of the residues"),
    ],
)
def test_unknown_residue(names, message):
    with pytest.raises(ValueError, match=message):
        capped_peptide(names, AMBER14)


def energy(system: openmm.System, positions: np.ndarray) -> float:
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(positions)
    return context.getState(energy=True).getPotentialEnergy()._value


def test_spread_takes_the_free_energy_of_phi_and_psi_away():
    """Where phi and psi are points of the map, and for a map that tells the two apart."""
    molecule = capped_peptide(["VAL"], AMBER14)
    rng = np.random.default_rng(2)
    free = rng.uniform(0, 1.6 * CEILING, size=(SIZE, SIZE))
    spread = with_spread_backbone(molecule, free)
    phi, psi = backbone_torsions(molecule.topology)
    graph = nx.Graph((a.index, b.index) for a, b in molecule.topology.bonds())
    for j, i in rng.integers(0, SIZE, size=(6, 2)):
        x = molecule.positions
        for atoms, target in ((phi, i), (psi, j)):
            angle = 2 * np.pi * target / SIZE - measure_torsions(x[None], [atoms])[0, 0]
            x = turned(x, graph, (atoms[1], atoms[2]), angle)
        change = energy(spread.system, x) - energy(molecule.system, x)
        assert change == pytest.approx(-SHARE * min(free[j, i], CEILING), abs=1e-6)


def test_free_energy_of_alanine():
    """A picosecond of metadynamics: the map's place and scale, not its accuracy."""
    free = backbone_free_energy(AMBER14, 300.0, 2.0, seed=3)
    assert free.shape == (SIZE, SIZE)
    assert free.min() == 0
    # Where no hill lies, it is at its highest: phi near 0 clashes.
    assert free[:, 0].min() > 0.9 * free.max()
