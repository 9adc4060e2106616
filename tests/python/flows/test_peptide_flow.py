"""Peptides joined from flows of capped residues: each residue does what it does between caps, and
the density is that of what is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import openmm
import pytest
import torch
from residue_flows import capped, chain_like, chain_of, residue_flow, write_residue_library
from scipy.stats import chi2
from torch import Tensor

from timewarp_openmm.blocks.peptides import Peptide, PeptideFinder
from timewarp_openmm.energies.openmm_energy import OpenMMEnergy
from timewarp_openmm.flows.chained.links import LinkedFlow
from timewarp_openmm.flows.check import Calls, density_by_jacobian
from timewarp_openmm.flows.residues.peptide import PlacedResidue, peptide_flow
from timewarp_openmm.flows.residues.residue import ResidueFlow
from timewarp_openmm.molecule.capped_residues import capped_residue_parts, shared_atoms
from timewarp_openmm.molecule.graph import Molecule, molecule_from_topology
from timewarp_openmm.molecule.torsions import measure_torsions
from timewarp_openmm.simulation.langevin import Langevin
from timewarp_openmm.simulation.systems import MolecularSystem
from timewarp_openmm.training import independence

INF = math.inf
TEMPERATURE = 300.0
#: Kinds that the mathematics must not confuse: no beta carbon, equivalent oxygens, a ring, two
#: chiral centres.
PEPTIDES = (("ALA", "VAL"), ("GLY", "ASP", "GLY"), ("PHE", "ILE"))
#: With charged ends: both, one, and side chains whose oxygens are equivalent, too.
CHARGED = (("NASP", "GLY", "CASP"), ("NALA", "VAL"), ("GLY", "CILE"))
BEGINNING = "beginning"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = sorted({name for peptide in PEPTIDES + CHARGED for name in peptide})
    return write_residue_library(tmp_path_factory.mktemp("residues"), *names)


def made(library: Path, residues: tuple[str, ...], end: int | str | None = None) -> Peptide:
    """Return a peptide, or its last residues or its beginning, in float64."""
    structure = capped(*residues)
    finder = PeptideFinder(structure.topology, structure.positions, library)
    (chain,) = finder.chains
    if end is not None:
        chain = chain.end(end) if isinstance(end, int) else chain.beginning()
    found = finder.make(chain)
    found.flow.double()
    return found


def draws(flow: LinkedFlow, x: Tensor, count: int = 4) -> tuple[Tensor, ...]:
    """Return noise, lag times, and the proposals on the chart that are made of them."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn((10 * count, flow.noise_size), generator=generator, dtype=torch.float64)
    lag = torch.full((len(noise),), INF, dtype=torch.float64)
    y, w, log_q = flow.sample(x, noise, lag)
    inside = torch.nonzero(torch.isfinite(log_q)).flatten()[:count]
    assert len(inside) == count
    return noise[inside], lag[inside], y[inside], w[inside], log_q[inside]


each_peptide = pytest.mark.parametrize(
    ("residues", "end"),
    [
        *((peptide, None) for peptide in PEPTIDES + CHARGED),
        (PEPTIDES[1], 2),
        (CHARGED[0], 2),
        (CHARGED[0], BEGINNING),
    ],
)


@each_peptide
def test_the_density_is_that_of_the_jacobian(
    library: Path, residues: tuple[str, ...], end: int | str | None
) -> None:
    peptide = made(library, residues, end)
    flow, x = peptide.flow, torch.tensor(peptide.positions)
    noise, lag, y, w, log_q = draws(flow, x)
    torch.testing.assert_close(flow.invert(y, w, x[None], lag), noise, atol=1e-6, rtol=0)
    torch.testing.assert_close(flow.log_prob(y, w, x[None], lag), log_q, atol=1e-8, rtol=0)
    for kept in ((), tuple(range(0, len(flow.stretches), 2))):
        calls = Calls(flow, kept, tuple(flow.stretches))
        found, expected = density_by_jacobian(calls, x, noise[0], INF, peptide.molecule, flow.moved)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_a_forgotten_link_is_seen_by_the_jacobian(library: Path) -> None:
    """The check above would find a residue whose volume element is left out."""
    peptide = made(library, ("ALA", "VAL"))
    flow, x = peptide.flow, torch.tensor(peptide.positions)
    noise, _, _, _, _ = draws(flow, x)
    shape = flow.links[2].shape
    volume = shape.internal.log_volume
    shape.internal.log_volume = lambda bonds, angles: 0 * volume(bonds, angles)
    calls = Calls(flow, (), tuple(flow.stretches))
    found, expected = density_by_jacobian(calls, x, noise[0], INF, peptide.molecule, None)
    assert (found - expected).abs() > 1


def test_flows_are_made_without_warnings(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """The acetyl group's torsion has nothing around it: torch warns of layers without inputs."""
    residue_flow(tmp_path, "ALA")
    assert [str(warning.message) for warning in recwarn] == []


def test_one_residue_is_its_own_chain(library: Path) -> None:
    peptide = made(library, ("VAL",))
    x = torch.tensor(peptide.positions)
    chain = chain_of("VAL")[0].double()
    noise, lag, y, w, log_q = draws(peptide.flow, x)
    for found, expected in zip((y, w, log_q), chain.sample(x, noise, lag), strict=True):
        assert torch.equal(found, expected)


@each_peptide
def test_each_residue_does_what_it_does_between_caps(
    library: Path, residues: tuple[str, ...], end: int | str | None
) -> None:
    """Given the atoms that it hangs on, to rounding; with its own noise, in its own order."""
    peptide = made(library, residues, end)
    flow, x = peptide.flow, torch.tensor(peptide.positions)
    noise, lag, y, _, _ = draws(flow, x)
    assert _misplaced(peptide, noise, lag, y) < 1e-9


def test_a_context_that_is_off_by_an_atom_is_seen(library: Path) -> None:
    """What the test above would find: the density alone stays right wherever residues hang."""
    peptide = made(library, ("ALA", "VAL"))
    flow, x = peptide.flow, torch.tensor(peptide.positions)
    place = flow.places[2]
    names = peptide.molecule.atom_names
    before = [int(i) for i in place.atoms if names[i] in ("O", "CA") and int(i) < 16]
    oxygen, alpha = (next(i for i in before if names[i] == name) for name in ("O", "CA"))
    place.atoms[place.atoms == alpha] = oxygen
    noise, lag, y, w, log_q = draws(flow, x)
    torch.testing.assert_close(flow.log_prob(y, w, x[None], lag), log_q, atol=1e-8, rtol=0)
    assert _misplaced(peptide, noise, lag, y) > 0.01


def _misplaced(peptide: Peptide, noise: Tensor, lag: Tensor, y: Tensor) -> float:
    """Return how far, in nm, the atoms of residues are from where the flow of the residue between
    caps puts them, found by their names, but for hydrogens that may change places."""
    names, places = peptide.molecule.atom_names, peptide.molecule.residue_indices
    at = {(place, name): i for i, (place, name) in enumerate(zip(places, names, strict=True))}
    # An acetyl group, or what is before the end of a chain, has the lowest place.
    first = min(places) + (not peptide.entries[0].startswith("N"))
    worst, sizes = 0.0, [link.num_shape for link in peptide.flow.links]
    skipped = 1 if len(peptide.moved) == len(names) else 0
    for number, entry in enumerate(peptide.entries):
        chain, structure = chain_of(entry)[0].double(), capped(entry)
        own = molecule_from_topology(structure.topology)
        parts = capped_residue_parts(own)
        atoms = shared_atoms(own, False, False)
        index = []
        for i in atoms:
            place, name = first + number + own.residue_indices[i], own.atom_names[i]
            if own.residue_names[0] == "ACE":
                place -= 1
            if name == "CH3" and (place, "CA") in at:
                name = "CA"
            index.append(at[place, name])
        around = torch.tensor(structure.positions).repeat(len(y), 1, 1)
        around[:, atoms] = y[:, index]
        start = sum(sizes[: skipped + number])
        shape = noise[:, start : start + sizes[skipped + number]]
        velocities = torch.zeros((len(y), 3 * len(parts.residue)), dtype=torch.float64)
        x = torch.tensor(structure.positions)[None]
        found, _, _ = chain.links[1].propose(
            around, x, torch.cat([shape, velocities], 1), lag, None
        )
        graph = own.graph()
        alone = [
            i for i in parts.residue if own.elements[i] != "H" or _hydrogens_beside(graph, i) == 1
        ]
        moved = [k for k, i in enumerate(atoms) if i in alone]
        made_here = found[:, [atoms[k] for k in moved]]
        worst = max(worst, float((made_here - y[:, [index[k] for k in moved]]).abs().max()))
    return worst


def _hydrogens_beside(graph: nx.Graph, hydrogen: int) -> int:
    (heavy,) = graph[hydrogen]
    return sum(graph.nodes[i]["element"] == "H" for i in graph[heavy])


def test_noise_of_a_residue_leaves_those_before_it_and_turns_the_rest_as_one(library: Path) -> None:
    """A pivot: distances within what comes later stay."""
    peptide = made(library, ("GLY", "ASP", "GLY"))
    flow, x = peptide.flow, torch.tensor(peptide.positions)
    noise, lag, y, _, _ = draws(flow, x)
    sizes = [link.num_shape for link in flow.links]
    start = sum(sizes[:2])
    torsion = next(k for k in flow.torsion_noise if start <= k < start + sizes[2])
    other = noise.clone()
    other[:, torsion] += 0.5
    turned, _, _ = flow.sample(x, other, lag)
    before = [i for i, place in enumerate(peptide.molecule.residue_indices) if place < 2]
    after = [i for i, place in enumerate(peptide.molecule.residue_indices) if place == 4]
    assert torch.equal(y[:, before], turned[:, before])
    assert not torch.equal(y[:, after], turned[:, after])
    distances = [torch.cdist(z[:, after], z[:, after]) for z in (y, turned)]
    # The residue's flow has bent a little what its neighbour hangs on.
    torch.testing.assert_close(*distances, atol=0.03, rtol=0)


@each_peptide
def test_labels_keep_their_chirality(
    library: Path, residues: tuple[str, ...], end: int | str | None
) -> None:
    """Equivalent hydrogens, exchanged in x in all residues and in one alone, are exchanged in what
    is made of it, and there is no way from one labelling to the other."""
    peptide = made(library, residues, end)
    flow, x, graph = peptide.flow, torch.tensor(peptide.positions), peptide.molecule.graph()
    noise, lag, y, w, log_q = draws(flow, x)
    # In the order of the residues' own flows: exchanging two others turns a group as well.
    in_order = [int(i) for place in flow.places for i in place.made]
    hydrogens = {
        i: [n for n in in_order if n in graph[i] and peptide.molecule.elements[n] == "H"]
        for i in graph
        if peptide.molecule.elements[i] == "C"
    }
    pairs = [some[:2] for some in hydrogens.values() if len(some) > 1]
    assert pairs
    for exchanged in (pairs, pairs[-1:]):
        order = list(range(peptide.molecule.num_atoms))
        for a, b in exchanged:
            order[a], order[b] = b, a
        y_swapped, _, log_q_swapped = flow.sample(x[order], noise, lag)
        torch.testing.assert_close(y_swapped, y[:, order], atol=1e-9, rtol=0)
        torch.testing.assert_close(log_q_swapped, log_q, atol=1e-9, rtol=0)
        assert (flow.log_prob(y, w, x[order][None], lag) == -INF).all()


def test_equivalent_atoms_of_charged_ends_have_one_density(library: Path) -> None:
    """To exchange two oxygens, or to turn three hydrogens on, changes nothing; to exchange two of
    the hydrogens leads to the other labelling, which the chain never needs."""
    peptide = made(library, CHARGED[0])
    flow, x = peptide.flow, torch.tensor(peptide.positions)
    _, lag, y, w, log_q = draws(flow, x)
    labels = zip(peptide.molecule.residue_indices, peptide.molecule.atom_names, strict=True)
    at = {label: i for i, label in enumerate(labels)}

    def exchanged(place: int, names: tuple[str, ...], others: tuple[str, ...]) -> Tensor:
        order = list(range(peptide.molecule.num_atoms))
        for name, other in zip(names, others, strict=True):
            order[at[place, name]] = at[place, other]
        return flow.log_prob(y[:, order], w, x[None], lag)

    oxygens = exchanged(2, ("O", "OXT"), ("OXT", "O"))
    torch.testing.assert_close(oxygens, log_q, atol=1e-8, rtol=0)
    turned = exchanged(0, ("H", "H2", "H3"), ("H2", "H3", "H"))
    torch.testing.assert_close(turned, log_q, atol=1e-8, rtol=0)
    assert (exchanged(0, ("H", "H2"), ("H2", "H")) == -INF).all()
    # No two atoms that differ.
    assert (exchanged(0, ("O", "N"), ("N", "O")) - log_q).abs().min() > 1


def test_mirror_image_of_one_residue_has_no_density(library: Path) -> None:
    peptide = made(library, ("ALA", "VAL"))
    flow, x = peptide.flow, torch.tensor(peptide.positions)
    lag = torch.full((1,), INF, dtype=torch.float64)
    w = torch.zeros_like(x)[None]
    assert torch.isfinite(flow.log_prob(x[None], w, x[None], lag)).all()
    mirrored = (x * torch.tensor([1.0, 1.0, -1.0]))[None]
    assert flow.log_prob(mirrored, w, x[None], lag).item() == -INF


@pytest.mark.parametrize("names", [("GLY", "GLY"), ("NGLY", "CGLY")])
def test_the_distribution_is_that_of_torsional_energies(names: tuple[str, ...]) -> None:
    """Where bonds and angles are springs and each phi and psi has an energy of its own, torsions
    are independent and their densities known: weighted draws must have them.

    Shares of 12 parts of the circle are compared by chi square, with Kish's effective number of
    draws; the false-alarm rate is about 1e-3 for each of four torsions, or of three where the ends
    are charged. The residues' flows know nothing of these energies but how bonds and angles vary.
    """
    structure = capped(*names)
    torsions = backbone_torsions(structure)
    heights = (1.2, 0.8, 1.0, 0.6)[: len(torsions)]
    system = springs(structure, dict(zip(torsions, heights, strict=True)))
    molecule = molecule_from_topology(structure.topology)
    placed = []
    first = int(molecule.residue_names[0] == "ACE")
    for number, name in enumerate(names, first):
        wanted = shared_places(number)
        atoms = [i for i in range(molecule.num_atoms) if wanted(molecule, i)]
        placed.append(PlacedResidue(springy_residue(name), tuple(atoms)))
    x = torch.tensor(structure.positions)
    flow = peptide_flow(molecule, x, placed)
    energy = OpenMMEnergy(system, TEMPERATURE, "Reference")
    found = independence.draw(flow, energy, x, 30_000, torch.Generator().manual_seed(1))
    weights = found.weights()
    effective = found.kish_share() * len(weights)
    assert effective > 1000
    angles = measure_torsions(found.positions, torsions)
    for column, height in enumerate(heights):
        part = np.floor((angles[:, column] + np.pi) / (2 * np.pi) * 12).astype(int) % 12
        shares = np.bincount(part, weights, minlength=12)
        expected = expected_shares(height)
        chi_square = effective * float(((shares - expected) ** 2 / expected).sum())
        assert chi_square < chi2.ppf(1 - 1e-3, 11), (column, shares, expected)
        # Twice the height would be seen.
        other = expected_shares(2 * height)
        assert effective * float(((shares - other) ** 2 / other).sum()) > chi2.ppf(1 - 1e-3, 11)


def expected_shares(height: float) -> np.ndarray:
    """Return the shares of 12 parts of the circle under an energy height * kT * cos(angle)."""
    fine = (np.arange(12 * 50) + 0.5) / (12 * 50) * 2 * np.pi - np.pi
    density = np.exp(-height * np.cos(fine)).reshape(12, 50).sum(axis=1)
    return density / density.sum()


def shared_places(number: int) -> Callable[[Molecule, int], bool]:
    """Tell the atoms that residue `number` knows: its own, and its neighbours'."""

    def wanted(molecule: Molecule, atom: int) -> bool:
        away, name = molecule.residue_indices[atom] - number, molecule.atom_names[atom]
        cap = molecule.residue_names[atom] in ("ACE", "NME")
        if away == -1:
            return cap or name in ("CA", "C", "O")
        return away == 0 or (away == 1 and (cap or name == "N"))

    return wanted


def backbone_torsions(structure: MolecularSystem) -> list[tuple[int, int, int, int]]:
    """Return phi and psi of all residues; at the end, psi of an oxygen."""
    at = {(a.residue.index, a.name): a.index for a in structure.topology.atoms()}
    found = []
    for residue in structure.topology.residues():
        i = residue.index
        if residue.name in ("ACE", "NME"):
            continue
        n, ca, c = (at[i, name] for name in ("N", "CA", "C"))
        if (i - 1, "C") in at:
            found.append((at[i - 1, "C"], n, ca, c))
        found.append((n, ca, c, at[i + 1, "N"] if (i + 1, "N") in at else at[i, "OXT"]))
    return found


def springs(
    structure: MolecularSystem, heights: dict[tuple[int, int, int, int], float]
) -> openmm.System:
    """Return a System of the force field's bonds, angles, amides and improper torsions, and of
    cosines of some torsions with heights in kT."""
    source = structure.system
    system = openmm.System()
    for i in range(source.getNumParticles()):
        system.addParticle(source.getParticleMass(i))
    bonded = {frozenset((a.index, b.index)) for a, b in structure.topology.bonds()}
    names = [atom.name for atom in structure.topology.atoms()]
    for force in source.getForces():
        if isinstance(force, openmm.HarmonicBondForce | openmm.HarmonicAngleForce):
            system.addForce(openmm.XmlSerializer.clone(force))
        if isinstance(force, openmm.PeriodicTorsionForce):
            kept = openmm.PeriodicTorsionForce()
            for k in range(force.getNumTorsions()):
                *atoms, n, phase, height = force.getTorsionParameters(k)
                is_proper = all(frozenset(pair) in bonded for pair in pairwise(atoms))
                amide = {names[i] for i in atoms[1:3]} == {"C", "N"}
                if not is_proper or amide:
                    kept.addTorsion(*atoms, n, phase, height)
            kt = 0.00831446 * TEMPERATURE
            for torsion, height in heights.items():
                kept.addTorsion(*torsion, 1, 0.0, height * kt)
            system.addForce(kept)
    return system


@lru_cache
def springy_residue(name: str) -> ResidueFlow:
    """Return a residue's flow that knows how bonds and angles vary in such a System."""
    structure = capped(name)
    system = springs(structure, {})
    dynamics = Langevin(TEMPERATURE, timestep=0.001)
    context = dynamics.context(system, "Reference", seed=1)
    context.setPositions(structure.positions)
    frames = []
    for _ in range(2000):
        context.getIntegrator().step(40)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    flow, _ = chain_like(name, torch.tensor(np.array(frames)), weights=0.0)
    molecule = molecule_from_topology(structure.topology, structure.system)
    return ResidueFlow(flow, molecule, torch.tensor(structure.positions))
