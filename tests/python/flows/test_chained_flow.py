"""Parts made one after the other: earlier ones stay, and chirality, rings and labels are those of
the whole molecule.

What every flow must keep, the chained one must, too: `test_every_flow`.
"""

from __future__ import annotations

import math
from copy import deepcopy
from functools import lru_cache

import pytest
import torch
from flow_helpers import perturb
from internal_flows import INF, draw
from molecules import make, shaken
from pydantic import ValidationError
from rdkit import Chem
from torch import Tensor

from timewarp_openmm.flows.chained.config import ChainedFlowConfig
from timewarp_openmm.flows.chained.flow import ChainedFlow
from timewarp_openmm.flows.check import Calls, density_by_jacobian
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.internal.flow import InternalFlow
from timewarp_openmm.molecule import Molecule
from timewarp_openmm.molecule.rotatable_torsions import rotatable_torsions
from timewarp_openmm.molecule.stereochemistry import Stereochemistry
from timewarp_openmm.molecule.torsions import measure_torsions

SMALL = {
    "rotatable_layers": 2,
    "rotatable_hidden": 16,
    "stiff_layers": 2,
    "stiff_hidden": 16,
    "stiff_transform": "spline",
    "attention": {"d_model": 16, "num_layers": 1, "feedforward": 16},
}
#: Chains whose couplings are steered by the atom transformer, whose tokens are all atoms.
ATTENTION = ("amine in two parts",)
VALINE = "CC(=O)N[C@@H](C(C)C)C(=O)NC"
#: A molecule; a pattern of its heavy atoms, whose numbers say in which part they come with their
#: hydrogens (those without a number come first, or are context if there is a 1); and the places in
#: the pattern of atoms whose hydrogens come in part 2 whatever the atom does.
CHAINS = {
    "side chain last": (VALINE, "CC(=O)NC(C([C:2])[C:2])C(=O)NC", (5,)),
    "beta carbon later": (VALINE, "CC(=O)NC([C:2]([C:2])[C:2])C(=O)NC", ()),
    "residue by residue": (
        VALINE,
        "CC(=O)[N:2][C:2]([C:2]([C:2])[C:2])[C:2](=[O:2])[N:3][C:3]",
        (),
    ),
    "ring closed later": ("CC(=O)N1CCC[C@H]1C(=O)NC", "CC(=O)N1[C:2][C:2][C:2]C1C(=O)NC", ()),
    "amine in two parts": ("CCCCN(C)CC", "CCCCN([C:2])CC", ()),
    "part": (VALINE, "CC(=O)NC([C:1]([C:2])[C:2])C(=O)NC", (5,)),
}


def chain_of(name: str) -> tuple[Molecule, ChainedFlowConfig]:
    """Return a molecule and the configuration of a small chain."""
    smiles, pattern, bare = CHAINS[name]
    molecule, _ = make(smiles)
    query = Chem.MolFromSmarts(pattern)
    match = Chem.AddHs(Chem.MolFromSmiles(smiles)).GetSubstructMatch(query)
    graph = molecule.graph()
    part = {}
    for atom in query.GetAtoms():
        number, place = atom.GetAtomMapNum(), match[atom.GetIdx()]
        part[place] = number
        for neighbour in graph[place]:
            if molecule.elements[neighbour] == "H":
                part[neighbour] = 2 if place in bare else number
    has_context = 1 in part.values()
    moved = tuple(sorted(i for i in part if part[i] > 0)) if has_context else None
    numbers = sorted(set(part.values()) - {0, 1})
    later = tuple(tuple(sorted(i for i in part if part[i] == n)) for n in numbers)
    conditioner = "attention" if name in ATTENTION else "mlp"
    options = {**SMALL, "conditioner": conditioner, "moved": moved, "later_parts": later}
    return molecule, ChainedFlowConfig.model_validate(options)


@lru_cache
def trained_like(name: str) -> tuple[ChainedFlow, Tensor]:
    """Return a chain with weights like those of a trained one, and frames [F, N, 3] / nm; both in
    float64."""
    molecule, config = chain_of(name)
    _, positions = make(CHAINS[name][0], 1)
    frames = torch.tensor(shaken(positions, 300, 0.003))
    torch.manual_seed(0)
    flow = ChainedFlow(config, molecule)
    flow.fit_normalisation(frames)
    perturb(flow, 0.02)
    return flow.double().requires_grad_(False), frames


def draws(flow: ChainedFlow, frames: Tensor, count: int = 8) -> tuple[Tensor, ...]:
    """Return noise, lag times, and the proposals on the chart that are made of them."""
    noise = draw(flow, 10 * count).double()
    lag = torch.full((len(noise),), INF, dtype=torch.float64)
    y, w, log_q = flow.sample(frames[0], noise, lag)
    inside = torch.nonzero(torch.isfinite(log_q)).flatten()[:count]
    assert len(inside) == count
    return noise[inside], lag[inside], y[inside], w[inside], log_q[inside]


each_chain = pytest.mark.parametrize("name", CHAINS)


@each_chain
def test_frames_come_back_and_the_density_is_that_of_the_jacobian(name: str) -> None:
    flow, frames = trained_like(name)
    molecule, _ = chain_of(name)
    lag = torch.full((1,), INF, dtype=torch.float64).expand(len(frames))
    assert not flow.check_support(frames).any()
    assert torch.isfinite(flow.log_prob(frames, torch.zeros_like(frames), frames, lag)).all()
    noise, lag, y, w, log_q = draws(flow, frames)
    x = frames[:1]
    torch.testing.assert_close(flow.invert(y, w, x, lag), noise, atol=1e-6, rtol=0)
    torch.testing.assert_close(flow.log_prob(y, w, x, lag), log_q, atol=1e-8, rtol=0)
    for kept in ((), tuple(range(0, len(flow.stretches or ()), 2))):
        calls = Calls(flow, kept, tuple(flow.stretches or ()))
        found, expected = density_by_jacobian(calls, x[0], noise[0], INF, molecule, flow.moved)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


@each_chain
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_noise_of_later_parts_leaves_earlier_ones_to_the_last_bit(
    name: str, dtype: torch.dtype
) -> None:
    """With bonds that keep their lengths, too, and wherever the later noise leads."""
    flow, frames = trained_like(name)
    _, config = chain_of(name)
    noise, lag, _, _, _ = draws(flow, frames)
    sizes = [link.num_shape for link in flow.links]
    named = {atom for part in config.later_parts for atom in part}
    first = [i for i in range(flow.num_atoms) if i not in named]
    parts = [first, *map(list, config.later_parts)]
    kept = torch.ones(len(flow.stretches or ()), dtype=torch.bool)
    x, noise, lag = frames[0].to(dtype), noise.to(dtype), lag.to(dtype)
    for changed in range(1, len(parts)):
        other = noise.clone()
        start = sum(sizes[:changed])
        other[:, start : start + sizes[changed]] = 3 * torch.randn(
            (len(noise), sizes[changed]), generator=torch.Generator().manual_seed(changed)
        ).to(dtype)
        earlier = sorted(atom for part in parts[:changed] for atom in part)
        for sample in (
            flow.sample,
            lambda *arguments: flow.sample_constrained(*arguments, kept),
        ):
            y, w, _ = sample(x, noise, lag)
            y_other, w_other, _ = sample(x, other, lag)
            assert torch.equal(y[:, earlier], y_other[:, earlier])
            assert not torch.equal(y[:, parts[changed]], y_other[:, parts[changed]])
            assert torch.equal(w, w_other)


def test_a_chain_of_one_part_is_the_flow_of_the_whole() -> None:
    molecule, positions = make(VALINE)
    frames = torch.tensor(shaken(positions, 100, 0.003))
    torch.manual_seed(0)
    chain = ChainedFlow(ChainedFlowConfig(**SMALL), molecule)
    torch.manual_seed(0)
    whole = InternalFlow(InternalFlowConfig(**SMALL), molecule)
    noise, lag = draw(whole, 16), torch.full((16,), INF)
    for flow in (chain, whole):
        flow.fit_normalisation(frames)
        perturb(flow, 0.02)
        flow.requires_grad_(False)
    assert chain.torsion_noise == whole.torsion_noise
    assert chain.stretches == whole.stretches
    for found, expected in zip(
        chain.sample(frames[0].float(), noise, lag),
        whole.sample(frames[0].float(), noise, lag),
        strict=True,
    ):
        assert torch.equal(found.nan_to_num(), expected.nan_to_num())


@each_chain
def test_velocities_are_the_last_of_the_noise(name: str) -> None:
    """As the contract has it, and as latent steps take it, which leave velocities alone."""
    flow, frames = trained_like(name)
    noise, _, _, w, _ = draws(flow, frames)
    moved = list(range(flow.num_atoms)) if flow.moved is None else flow.moved
    assert torch.equal(w[:, moved].flatten(1), noise[:, -3 * len(moved) :])


@each_chain
def test_chirality_never_flips(name: str) -> None:
    """Of no centre, whichever part tells it, however far the noise is from that of training."""
    flow, frames = trained_like(name)
    noise = 12 * draw(flow, 1000).double()
    y, _, log_q = flow.sample(frames[0], noise, torch.full((1000,), INF).double())
    inside = torch.isfinite(log_q)
    assert torch.equal(inside, y.isfinite().flatten(1).all(1))
    assert inside.sum() > 20
    assert (~inside).sum() > 20
    reference = Stereochemistry(chain_of(name)[0], frames[0].numpy())
    assert len(reference.atoms) > 0
    assert not reference.flipped(y[inside].numpy())[0].any()


@each_chain
def test_mirror_image_has_no_density(name: str) -> None:
    flow, frames = trained_like(name)
    x, lag = frames[:1], torch.full((1,), INF, dtype=torch.float64)
    mirrored = x * torch.tensor([1.0, 1.0, -1.0])
    assert flow.log_prob(mirrored, torch.zeros_like(x), x, lag).item() == -INF


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("side chain last", [["C4"], ["C5"]]),
        ("beta carbon later", [[], ["C4", "C5"]]),
        ("part", [["C4"], ["C5"]]),
    ],
)
def test_the_part_with_the_last_neighbour_of_a_centre_tells_its_chirality(
    name: str, told: list[list[str]]
) -> None:
    flow, frames = trained_like(name)
    names = chain_of(name)[0].atom_names
    for number, expected in enumerate(told):
        other = deepcopy(flow)
        chirality = other.links[number].shape.chirality
        assert [names[i] for i in chirality.fixed_centres] == expected
        chirality.fixed.logical_not_()
        if expected:
            with pytest.raises(ValueError, match=f"{expected[0]} .* has the other chirality"):
                other.check_support(frames)


@each_chain
def test_labels_keep_their_chirality(name: str) -> None:
    """Two hydrogens of CH2 and CH3 groups exchanged in x: proposals have them exchanged, with the
    same density, also where what they hang on comes earlier."""
    flow, frames = trained_like(name)
    molecule, _ = chain_of(name)
    noise, lag, y, w, log_q = draws(flow, frames)
    graph = molecule.graph()
    moved = range(molecule.num_atoms) if flow.moved is None else flow.moved
    groups = [
        [n for n in graph[i] if molecule.elements[n] == "H" and n in moved]
        for i in graph
        if molecule.elements[i] == "C"
    ]
    pairs = [group[:2] for group in groups if len(group) > 1]
    kept = torch.zeros(len(flow.stretches or ()), dtype=torch.bool)
    kept[::2] = True
    for exchanged in (pairs, pairs[-1:]):
        order = list(range(molecule.num_atoms))
        for a, b in exchanged:
            order[a], order[b] = b, a
        swapped = frames[0, order]
        y_swapped, _, log_q_swapped = flow.sample(swapped, noise, lag)
        torch.testing.assert_close(y_swapped, y[:, order], atol=1e-9, rtol=0)
        torch.testing.assert_close(log_q_swapped, log_q, atol=1e-9, rtol=0)
        # There is no way from one labelling to the other.
        assert (flow.log_prob(y, w, swapped[None], lag) == -math.inf).all()
        y_kept, w_kept, log_q_kept = flow.sample_constrained(swapped, noise, lag, kept)
        found = flow.log_prob_constrained(y_kept, w_kept, swapped[None], lag, kept)
        torch.testing.assert_close(found, log_q_kept, atol=1e-8, rtol=0)


def test_each_number_of_torsion_noise_turns_one_torsion() -> None:
    flow, frames = trained_like("side chain last")
    molecule, _ = chain_of("side chain last")
    torsions = rotatable_torsions(molecule)
    assert len(flow.torsion_noise or ()) == len(torsions)
    noise, lag, y, _, _ = draws(flow, frames, 1)
    turned = set()
    for place in flow.torsion_noise or ():
        other = noise.clone()
        other[:, place] += 0.3
        found, _, _ = flow.sample(frames[0], other, lag)
        change = torch.tensor(
            measure_torsions(found.numpy(), torsions) - measure_torsions(y.numpy(), torsions)
        )
        angles = torch.remainder(change[0] + math.pi, 2 * math.pi) - math.pi
        turned.add(int(angles.abs().argmax()))
    assert turned == set(range(len(torsions)))


def test_a_chain_with_context_sees_what_its_links_see() -> None:
    flow, frames = trained_like("part")
    assert flow.seen is not None
    assert len(flow.seen) < flow.num_atoms
    others = [i for i in range(flow.num_atoms) if i not in flow.seen]
    noise, lag, y, _, log_q = draws(flow, frames)
    elsewhere = frames[0].clone()
    elsewhere[others] += 0.1
    y_other, _, log_q_other = flow.sample(elsewhere, noise, lag)
    assert torch.equal(y[:, flow.moved], y_other[:, flow.moved])
    assert torch.equal(log_q, log_q_other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"later_parts": ((3, 4), (4,))}, r"more than one later part names the atoms \[4\]"),
        ({"later_parts": ((4, 3),)}, "in ascending order"),
        ({"later_parts": ((),)}, "at least one"),
        ({"moved": (3, 4), "later_parts": ((4, 5),)}, r"the atoms \[5\], which moved does not"),
        ({"moved": (3, 4), "later_parts": ((3, 4),)}, "none comes first"),
    ],
)
def test_configurations_that_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ChainedFlowConfig.model_validate(options)


@pytest.mark.parametrize(
    ("later", "words"),
    [
        # CCCO: carbons 0 to 2, oxygen 3, hydrogens 4 to 6, 7 and 8, 9 and 10, 11.
        (((99,),), r"atoms \[99\], but there are 12 atoms"),
        ((tuple(range(12)),), "none comes first"),
        (((1, 7, 8),), "do not hang together: bonds join .*C0"),
        (((4, 5),), r"H4 .*H5 .*H6 .* are equivalent and must be made together"),
        (((3, 11),), r"H9 .*H10 .* not before anything else that is bonded to .*C2"),
        (((2, 3, 9, 10, 11), (1, 7, 8)), "do not hang|at least 4 atoms|equivalent"),
    ],
)
def test_parts_that_cannot_be_made_in_this_order(
    later: tuple[tuple[int, ...], ...], words: str
) -> None:
    molecule, _ = make("CCCO")
    with pytest.raises(ValueError, match=words):
        ChainedFlow(ChainedFlowConfig(later_parts=later), molecule)
