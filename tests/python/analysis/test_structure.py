"""Structure checks find what was planted, and nothing else."""

from __future__ import annotations

import mdtraj
import molecules
import networkx as nx
import numpy as np
import pytest
from numpy.typing import NDArray
from residue_flows import capped
from turning import turned

from timewarp_openmm.analysis.series import BlockHistograms
from timewarp_openmm.analysis.structure import (
    IntegrityCheck,
    divergence_floor,
    histograms_like,
    implausible_bonds,
    jensen_shannon,
    molecule_geometry,
)
from timewarp_openmm.analysis.torsions import (
    folded_torsions,
    proper_torsions,
    ramachandran_columns,
    true_torsions,
)
from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.molecule.torsions import torsion
from timewarp_openmm.simulation.systems import named_molecule
from timewarp_openmm.trajectories.frames import reader_topology

ALANINE = named_molecule("alanine-dipeptide")
MOLECULE = molecule_from_topology(ALANINE.topology)
TOPOLOGY = reader_topology(MOLECULE)


def frames(positions: NDArray[np.floating]) -> mdtraj.Trajectory:
    return mdtraj.Trajectory(np.asarray(positions, dtype=np.float32), TOPOLOGY)


def test_names_of_alanine_dipeptide() -> None:
    torsions = proper_torsions(MOLECULE)
    assert [t.name for t in torsions[:4]] == [
        "phi A:ALA2",
        "psi A:ALA2",
        "omega A:ALA2",
        "omega A:NME3",
    ]
    assert [t.fold for t in torsions[4:]] == [3, 3, 3]
    assert [t.kind for t in true_torsions(torsions)] == ["phi", "psi", "omega", "omega"]
    assert torsions[0].atoms == (4, 6, 8, 14)
    assert ramachandran_columns(torsions) == [("A:ALA2", 0, 1)]


def test_what_turns_about_a_straight_line_is_one_torsion() -> None:
    """Of hex-2-yn-1-ol: the line from C1 to C4 turns as one bond, and none within it."""
    molecule, positions = molecules.make("OCC#CCC")
    torsions = true_torsions(proper_torsions(molecule))
    assert [torsion.atoms[1:3] for torsion in torsions] == [(0, 1), (1, 4)]
    about_the_line = torsions[1].atoms
    assert about_the_line[0] == 0
    assert about_the_line[3] == 5
    after = turned(positions[0], molecule.graph(), (3, 4), 1.0)
    turn = torsion(after, about_the_line) - torsion(positions[0], about_the_line)
    # RDKit's conformer is straight but for a few degrees.
    assert np.cos(turn - 1.0) == pytest.approx(1.0, abs=0.01)
    # Nothing is beyond a nitrile, and cumulated double bonds do not turn.
    for smiles, count in (("CCC#N", 0), ("CC=C=CC", 0), ("CCC#CC#CCC", 1)):
        lines = true_torsions(proper_torsions(molecules.make(smiles)[0]))
        assert len(lines) == count, smiles


@pytest.mark.parametrize("name", ["ibuprofen", "zwitterion", "pro", "adamantane", "ethane"])
def test_torsions_are_of_bonds_in_no_ring(name: str) -> None:
    molecule, positions = molecules.make(name)
    torsions = proper_torsions(molecule)
    graph = molecule.graph()
    assert len({frozenset(t.atoms[1:3]) for t in torsions}) == len(torsions)
    assert len({t.name for t in torsions}) == len(torsions)
    for t in torsions:
        assert all(graph.has_edge(a, b) for a, b in zip(t.atoms[:-1], t.atoms[1:], strict=True))
        graph.remove_edge(*t.atoms[1:3])
        assert not nx.has_path(graph, t.atoms[1], t.atoms[2])
        graph.add_edge(*t.atoms[1:3])
    values = folded_torsions(positions, torsions)
    assert values.shape == (1, len(torsions))
    for t, value in zip(torsions, values[0], strict=True):
        turn = (torsion(positions[0], t.atoms) - value) * t.fold
        assert np.cos(turn) == pytest.approx(1.0, abs=1e-4)
    if name == "adamantane":
        assert torsions == []
        assert ramachandran_columns(torsions) == []


def test_side_chains_are_called_chi() -> None:
    from pathlib import Path

    from timewarp_openmm.molecule.structure_files import load_structure

    example = Path(__file__).parents[3] / "examples/molecules/leucine-dipeptide.pdb"
    leucine = molecule_from_topology(load_structure(example)[0])
    names = [t.name for t in true_torsions(proper_torsions(leucine))]
    assert "chi1 A:LEU2:CB" in names
    assert "chi2 A:LEU2:CG" in names


def test_a_carboxylate_at_the_end_is_no_side_chain() -> None:
    peptide = capped("NALA", "CASP")
    names = {t.name for t in proper_torsions(molecule_from_topology(peptide.topology))}
    assert {"psi 1:ALA1", "phi 1:ASP2", "chi1 1:ASP2:CB", "chi2 1:ASP2:CG"} <= names
    assert "1:ASP2 N-CA-C-O" in names
    assert "chi1 1:ASP2:C" not in names


def test_jensen_shannon_by_brute_force() -> None:
    rng = np.random.default_rng(1)
    p, q = rng.random((2, 5))
    p, q = p / p.sum(), q / q.sum()
    mixture = (p + q) / 2
    brute = 0.5 * sum(a * np.log2(a / m) for a, m in zip(p, mixture, strict=True))
    brute += 0.5 * sum(b * np.log2(b / m) for b, m in zip(q, mixture, strict=True))
    assert float(jensen_shannon(10 * p, q)) == pytest.approx(brute)
    assert float(jensen_shannon(p, p)) == pytest.approx(0.0, abs=1e-12)


def test_a_shifted_coordinate_is_beyond_the_floor_and_the_others_are_not() -> None:
    rng = np.random.default_rng(2)
    reference = rng.normal(0.0, 1.0, (20_000, 5))
    sample = rng.normal(0.0, 1.0, (20_000, 5))
    sample[:, 3] += 0.5
    md = histograms_like(reference[:4000])
    md.append(reference)
    other = BlockHistograms(md.low, md.high, md.bins)
    other.append(sample)
    divergence = jensen_shannon(other.counts.sum(0), md.counts.sum(0))
    floor = divergence_floor(md.counts)
    assert divergence.argmax() == 3
    assert divergence[3] > 10 * floor[3]
    assert (np.delete(divergence, 3) < np.delete(floor, 3)).all()


def test_intact_frames_pass() -> None:
    check = IntegrityCheck(MOLECULE, ALANINE.positions)
    rng = np.random.default_rng(3)
    check.append(frames(ALANINE.positions + 0.002 * rng.standard_normal((50, 22, 3))))
    assert check.frames == 50
    assert check.flips.sum() == 0
    assert check.turned.sum() == 0
    assert check.clashes == 0


def test_mirror_image_flips_the_chiral_centre() -> None:
    check = IntegrityCheck(MOLECULE, ALANINE.positions)
    pair = np.stack([ALANINE.positions, ALANINE.positions * [1, 1, -1]])
    check.append(frames(pair))
    flips = dict(zip(check.centre_names, check.flips.tolist(), strict=True))
    assert flips["A:ALA2:CA"] == 1
    relabels = dict(zip(check.centre_names, check.relabels, strict=True))
    assert not relabels["A:ALA2:CA"]
    assert relabels["A:ALA2:CB"]


def test_cis_amide_is_found() -> None:
    (omega,) = [t for t in proper_torsions(MOLECULE) if t.name == "omega A:NME3"]
    cis = turned(ALANINE.positions, MOLECULE.graph(), omega.atoms[1:3], np.pi)
    check = IntegrityCheck(MOLECULE, ALANINE.positions)
    check.append(frames(np.stack([ALANINE.positions, cis, cis])))
    assert dict(zip(check.amide_names, check.turned.tolist(), strict=True)) == {
        "A:ACE1:C-A:ALA2:N": 0,
        "A:ALA2:C-A:NME3:N": 2,
    }


def test_clash_is_found_and_named() -> None:
    names = [MOLECULE.atom_label(i) for i in range(MOLECULE.num_atoms)]
    a, b = names.index("A:ACE1:CH3"), names.index("A:NME3:N")
    positions = ALANINE.positions.copy()
    positions[b] = positions[a] + [0.05, 0.0, 0.0]
    check = IntegrityCheck(MOLECULE, ALANINE.positions)
    check.append(frames(np.stack([ALANINE.positions, positions])))
    assert check.clashes == 1
    assert check.closest_pair == "A:ACE1:CH3...A:NME3:N"


def test_atoms_in_another_order_are_noticed() -> None:
    geometry = molecule_geometry(MOLECULE)
    order = np.arange(22)
    order[[4, 14]] = order[[14, 4]]
    assert implausible_bonds(frames(ALANINE.positions[None]), geometry, ALANINE.positions) == []
    strange = implausible_bonds(
        frames(ALANINE.positions[None][:, order]), geometry, ALANINE.positions
    )
    assert any("A:ACE1:C" in s for s in strange)


def test_geometry_names_and_values() -> None:
    geometry = molecule_geometry(MOLECULE)
    values = geometry.measure(frames(ALANINE.positions[None]))[0]
    assert len(geometry.names) == len(values) == 21 + 36
    i = geometry.names.index("bond A:ACE1:C-A:ACE1:O")
    a, b = geometry.bonds[i]
    assert values[i] == pytest.approx(
        np.linalg.norm(ALANINE.positions[a] - ALANINE.positions[b]), rel=1e-5
    )
