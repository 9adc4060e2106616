"""What moves between two context atoms: how it is placed, what is seen of its ends, its density."""

from __future__ import annotations

import math

import numpy as np
import openmm
import pytest
import torch
from test_internal_parts import BRIDGES, part
from test_models_of_fragments import metadata_of
from torch import Tensor

from timewarp_openmm.contract import ContractError
from timewarp_openmm.flows.check import check_contract, check_jacobian
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.internal.coordinates import InternalCoordinates
from timewarp_openmm.flows.internal.flow import InternalFlow
from timewarp_openmm.flows.internal.shape import ShapeChart
from timewarp_openmm.flows.internal.support import check_support
from timewarp_openmm.flows.internal.surroundings import Surroundings
from timewarp_openmm.molecule import Molecule
from timewarp_openmm.molecule.bridges import Bridge, turning_bridges
from timewarp_openmm.molecule.graph import molecule_from_topology
from timewarp_openmm.molecule.selection import select_atoms
from timewarp_openmm.molecule.zmatrix import CoordinateKind, build_zmatrix
from timewarp_openmm.simulation.capped_peptides import capped_peptide

#: nm; of the noise on moved atoms.
NOISE = 0.003


def the_bridge(molecule: Molecule, moved: list[int]) -> Bridge:
    (bridge,) = turning_bridges(molecule.graph(), moved, ())
    return bridge


def bridge_flow(name: str) -> tuple[InternalFlow, Molecule, list[int], Tensor]:
    """Return a flow that has learned nothing but where the coordinates of frames / nm lie, in which
    context atoms stand still and each moved one is shaken for itself."""
    molecule, moved, x = part(name)
    x = x[:1].repeat(4000, 1, 1)
    generator = torch.Generator().manual_seed(2)
    shape = (len(x), len(moved), 3)
    x[:, moved] += NOISE * torch.randn(shape, generator=generator, dtype=torch.float64)
    torch.manual_seed(0)
    flow = InternalFlow(InternalFlowConfig(moved=tuple(moved)), molecule)
    flow.fit_normalisation(x)
    return flow.eval().requires_grad_(False), molecule, moved, x


@pytest.mark.parametrize("name", BRIDGES)
def test_both_atoms_are_placed_about_the_axis(name: str) -> None:
    molecule, moved, _ = part(name)
    bridge = the_bridge(molecule, moved)
    placed = {p.atom: p for p in build_zmatrix(molecule, moved).placed}
    first, second = placed[bridge.first], placed[bridge.second]
    assert first.references == (bridge.start, bridge.end, bridge.before)
    assert first.kind is CoordinateKind.ROTATABLE
    assert second.references == (bridge.end, bridge.start, bridge.first)
    is_amide = "plane" in name
    assert second.kind is (CoordinateKind.IMPROPER if is_amide else CoordinateKind.ROTATABLE)
    graph = molecule.graph()
    for end, atom in ((bridge.start, bridge.first), (bridge.end, bridge.second)):
        beside = [n for n in graph[end] if n in moved and n != atom]
        assert beside
        for other in beside:
            assert placed[other].references[0] == end
            assert placed[other].references[2] == atom
            assert placed[other].kind is CoordinateKind.IMPROPER


def test_a_bridge_that_its_ends_hold_is_placed_from_them() -> None:
    """Two neighbours of an alpha carbon stay: they say where the carbonyl carbon is."""
    molecule, moved, _ = part("plane alone")
    assert turning_bridges(molecule.graph(), moved, ()) == []
    assert all(not p.kind.is_circular for p in build_zmatrix(molecule, moved).placed)


def test_one_atom_is_the_end_of_one_bridge() -> None:
    """Two planes about one alpha carbon: nothing of it stays that says where they are."""
    molecule, _, _ = part("plane between glycines")
    graph = molecule.graph()
    heavy = [i for i in graph if molecule.elements[i] != "H"]
    # C-C(=O)-N-CA-C(=O)-N-CA-C(=O)-N-C: three planes, of which the last two meet at the second CA.
    moved = [4 + 1, 4 + 2, 4 + 3, 4 + 5, 4 + 6, 4 + 7]
    assert [molecule.elements[heavy[i]] for i in moved] == list("CONCON")
    atoms = {heavy[i] for i in moved}
    with_hydrogens = atoms | {n for i in atoms for n in graph[i] if molecule.elements[n] == "H"}
    assert len(turning_bridges(graph, with_hydrogens, ())) == 0, "hydrogens of CA stay"
    alphas = {heavy[4], heavy[8]}
    all_of_it = with_hydrogens | {
        n for i in alphas for n in graph[i] if molecule.elements[n] == "H"
    }
    with pytest.raises(ValueError, match="nothing says in which direction"):
        build_zmatrix(molecule, sorted(all_of_it))


@pytest.mark.parametrize("name", BRIDGES)
def test_lengths_do_not_depend_on_how_far_it_is_turned(name: str) -> None:
    """All of it, turned about the axis, keeps every bond but none of the angles at the ends."""
    molecule, moved, x = part(name)
    bridge = the_bridge(molecule, moved)
    flow, *_ = bridge_flow(name)
    rotatable, sectors, stiff, _ = flow.shape.to_shape(x[:1])
    graph = molecule.graph()
    axis = (x[0, bridge.end] - x[0, bridge.start]).double()
    lengths = []
    for angle in (0.0, 1.0, 2.0):
        turned = rotatable.clone()
        turned[0, 0] += angle
        # What stiff coordinates follow the torsion by was not learned of turned ones.
        raw = stiff + (flow.shape._guess(rotatable) - flow.shape._guess(turned)) @ flow.shape.whiten
        y, _ = flow.shape.to_positions(turned, sectors, raw, x[:1])
        assert torch.isfinite(y).all()
        lengths.append([float((y[0, i] - y[0, j]).norm()) for i, j in graph.edges])
        bond = (y[0, bridge.second] - y[0, bridge.first]) @ axis
        assert abs(float(bond - lengths_along(x, bridge, axis))) < 1e-12
    assert np.ptp(lengths, axis=0).max() < 1e-9


def lengths_along(x: Tensor, bridge: Bridge, axis: Tensor) -> Tensor:
    along: Tensor = (x[0, bridge.second] - x[0, bridge.first]).double() @ axis
    return along


def test_frames_of_hot_dynamics_are_inside_and_come_back() -> None:
    """At 600 K, from either side of the axis: each has a density, and whichever frames the chart
    was fitted to."""
    peptide = capped_peptide(["ALA", "GLY"], ("amber14/protein.ff14SB.xml",))
    moved = select_atoms(peptide.topology, "plane")
    integrator = openmm.LangevinMiddleIntegrator(600.0, 2.0, 0.001)
    integrator.setRandomNumberSeed(5)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(peptide.system, integrator, platform)
    context.setPositions(peptide.positions)
    context.setVelocitiesToTemperature(600.0, 6)
    frames = []
    for _ in range(80):
        integrator.step(100)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    x, molecule = torch.tensor(np.array(frames)), molecule_from_topology(peptide.topology)
    chart = ShapeChart(molecule, moved)
    chart.fit(x[:40], torch.full((40,), 1 / 40, dtype=torch.float64), True)
    assert not check_support(chart, molecule, x).any()
    rotatable, sectors, stiff, _ = chart.to_shape(x)
    assert torch.cos(rotatable[:, 0]).max() - torch.cos(rotatable[:, 0]).min() > 1
    y, _ = chart.to_positions(rotatable, sectors, stiff, x)
    assert (y - x).abs().max() < 1e-10


@pytest.mark.parametrize("name", [*BRIDGES, "plane alone"])
def test_how_its_ends_lie_to_each_other_is_seen(name: str) -> None:
    molecule, moved, x = part(name)
    graph = molecule.graph()
    starts = sorted({n for atom in moved for n in graph[atom]} - set(moved))
    seen = Surroundings(molecule, set(moved))
    assert [starts[0], starts[1]] in seen.bonds.tolist()
    seen.fit(x, torch.full((len(x),), 1 / len(x), dtype=torch.float64))
    # One side of the context, turned about the axis through its end, or moved along it.
    context = graph.subgraph(set(graph) - set(moved))
    side = sorted(n for n in context if n != starts[1] and n in reachable(context, starts[1]))
    axis = (x[0, starts[1]] - x[0, starts[0]]) / (x[0, starts[1]] - x[0, starts[0]]).norm()
    farther, turned = x[:1].clone(), x[:1].clone()
    farther[0, [starts[1], *side]] += 0.01 * axis
    turned[0, side] = turn(x[0, side] - x[0, starts[1]], axis, 0.5) + x[0, starts[1]]
    assert (seen(farther) - seen(x[:1])).abs().max() > 1
    assert (seen(turned) - seen(x[:1])).abs().max() > 0.1
    rigid = turn(x[0], axis, 0.7)[None] + 0.3
    torch.testing.assert_close(seen(rigid), seen(x[:1]), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["ring over context", "valine side chain", "two groups"])
def test_ends_that_bonds_join_are_not_joined_again(name: str) -> None:
    molecule, moved, _ = part(name)
    graph = molecule.graph()
    assert all(graph.has_edge(i, j) for i, j in Surroundings(molecule, set(moved)).bonds.tolist())


def reachable(graph, start: int) -> set[int]:
    found, wave = {start}, [start]
    while wave:
        wave = [n for i in wave for n in graph[i] if n not in found]
        found.update(wave)
    return found


def turn(vectors: Tensor, axis: Tensor, angle: float) -> Tensor:
    """Return vectors [K, 3] turned about an axis."""
    along = (vectors @ axis)[:, None] * axis
    across = torch.linalg.cross(axis.expand_as(vectors), vectors, dim=-1)
    return along + math.cos(angle) * (vectors - along) + math.sin(angle) * across


def test_draws_have_the_weights_that_their_density_says() -> None:
    """A normal distribution of all Cartesian coordinates is known exactly: its density in the mean
    over draws of the flow, divided by theirs, is 1, and the mean of the weights times the draws is
    where it lies. Seeds are fixed; with others 4 standard errors would fail once in 10,000."""
    flow, _, moved, x = bridge_flow("plane between glycines")
    centre, count = x.mean(0)[moved], 20_000
    weights, deviations = weights_of_draws(flow, x, moved, centre, 0.9 * NOISE, count)
    error = float(weights.std() / math.sqrt(count))
    assert error < 0.15
    assert abs(float(weights.mean()) - 1) < 4 * error
    mean = (weights[:, None] * deviations).mean(0)
    errors = (weights[:, None] * deviations).std(0) / math.sqrt(count)
    assert ((mean / errors).abs() < 4.7).all(), "3e-6 for each of 24"


def weights_of_draws(
    flow: InternalFlow, x: Tensor, moved: list[int], centre: Tensor, width: float, count: int
) -> tuple[Tensor, Tensor]:
    """Return normal density / density of draws [count], and draws' deviates [count, 3M]."""
    noise = torch.randn(count, flow.noise_size, generator=torch.Generator().manual_seed(4)).double()
    lag = torch.full((count,), math.inf, dtype=torch.float64)
    y, w, log_q = flow.sample(x[0], noise, lag)
    inside = y.isfinite().flatten(1).all(1)
    log_q = log_q + 0.5 * (w[:, moved] ** 2 + math.log(2 * math.pi)).flatten(1).sum(1)
    deviates = ((y[:, moved] - centre) / width).flatten(1)
    log_p = -0.5 * (deviates**2 + math.log(2 * math.pi * width**2)).sum(1)
    weights = torch.where(inside, torch.exp(log_p - log_q), torch.zeros_like(log_p))
    return weights, torch.where(inside[:, None], deviates, torch.zeros_like(deviates))


def without_the_axis(self: InternalCoordinates, bonds: Tensor, angles: Tensor) -> Tensor:
    """The fault: what is placed about an axis that is no bond has no volume element."""
    kept = [i for i in range(bonds.size(1)) if i not in self.left_out]  # type: ignore[attr-defined]
    volume = 2 * torch.log(bonds[:, kept]).sum(1) + torch.log(torch.sin(angles[:, kept])).sum(1)
    return volume


def test_a_volume_element_that_leaves_out_the_axis_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flow, molecule, moved, x = bridge_flow("plane between glycines")
    metadata = metadata_of(flow, molecule, x[0])
    check_contract(flow, metadata)
    check_jacobian(flow, metadata)
    bridge = the_bridge(molecule, moved)
    order = flow.shape.internal.order.tolist()[flow.shape.internal.num_given :]
    monkeypatch.setattr(
        InternalCoordinates, "left_out", [order.index(bridge.second)], raising=False
    )
    monkeypatch.setattr(InternalCoordinates, "log_volume", without_the_axis)
    with pytest.raises(ContractError, match="density from the Jacobian"):
        check_jacobian(flow, metadata)
    centre = x.mean(0)[moved]
    weights, _ = weights_of_draws(flow, x, moved, centre, 0.9 * NOISE, 4000)
    assert float(weights.mean()) > 20, "1 is right"
