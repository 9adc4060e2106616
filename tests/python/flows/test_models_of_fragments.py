"""A flow of a part as a model of the atoms that it looks at, and its blocks in larger molecules."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from generic_force_field import make_system, make_topology
from internal_flows import SMALL
from molecules import make
from openmm import app
from rdkit import Chem
from rdkit.Chem import AllChem
from test_internal_parts import part

from timewarp_openmm import TimewarpMCMCIntegrator, find_blocks, read_metadata
from timewarp_openmm.contract import ContractError, ModelMetadata
from timewarp_openmm.flows.export import export_model
from timewarp_openmm.flows.fragment import OfFragment, cut_out
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.internal.flow import InternalFlow
from timewarp_openmm.molecule import Molecule

VAL = "N[C@@H](C(C)C)C(=O)"
ALA = "N[C@@H](C)C(=O)"


def part_flow(
    name: str = "valine side chain",
) -> tuple[InternalFlow, ModelMetadata, torch.Tensor]:
    """Return an untrained flow of a part, its metadata and frames / nm."""
    molecule, moved, x = part(name)
    torch.manual_seed(0)
    flow = InternalFlow(InternalFlowConfig(**SMALL, moved=tuple(moved)), molecule)
    flow.fit_normalisation(x)
    return flow.eval(), metadata_of(flow, molecule, x[0]), x


def metadata_of(flow: InternalFlow, molecule: Molecule, positions: torch.Tensor) -> ModelMetadata:
    return ModelMetadata(
        molecule=molecule,
        noise_size=flow.noise_size,
        temperature=300.0,
        coordinates="internal",
        lag_times=[math.inf],
        lag_weights=[1.0],
        moved=flow.moved,
        stretches=[list(pair) for pair in flow.stretches or ()],
        torsion_noise=flow.torsion_noise,
        auxiliary_velocities=False,
        precision="double",
        reference_positions=positions.tolist(),
    )


def larger(smiles: str) -> tuple[app.Topology, openmm.System, np.ndarray]:
    """Return topology, System and positions / nm of another molecule."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=7)
    AllChem.MMFFOptimizeMolecule(mol)
    return make_topology(mol, "PEP"), make_system(mol), mol.GetConformer().GetPositions() / 10


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flow, metadata, _ = part_flow()
    return export_model(*cut_out(flow, metadata), tmp_path_factory.mktemp("m") / "valine.pt")


@pytest.mark.parametrize("name", ["valine side chain", "plane beside alanine"])
def test_it_is_the_flow_without_what_it_does_not_look_at(name: str) -> None:
    flow, metadata, x = part_flow(name)
    module, own = cut_out(flow, metadata)
    assert own.molecule is not None
    assert metadata.molecule is not None
    kept = module.atoms.tolist()
    assert len(own.molecule.elements) == len(kept) < metadata.molecule.num_atoms
    assert [kept[i] for i in own.moved_atoms()] == metadata.moved
    # The hydrogens of the caps are, for instance.
    left_out = set(range(metadata.molecule.num_atoms)) - set(kept)
    assert sum(metadata.molecule.elements[i] == "H" for i in left_out) >= 6
    noise = torch.randn(32, flow.noise_size, generator=torch.Generator().manual_seed(2)).double()
    lag = torch.full((32,), math.inf, dtype=torch.float64)
    constrained = torch.ones(len(own.stretches or ()), dtype=torch.bool)
    with torch.no_grad():
        for arguments in ((), (constrained,)):
            name = "_constrained" if arguments else ""
            y, w, log_q = getattr(flow, f"sample{name}")(x[0], noise, lag, *arguments)
            y2, w2, log_q2 = getattr(module, f"sample{name}")(x[0][kept], noise, lag, *arguments)
            assert torch.equal(y[:, kept].nan_to_num(), y2.nan_to_num())
            assert torch.equal(w[:, kept], w2)
            assert torch.equal(log_q.nan_to_num(), log_q2.nan_to_num())
            inside = y.isfinite().flatten(1).all(1)
            assert inside.sum() > 10
            back = getattr(module, f"log_prob{name}")(
                y2[inside], w2[inside], x[:1, kept], lag[inside], *arguments
            )
            torch.testing.assert_close(back, log_q2[inside], atol=1e-8, rtol=0)


def test_a_flow_that_looks_farther_than_it_says_is_refused() -> None:
    flow, metadata, _ = part_flow()
    nearest = {n for i in flow.moved or () for n in metadata.molecule.graph()[i]}  # type: ignore[union-attr]
    flow.seen = sorted({*(flow.moved or ()), *nearest})
    with pytest.raises(ContractError, match="they change what it proposes"):
        cut_out(flow, metadata)


def test_a_flow_of_a_whole_molecule_stays_as_it_is() -> None:
    molecule, positions = make("CCCO", 1)
    flow = InternalFlow(InternalFlowConfig(), molecule)
    metadata = metadata_of(flow, molecule, torch.tensor(positions))
    assert cut_out(flow, metadata) == (flow, metadata)
    assert not isinstance(cut_out(flow, metadata)[0], OfFragment)


def stepped(
    integrator: TimewarpMCMCIntegrator,
    system: openmm.System,
    positions: np.ndarray,
    moved: list[int],
) -> np.ndarray:
    """Return positions [N, 3] / nm after some steps of a block, which has moved nothing else."""
    integrator.setFrozenOthers(True)
    # Nothing is learned: only small steps from the state are accepted.
    integrator.setLatentCorrelation([(0.9999, 1.0)])
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    integrator.step(200)
    after = context.getState(positions=True).getPositions(asNumpy=True)._value
    others = [i for i in range(len(positions)) if i not in moved]
    assert integrator.getBlockStatistics(0).accepted > 0
    assert np.array_equal(after[others], np.array(positions, dtype=float)[others])
    return after


def test_a_block_of_it_moves_one_side_chain_of_a_larger_molecule(model: Path) -> None:
    topology, system, positions = larger(f"CC(=O){ALA}{VAL}{ALA}NC")
    places = find_blocks(model, topology, positions)
    assert len(places) == 1
    metadata = read_metadata(model)
    moved = [places[0][i] for i in metadata.moved_atoms()]
    integrator = TimewarpMCMCIntegrator(temperature=300.0)
    integrator.addBlock(model, topology=topology, positions=positions)
    assert integrator.getBlockParticles(0) == places[0]
    after = stepped(integrator, system, positions, moved)
    assert not np.array_equal(after[moved], positions[moved])


def test_a_block_of_a_peptide_plane_moves_it_inside_of_a_longer_chain(tmp_path: Path) -> None:
    """Nothing but the plane and what is on both alpha carbons moves, all of which stay bonded."""
    flow, metadata, _ = part_flow("plane beside alanine")
    path = export_model(*cut_out(flow, metadata), tmp_path / "plane.pt")
    gly = "NCC(=O)"
    topology, system, positions = larger(f"CC(=O){gly}{ALA}{gly}{ALA}NC")
    (place,) = find_blocks(path, topology, positions)
    moved = [place[i] for i in read_metadata(path).moved_atoms()]
    integrator = TimewarpMCMCIntegrator(temperature=300.0)
    integrator.addBlock(path, place)
    after = stepped(integrator, system, positions, moved)
    assert (np.abs(after[moved] - positions[moved]).max(axis=1) > 0).all()
    bonds = [(a.index, b.index) for a, b in topology.bonds()]
    lengths = [np.linalg.norm(after[i] - after[j]) for i, j in bonds]
    assert max(lengths) < 0.18


def test_several_places_are_named_and_one_can_be_meant(model: Path) -> None:
    topology, system, positions = larger(f"CC(=O){VAL}{ALA}{VAL}NC")
    places = find_blocks(model, topology, positions)
    assert len(places) == 2
    integrator = TimewarpMCMCIntegrator(temperature=300.0)
    with pytest.raises(ValueError, match="fits in 2 places, with its context at 1:PEP1 "):
        integrator.addBlock(model, topology=topology, positions=positions)
    moved = read_metadata(model).moved_atoms()
    meant = [places[1][i] for i in moved]
    integrator.addBlock(model, meant, topology=topology, positions=positions)
    assert integrator.getBlockParticles(0) == places[1]
    integrator.addBlock(model, places[0])
    integrator.setFrozenOthers(True)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    integrator.step(20)
    with pytest.raises(ValueError, match="among particles="):
        integrator.addBlock(model, range(4), topology=topology, positions=positions)


def test_where_it_fits_nowhere_that_is_said(model: Path) -> None:
    topology, _, positions = larger(f"CC(=O){ALA}{ALA}NC")
    assert find_blocks(model, topology, positions) == []
    with pytest.raises(ValueError, match="no place for the model"):
        TimewarpMCMCIntegrator(temperature=300.0).addBlock(model, topology=topology)


def test_residues_of_the_other_chirality_are_left_out(model: Path) -> None:
    mirrored = VAL.replace("@@", "@")
    topology, _, positions = larger(f"CC(=O){VAL}{ALA}{mirrored}NC")
    (place,) = find_blocks(model, topology, positions)
    integrator = TimewarpMCMCIntegrator(temperature=300.0)
    # The other residue does not matter if this one is meant.
    integrator.addBlock(model, place, topology=topology, positions=positions)
    assert integrator.getBlockParticles(0) == place
    others = [i for i in range(topology.getNumAtoms()) if i not in place]
    with pytest.raises(ValueError, match="another stereoisomer"):
        integrator.addBlock(model, others, topology=topology, positions=positions)


def test_models_of_whole_molecules_have_no_places() -> None:
    from timewarp_openmm import pretrained

    with pytest.raises(ValueError, match="moves all its atoms"):
        find_blocks(pretrained("alanine-dipeptide"), app.Topology())
