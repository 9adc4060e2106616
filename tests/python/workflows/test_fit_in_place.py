"""Models of a fragment in place: how they are fitted, and at work in the whole System."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from complexes import PEROXIDE, ligands, peptide_in_water
from quick_fits import QUICK, SETTINGS, SMALL, Record, known_plans

from timewarp_openmm import TimewarpMCMCIntegrator, find_blocks
from timewarp_openmm.contract import read_metadata
from timewarp_openmm.energies.openmm_energy import OpenMMEnergy
from timewarp_openmm.flows.registry import build_flow
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.molecule.in_place import Fragment
from timewarp_openmm.molecule.rotatable_torsions import rotatable_torsions
from timewarp_openmm.molecule.selection import select_atoms
from timewarp_openmm.molecule.structure_files import load_structure
from timewarp_openmm.molecule.torsions import measure_torsions
from timewarp_openmm.simulation.explore import read_basins
from timewarp_openmm.simulation.langevin import get_positions
from timewarp_openmm.simulation.surroundings import FragmentInPlace, cut_surroundings
from timewarp_openmm.simulation.systems import MolecularSystem, make_platform
from timewarp_openmm.training.checkpoints import TrainedFlow, load_trained
from timewarp_openmm.training.independence import draw, log_weights_of, run_chains
from timewarp_openmm.trajectories.pairs import load_trajectories
from timewarp_openmm.workflows.budget import FitBudget
from timewarp_openmm.workflows.fit import Validation, fit

MOLECULES = Path(__file__).parents[3] / "examples" / "molecules"
#: With all basins of the ligand.
LIGAND = QUICK.model_copy(update={"least_basins": 3})


@pytest.fixture(autouse=True, scope="module")
def known_costs() -> Iterator[None]:
    with known_plans():
        yield


@dataclass(frozen=True)
class Finished:
    """A fit of a fragment of a structure."""

    whole: MolecularSystem
    place: FragmentInPlace
    out: Path
    work: Path
    result: Validation

    def again(self, fragment: Fragment) -> None:
        """Fit another fragment of the same atoms in the same folder."""
        settings = replace(SETTINGS, flow=SMALL, fragment=fragment)
        out = self.out.with_name("other.pt")
        fit(self.place.molecule, out, settings, self.work, budget=QUICK)


def fitted(
    whole: MolecularSystem,
    particles: str,
    folder: Path,
    stop_at: str,
    budget: FitBudget = QUICK,
) -> Finished:
    """Return a fit that was stopped before a stage, and gone on with by two workers."""
    place = cut_surroundings(whole, select_atoms(whole.topology, particles))
    out, work = folder / "model.pt", folder / "work"
    settings = replace(SETTINGS, flow=SMALL, fragment=place.fragment)

    def run(workers: int, display: Record) -> Validation:
        chosen = replace(settings, workers=workers)
        return fit(
            place.molecule, out, chosen, work, display, budget=budget, measured_in=place.given
        )

    with pytest.raises(KeyboardInterrupt):
        run(1, Record(stop_at))
    before = {path: path.read_bytes() for path in work.rglob("*.h5")}
    result = run(2, Record())
    assert {path: path.read_bytes() for path in before} == before
    return Finished(whole, place, out, work, result)


@pytest.fixture(scope="module")
def ligand(known_costs: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    whole = ligands(2, PEROXIDE)
    folder = tmp_path_factory.mktemp("ligand")
    return fitted(whole, "resSeq 1", folder, "train", LIGAND)


@pytest.fixture(scope="module")
def side_chain(known_costs: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    whole = peptide_in_water()
    return fitted(whole, "sidechain", tmp_path_factory.mktemp("side-chain"), "simulate")


def test_the_model_of_a_ligand_is_of_the_ligand_alone(ligand: Finished) -> None:
    metadata = read_metadata(ligand.out)
    assert metadata.molecule is not None
    assert set(metadata.molecule.residue_names) == {"LIG"}
    assert metadata.num_atoms() == 4
    assert metadata.moved is None
    assert metadata.coordinates == "internal"
    made = metadata.provenance["fit"]
    assert made["settings"]["fragment"]["moved"] == list(range(4))
    card = ligand.out.with_suffix(".md").read_text()
    others = len(ligand.place.atoms) - 4
    assert f"4 atoms in place, made among {others} others, at 310 K" in card
    assert "among the others as dynamics have left them" in card
    assert 0 < ligand.result.acceptance <= 1


def test_data_hold_the_surroundings_and_basins_are_of_the_fragment(ligand: Finished) -> None:
    found = load_trajectories(ligand.work / "data")
    assert found.molecule.num_atoms == len(ligand.place.atoms)
    basins = read_basins(ligand.work / "data" / "basins.npz").basins
    assert basins.torsions.shape == (len(basins), 1)
    assert len(basins) > 1
    # Surroundings near the fragment move, those farther out do not.
    frames = np.concatenate([t.positions for t in found.trajectories])
    spread = frames.std(0).max(1)
    system = ligand.place.molecule.system
    masses = np.array([system.getParticleMass(i)._value for i in range(frames.shape[1])])
    assert 0 < (masses == 0).sum() < len(masses) - 4
    np.testing.assert_array_equal(spread > 1e-4, masses > 0)


def test_another_fragment_is_another_fit(ligand: Finished) -> None:
    trained = load_trained(ligand.work / "train")
    assert trained.config.flow.fragment == ligand.place.fragment
    other = copies_of(ligand.place.molecule, "OTH")[0]
    with pytest.raises(FileExistsError, match="fragment"):
        ligand.again(Fragment(tuple(other), tuple(other)))


def copies_of(whole: MolecularSystem, name: str) -> list[list[int]]:
    """Return the particles of each residue of a name."""
    residues = [r for r in whole.topology.residues() if r.name == name]
    return [[atom.index for atom in residue.atoms()] for residue in residues]


def test_one_model_moves_both_copies_in_the_whole_system(ligand: Finished) -> None:
    whole = ligand.whole
    integrator = TimewarpMCMCIntegrator(temperature=310)
    for particles in copies_of(whole, "LIG"):
        integrator.addBlock(str(ligand.out), topology=whole.topology, particles=particles)
    integrator.setRandomNumberSeed(1)
    integrator.setDynamics(steps=20, stepSize=0.001, frictionCoeff=1.0)
    integrator.setProposalsPerStep(4)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(whole.system, integrator, platform)
    context.setPositions(whole.positions)
    integrator.step(60)
    statistics = [integrator.getBlockStatistics(i) for i in range(2)]
    assert all(0 < found.accepted < found.tried for found in statistics)


def test_the_model_of_a_side_chain_is_of_a_part(side_chain: Finished) -> None:
    metadata = read_metadata(side_chain.out)
    molecule = metadata.molecule
    assert molecule is not None
    assert {molecule.atom_names[i] for i in metadata.moved or ()} == {
        *("CG1", "HG11", "HG12", "HG13", "CG2", "HG21", "HG22", "HG23", "HB")
    }
    assert len(metadata.stretches or ()) == 7
    assert "HOH" not in molecule.residue_names
    # Wherever these atoms are bonded alike, and whatever is around them.
    topology, positions = load_structure(MOLECULES / "valine-dipeptide.pdb")
    (block,) = find_blocks(str(side_chain.out), topology, positions)
    assert len(block) == metadata.num_atoms()


def test_a_side_chain_is_moved_in_its_box_with_constraints(side_chain: Finished) -> None:
    whole, place = side_chain.whole, side_chain.place
    topology, positions = place.molecule.topology, place.molecule.positions
    (block,) = find_blocks(str(side_chain.out), topology, positions)
    integrator = TimewarpMCMCIntegrator(temperature=310)
    integrator.addBlock(str(side_chain.out), [place.atoms[i] for i in block])
    integrator.setDynamics(steps=5, stepSize=0.002, frictionCoeff=1.0)
    integrator.setProposalsPerStep(8)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(whole.system, integrator, platform)
    context.setPositions(whole.positions)
    integrator.step(5)
    assert integrator.getBlockStatistics(0).tried == 40
    state = context.getState(positions=True, energy=True)
    assert np.isfinite(state.getPotentialEnergy()._value)
    positions = state.getPositions(asNumpy=True)._value
    for number in range(whole.system.getNumConstraints()):
        a, b, length = whole.system.getConstraintParameters(number)
        found = np.linalg.norm(positions[a] - positions[b])
        assert found == pytest.approx(length._value, rel=1e-4)


def test_chains_in_another_structure_have_its_distribution(ligand: Finished) -> None:
    """That of the ligand while all else stands still: another flow, the one before refining, leads
    to the same one, in chains that do not go through the integrator.

    Five standard errors of the difference of two means of eight chains: with 14 degrees of freedom,
    a false alarm in 5,000 runs. A density that is wrong by 2 kT at either side is farther off.
    """
    whole = ligands(1, PEROXIDE)
    particles = copies_of(whole, "LIG")[0]
    molecule = molecule_from_topology(whole.topology, whole.system)
    (torsion,) = rotatable_torsions(molecule, Fragment(tuple(particles), tuple(particles)))

    def cosine(positions: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.cos(measure_torsions(positions, [torsion])[:, 0])
        return found

    def mean(chains: Sequence[np.ndarray], bias: float = 0.0) -> tuple[float, float]:
        each = [np.average(values, weights=np.exp(bias * values)) for values in chains]
        return float(np.mean(each)), float(np.std(each, ddof=1) / np.sqrt(len(each)))

    ours = [cosine(chain) for chain in integrator_chains(whole, ligand.out, particles)]
    trained = load_trained(ligand.work / "train")
    theirs = [cosine(chain) for chain in draw_chains(whole, trained, particles)]
    (found, error), (expected, its_error) = mean(ours), mean(theirs)
    allowed = 5 * np.hypot(error, its_error)
    assert abs(found - expected) < allowed
    assert abs(mean(ours, 2.0)[0] - expected) > allowed


def integrator_chains(
    whole: MolecularSystem, model: Path, particles: list[int]
) -> Iterator[np.ndarray]:
    """Yield the states of chains of the integrator that move nothing else."""
    for seed in range(1, 9):
        integrator = TimewarpMCMCIntegrator(str(model), temperature=310)
        integrator.setParticles(particles)
        integrator.setFrozenOthers(True)
        integrator.setRandomNumberSeed(seed)
        context = openmm.Context(whole.system, integrator, *make_platform("Reference"))
        context.setPositions(whole.positions)
        integrator.step(100)
        visited = []
        for _ in range(300):
            integrator.step(10)
            visited.append(get_positions(context))
        yield np.array(visited)


def draw_chains(
    whole: MolecularSystem, trained: TrainedFlow, particles: list[int]
) -> Iterator[np.ndarray]:
    """Yield the states of chains over draws of a flow that was trained in another structure."""
    molecule = molecule_from_topology(whole.topology, whole.system)
    config = trained.config.flow.model_copy(update={"known": tuple(particles)})
    flow = build_flow(config, molecule)
    flow.load_state_dict(trained.weights)
    energy = OpenMMEnergy(whole.system, 310.0, "Reference")
    start = torch.tensor(whole.positions)
    draws = draw(flow.eval(), energy, start, 20_000, torch.Generator().manual_seed(1))
    begin = log_weights_of(flow, energy, start[None], own_context=True)
    chains = run_chains(draws, begin.repeat(8), np.random.default_rng(1))
    for visited in chains.visited:
        yield draws.positions[visited[visited >= 0][100:]]
