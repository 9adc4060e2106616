"""What is peculiar to flows of a fragment in place: they do not know what is around it."""

from __future__ import annotations

import math

import pytest
import torch
from complexes import ligands
from flow_helpers import perturb
from molecules import shaken
from torch import Tensor

from timewarp_openmm.flows.in_place.config import InPlaceFlowConfig
from timewarp_openmm.flows.in_place.flow import InPlaceFlow
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.registry import build_flow
from timewarp_openmm.molecule.graph import Molecule, molecule_from_topology

SIZES = {"rotatable_layers": 2, "rotatable_hidden": 8, "stiff_layers": 2, "stiff_hidden": 8}


def structure() -> tuple[Molecule, Tensor]:
    """Return two ligands with another molecule after each, and frames like those of a training."""
    whole = ligands(2)
    molecule = molecule_from_topology(whole.topology, whole.system)
    return molecule, torch.tensor(shaken(whole.positions[None], 200, 0.003))


def second_ligand(molecule: Molecule) -> tuple[int, ...]:
    return tuple(i for i in range(molecule.num_atoms) if molecule.residue_id(i) == "3")


def whole_ligand() -> tuple[InPlaceFlow, Molecule, Tensor]:
    molecule, frames = structure()
    torch.manual_seed(0)
    flow = build_flow(InPlaceFlowConfig(**SIZES, known=second_ligand(molecule)), molecule).eval()
    assert isinstance(flow, InPlaceFlow)
    flow.fit_normalisation(frames.float())
    perturb(flow, 0.03)
    return flow.double(), molecule, frames


def test_a_whole_molecule_in_place_is_the_flow_of_the_molecule_alone() -> None:
    flow, molecule, frames = whole_ligand()
    own, known = flow.as_model()
    assert known == list(second_ligand(molecule))
    assert own.moved is None
    noise = torch.randn(16, flow.noise_size, generator=torch.Generator().manual_seed(1)).double()
    lag = torch.full((16,), math.inf, dtype=torch.float64)
    others = [i for i in range(molecule.num_atoms) if i not in known]
    with torch.no_grad():
        y, w, log_q = flow.sample(frames[0], noise, lag)
        own_y, own_w, own_log_q = own.sample(frames[0][known], noise, lag)
        assert torch.equal(y[:, known], own_y)
        assert torch.equal(w[:, known], own_w)
        assert torch.equal(log_q, own_log_q)
        assert torch.equal(y[:, others], frames[0][others].expand(16, -1, 3))
        assert (w[:, others] == 0).all()
        # Neither elsewhere, nor with other surroundings, is the density another.
        around = frames[3].clone()
        around[others] += 0.1
        torch.testing.assert_close(flow.log_prob(y, w, around[None], lag), log_q, atol=1e-8, rtol=0)


def test_the_known_atoms_need_not_be_all_of_a_structure_or_be_in_one_molecule_with_it() -> None:
    """A hydroxyl group of the other molecule, by a flow that knows this molecule alone."""
    molecule, frames = structure()
    known = tuple(i for i in range(molecule.num_atoms) if molecule.residue_id(i) == "4")
    graph = molecule.graph()
    oxygen = next(i for i in known if molecule.elements[i] == "O")
    (hydrogen,) = (i for i in graph[oxygen] if molecule.elements[i] == "H")
    config = InPlaceFlowConfig(**SIZES, known=known, moved=(hydrogen,))
    assert config.part == (hydrogen,)
    flow = build_flow(config, molecule)
    flow.fit_normalisation(frames.float())
    own, atoms = flow.as_model()
    assert flow.moved == [hydrogen]
    assert own.moved == [known.index(hydrogen)]
    assert [molecule.elements[atoms[i]] for i in own.moved] == ["H"]
    assert set(flow.seen or ()) <= set(known)


def test_the_configuration_says_what_is_known_and_moved() -> None:
    shared = InPlaceFlowConfig(**SIZES, known=(2, 3, 5, 7), moved=(3, 7))
    assert shared.fragment is not None
    own = shared.of_fragment(shared.fragment)
    assert own == InternalFlowConfig(**SIZES, moved=(1, 3))
    assert InPlaceFlowConfig(known=(2, 3)).part == (2, 3)
    assert InPlaceFlowConfig().fragment is None
    with pytest.raises(ValueError, match=r"moved names the atoms \[4\], which known does not"):
        InPlaceFlowConfig(known=(2, 3), moved=(3, 4))
    with pytest.raises(ValueError, match=r"draws independently: lag_times must be \[inf\]"):
        InPlaceFlowConfig().check_lag_times((2.0,))
