"""Charts of parts of molecules: there and back, and the volume element of Cartesian coordinates."""

from __future__ import annotations

import pytest
import torch
from molecules import make, shaken
from rdkit import Chem
from torch import Tensor

from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.internal.flow import InternalFlow
from timewarp_openmm.flows.internal.shape import ShapeChart
from timewarp_openmm.molecule import Molecule

#: By what is moved: a molecule, and the heavy atoms (the numbered ones of a pattern) that move with
#: their hydrogens, or with ``H`` before it the hydrogens of these alone. Of atoms with the number 9
#: it is always the hydrogens alone.
PARTS = {
    "valine side chain": ("CC(=O)N[C@@H](C(C)C)C(=O)NC", "NC(C=O)C([C:1])[C:2]"),
    "phenylalanine ring": (
        "CC(=O)N[C@@H](Cc1ccccc1)C(=O)NC",
        "C[c:1]1[c:2][c:3][c:4][c:5][c:6]1",
    ),
    "ring over context": ("CC(=O)N1CCC[C@H]1C(=O)NC", "[C:1]1[C:2][C:3]NC1C=O"),
    "middle of a chain": ("CCCCCCCO", "OCC[C:1][C:2]CC"),
    "atom with its substituents": ("CC(=O)N[C@@H](C(C)C)C(=O)NC", "N[C:1]([C:2])C=O"),
    "hydrogens of a CH2": ("CCCO", "H C[C:1]CO"),
    "hydrogens of a CH3": ("CCCO", "H [C:1]CCO"),
    "amine that inverts": ("CCCCN(C)CC", "CC[C:3][N:1]([C:2])C"),
    "two groups": ("CCCCCCO", "[C:1]CCCCC[O:2]"),
    "plane between glycines": ("CC(=O)NCC(=O)NCC(=O)NC", "CN[C:9][C:1](=[O:2])[N:3][C:9]C(=O)N"),
    "plane beside alanine": (
        "CC(=O)N[C@@H](C)C(=O)NCC(=O)NC",
        "CN[C:9]([C:1])[C:2](=[O:3])[N:4][C:9]C(=O)N",
    ),
    "bridge about a bond that turns": ("CCCCCCO", "CC[C:9][C:1][C:2][C:9]O"),
    "plane alone": ("CC(=O)NCC(=O)NCC(=O)NC", "CNC[C:1](=[O:2])[N:3]CC(=O)N"),
}
#: Those that are placed about the axis between two context atoms.
BRIDGES = [
    "plane between glycines",
    "plane beside alanine",
    "bridge about a bond that turns",
]


def part(name: str) -> tuple[Molecule, list[int], Tensor]:
    smiles, pattern = PARTS[name]
    molecule, positions = make(smiles, 1)
    query = Chem.MolFromSmarts(pattern.removeprefix("H "))
    match = Chem.AddHs(Chem.MolFromSmiles(smiles)).GetSubstructMatch(query)
    numbers = {match[a.GetIdx()]: a.GetAtomMapNum() for a in query.GetAtoms()}
    named = [atom for atom, number in numbers.items() if number]
    atoms = [atom for atom in named if numbers[atom] != 9]
    graph = molecule.graph()
    hydrogens = [n for i in named for n in graph[i] if molecule.elements[n] == "H"]
    moved = sorted(hydrogens if pattern.startswith("H ") else [*atoms, *hydrogens])
    assert 0 < len(moved) < molecule.num_atoms
    return molecule, moved, torch.tensor(shaken(positions, 60, 0.003))


@pytest.mark.parametrize("name", PARTS)
def test_frames_come_back_and_the_volume_is_that_of_cartesian_coordinates(name: str) -> None:
    molecule, moved, x = part(name)
    chart = ShapeChart(molecule, moved)
    chart.fit(x, torch.full((len(x),), 1 / len(x), dtype=torch.float64), True)
    assert chart.num_rotatable + chart.num_stiff == 3 * len(moved)
    rotatable, sectors, stiff, log_volume = chart.to_shape(x)
    y, log_volume_back = chart.to_positions(rotatable, sectors, stiff, x)
    assert (y - x).abs().max() < 1e-11
    assert (log_volume_back - log_volume).abs().max() < 1e-9
    context = [i for i in range(molecule.num_atoms) if i not in moved]
    assert torch.equal(y[:, context], x[:, context])

    def cartesian(flat: Tensor) -> Tensor:
        split = flat.split([chart.num_rotatable, chart.num_stiff])
        placed, _ = chart.to_positions(split[0][None], sectors[:1], split[1][None], x[:1])
        return placed[0, moved].flatten()

    jacobian = torch.autograd.functional.jacobian(
        cartesian, torch.cat([rotatable[0], stiff[0]]), vectorize=True
    )
    expected = torch.linalg.slogdet(jacobian).logabsdet + chart.fold.log().sum()
    assert abs(float(expected - log_volume[0])) < 1e-8


@pytest.mark.parametrize(
    "name", ["valine side chain", "ring over context", "hydrogens of a CH3", *BRIDGES]
)
def test_a_flow_of_it_places_what_it_is_given_back(name: str) -> None:
    molecule, moved, x = part(name)
    torch.manual_seed(0)
    flow = InternalFlow(InternalFlowConfig(moved=tuple(moved)), molecule)
    flow.fit_normalisation(x)
    noise = torch.randn(64, flow.noise_size, generator=torch.Generator().manual_seed(1)).double()
    lag = torch.full((64,), torch.inf, dtype=torch.float64)
    with torch.no_grad():
        y, w, log_q = flow.sample(x[0], noise, lag)
        inside = y.isfinite().flatten(1).all(1)
        assert inside.double().mean() > 0.5
        found = flow.log_prob(y[inside], w[inside], x[:1], lag[inside])
        torch.testing.assert_close(found, log_q[inside], atol=1e-8, rtol=0)
