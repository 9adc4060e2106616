"""Alanine dipeptide, sampled with the bundled model, against references that know of no flow.

Free energies and the (phi, psi) histogram come from umbrella sampling (tests/data, made by
benchmarks/umbrella_sampling.py), energies and local geometry from molecular dynamics run here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import chains
import mdtraj
import numpy as np
import openmm
import pytest
from alanine_samples import Frames, record, umbrella_reference, with_error
from chains import Chain
from numpy.typing import NDArray
from scipy import stats

from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule
from timewarp_openmm.units import GAS_CONSTANT

TEMPERATURES = (310.0, 345.0)  # K
BURN_IN, STRIDE = 400, 4


@dataclass(frozen=True)
class Length:
    """How much is run: iterations of the chains, ps of dynamics."""

    iterations: int
    picoseconds: int


SHORT, LONG = Length(16_000, 60), Length(400_000, 1000)


@pytest.fixture(
    scope="module",
    params=[pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.long)],
)
def length(request: pytest.FixtureRequest) -> Length:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return named_molecule("alanine-dipeptide")


@pytest.fixture(scope="module")
def sampled(length: Length) -> dict[float, Frames]:
    """The integrator's chain at each of two temperatures."""
    results = {}
    for seed, temperature in enumerate(TEMPERATURES, 1):
        chain = Chain("alanine-dipeptide", chains.bundled(), "Reference", 64, seed)
        simulation = chain.simulation()
        simulation.minimizeEnergy()
        simulation.integrator.setTemperature(temperature)
        simulation.integrator.step(BURN_IN)
        results[temperature] = record(simulation.context, length.iterations // STRIDE, STRIDE)
    return results


@pytest.fixture(scope="module")
def dynamics(length: Length, alanine: MolecularSystem) -> Frames:
    """Langevin dynamics at 310 K, a frame every 0.4 ps, which is long for bonds and angles."""
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURES[0], 5.0, 0.001)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(alanine.system, integrator, platform)
    context.setPositions(alanine.positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    integrator.step(10_000)
    return record(context, round(length.picoseconds / 0.4), 400)


@pytest.fixture(scope="module")
def reference() -> dict[str, object]:
    return umbrella_reference("alanine-dipeptide-umbrella")


def independent(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return every k-th value, k the statistical inefficiency (Geyer's initial sequence)."""
    centred = values - values.mean()
    spectrum = np.abs(np.fft.rfft(centred, 2 * len(values))) ** 2
    correlation = np.fft.irfft(spectrum)[: len(values)] / (len(values) * centred.var())
    pairs = correlation[: len(values) // 2 * 2].reshape(-1, 2).sum(1)
    end = int(np.argmax(pairs < 0)) if (pairs < 0).any() else len(pairs)
    return values[:: max(1, math.ceil(2 * pairs[:end].sum() - 1))]


def test_the_reference_says_where_it_comes_from(
    reference: dict[str, object], alanine: MolecularSystem
) -> None:
    assert "umbrella_sampling.py" in str(reference["script"])
    assert reference["force_field"] == list(alanine.force_field)
    assert reference["temperature_K"] == TEMPERATURES[0]
    assert np.sum(reference["histogram"]) == pytest.approx(1.0, abs=1e-6)


def test_free_energy_of_phi(
    sampled: dict[float, Frames], reference: dict[str, object], alanine: MolecularSystem
) -> None:
    phi = sampled[TEMPERATURES[0]].torsions(alanine)[:, 0]
    share, error = with_error(lambda part: np.mean(part > 0), phi)
    assert np.count_nonzero(np.diff(phi > 0)) > 20
    kT = GAS_CONSTANT * TEMPERATURES[0]
    found = -kT * math.log(share / (1 - share))
    expected = float(reference["free_energy_phi_positive"])  # type: ignore[arg-type]
    both = math.hypot(kT * error / share, float(reference["free_energy_phi_positive_error"]))  # type: ignore[arg-type]
    print(f"F(phi>0) - F(phi<0): {found:.2f} and {expected:.2f}, error {both:.2f} kJ/mol")
    # The reference's error is that of five blocks, hence more than three of them.
    assert abs(found - expected) < 4 * both
    assert both < 2.0


def test_histogram_of_phi_and_psi(
    sampled: dict[float, Frames], reference: dict[str, object], alanine: MolecularSystem
) -> None:
    def coarse(cells: NDArray[np.float64]) -> NDArray[np.float64]:
        return cells.reshape(12, 2, 12, 2).sum(axis=(1, 3))

    edges = np.linspace(-math.pi, math.pi, 25)

    def histogram(torsions: NDArray[np.float64]) -> NDArray[np.float64]:
        return coarse(np.histogram2d(*torsions.T, bins=(edges, edges))[0] / len(torsions))

    found, error = with_error(histogram, sampled[TEMPERATURES[0]].torsions(alanine))
    expected = coarse(np.array(reference["histogram"]))
    # Neighbouring cells rise and fall together, so errors add up at worst linearly.
    both = np.hypot(error, coarse(np.array(reference["histogram_error"])))
    common = expected > 0.01
    score = (found - expected)[common] / both[common]
    distance = 0.5 * np.abs(found - expected).sum()
    print(
        f"{common.sum()} cells, mean square score {np.mean(score**2):.2f}, distance {distance:.3f}"
    )
    assert common.sum() > 15
    assert np.abs(score).max() < 5
    assert np.mean(score**2) < 2.5
    assert distance < 0.12


def test_mean_potential_energy(sampled: dict[float, Frames], reference: dict[str, object]) -> None:
    found, error = with_error(np.mean, sampled[TEMPERATURES[0]].energies)
    expected = float(reference["potential_energy"])  # type: ignore[arg-type]
    both = math.hypot(error, float(reference["potential_energy_error"]))  # type: ignore[arg-type]
    print(f"<U>: {found:.2f} and {expected:.2f}, error {both:.2f} kJ/mol")
    assert abs(found - expected) < 4 * both
    assert both < 1.0


def test_energy_distribution_is_that_of_dynamics(
    sampled: dict[float, Frames], dynamics: Frames, alanine: MolecularSystem
) -> None:
    """In the half space phi < 0, which dynamics does not leave."""
    chain = sampled[TEMPERATURES[0]]
    left = chain.energies[chain.torsions(alanine)[:, 0] < 0]
    inside = dynamics.energies[dynamics.torsions(alanine)[:, 0] < 0]
    assert len(inside) > 0.8 * len(dynamics.energies)
    a, b = independent(left), independent(inside)
    assert min(len(a), len(b)) > 25
    assert stats.ks_2samp(a, b).pvalue > 1e-4
    # It would see a distribution that is shifted by half of its width.
    assert stats.ks_2samp(a + 0.8 * a.std(), b).pvalue < 1e-4


def local_coordinates(frames: Frames, molecule: MolecularSystem) -> NDArray[np.float64]:
    """Return all bond lengths / nm, angles / rad and the improper torsions / rad, [T, K]."""
    trajectory = frames.trajectory(molecule)
    graph = trajectory.topology.to_bondgraph()
    bonds = [(a.index, b.index) for a, b in graph.edges]
    angles, impropers = [], []
    for centre in graph.nodes:
        around = sorted(atom.index for atom in graph.neighbors(centre))
        angles += [(i, centre.index, j) for i in around for j in around if i < j]
        if len(around) >= 3:
            impropers.append((around[0], centre.index, around[1], around[2]))
    planar = mdtraj.compute_dihedrals(trajectory, impropers, periodic=False)
    # Improper torsions of planar groups lie about 0 or pi: sine is smooth in either case.
    return np.hstack(
        [
            mdtraj.compute_distances(trajectory, bonds, periodic=False),
            mdtraj.compute_angles(trajectory, angles, periodic=False),
            np.sin(planar),
        ]
    ).astype(float)


def test_bonds_angles_and_impropers_are_those_of_dynamics(
    sampled: dict[float, Frames], dynamics: Frames, alanine: MolecularSystem
) -> None:
    chain = local_coordinates(sampled[TEMPERATURES[0]], alanine)
    expected = local_coordinates(dynamics, alanine)
    count = chain.shape[1]
    assert count == 21 + 36 + 8
    pvalues = []
    for i in range(count):
        a, b = independent(chain[:, i]), independent(expected[:, i])
        pvalues.append(stats.ks_2samp(a, b).pvalue)
        if i < 21:
            # Bonds that were longer by 0.8 of their width would be seen, each for itself.
            assert stats.ks_2samp(a + 0.8 * a.std(), b).pvalue < 1e-3
    assert min(pvalues) > 1e-3 / count
    # All of them together are not too small either.
    assert np.median(pvalues) > 0.1


def test_two_temperatures(sampled: dict[float, Frames]) -> None:
    """ln P1(U)/P2(U) is linear in U with slope 1/kT2 - 1/kT1 (Shirts 2013)."""
    validation = pytest.importorskip("physical_validation", exc_type=ImportError)

    def data(temperature: float, stated: float) -> object:
        units = validation.data.UnitData(
            kb=GAS_CONSTANT,
            energy_conversion=1.0,
            length_conversion=1.0,
            volume_conversion=1.0,
            temperature_conversion=1.0,
            pressure_conversion=1.0,
            time_conversion=1.0,
            energy_str="kJ/mol",
            length_str="nm",
            volume_str="nm^3",
            temperature_str="K",
            pressure_str="bar",
            time_str="ps",
        )
        # Box and number of particles are not used for the potential energy alone.
        ensemble = validation.data.EnsembleData("NVT", natoms=22, volume=1.0, temperature=stated)
        energies = sampled[temperature].energies
        observables = validation.data.ObservableData(
            kinetic_energy=np.zeros_like(energies),
            potential_energy=energies,
            total_energy=energies,
            volume=np.ones_like(energies),
        )
        return validation.data.SimulationData(
            units=units, ensemble=ensemble, observables=observables, dt=1.0
        )

    def quantiles(stated: float) -> float:
        """Return by how many standard errors the slope is wrong."""
        cold, hot = TEMPERATURES
        result = validation.ensemble.check(
            data(cold, cold),
            data(hot, stated),
            total_energy=False,
            bootstrap_repetitions=100,
            bootstrap_seed=1,
            verbosity=0,
        )
        return float(np.abs(result).max())

    deviation = quantiles(TEMPERATURES[1])
    print(f"slope wrong by {deviation:.2f} standard errors")
    assert deviation < 3.5
    # If the second chain had sampled at another temperature than it says, this would show.
    assert quantiles(TEMPERATURES[1] + 25) > 3.5
