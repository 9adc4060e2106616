"""Alanine dipeptide with bonds to hydrogen constrained, against an umbrella sampling of its own.

The reference (tests/data, made by ``benchmarks/umbrella_sampling.py --constraints HBonds``) knows
of no flow. The model (made by benchmarks/make_test_models.py) gives the lengths of X-H bonds scales
that depend on the conformation, by several kT for all bonds together, which must not be felt where
these lengths are kept: a density that leaves the factor of a kept length in samples other
populations.

The metric term of the constraints is too small to be seen here (its standard deviation is 0.0002
to 0.012 kT); TestTimewarpConstraints.h has Systems in which it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from alanine_samples import BLOCKS as CHAIN_BLOCKS
from alanine_samples import DATA, Frames, record, umbrella_reference, with_error
from numpy.typing import NDArray
from reference_models import save_model
from scipy import stats
from torch import Tensor

from timewarp_openmm import TimewarpMCMCIntegrator, read_metadata
from timewarp_openmm.flows.loading import load_module
from timewarp_openmm.simulation.systems import (
    MolecularSystem,
    named_molecule,
    with_hydrogen_bonds_constrained,
)

MODEL = DATA / "alanine-dipeptide-small.pt"
BURN_IN, STRIDE, ITERATIONS = 400, 4, 16_000
#: Chance that a right chain fails a test, with another seed.
FALSE_ALARM = 1e-3


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return named_molecule("alanine-dipeptide")


@pytest.fixture(scope="module")
def reference() -> dict[str, object]:
    return umbrella_reference("alanine-dipeptide-umbrella-hbonds")


def sample(model: Path, molecule: MolecularSystem, iterations: int) -> Frames:
    """Return what a chain in the constrained System records."""
    system = with_hydrogen_bonds_constrained(molecule)
    integrator = TimewarpMCMCIntegrator(str(model))
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, integrator, platform)
    context.setPositions(molecule.positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    context.applyConstraints(1e-8)
    integrator.step(BURN_IN)
    return record(context, iterations // STRIDE, STRIDE)


@pytest.fixture(scope="module")
def sampled(alanine: MolecularSystem) -> Frames:
    return sample(MODEL, alanine, ITERATIONS)


def shares_of(
    molecule: MolecularSystem, reference: dict[str, object]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return a function of phi and psi / rad [T, 2] to the shares of the reference's regions."""
    regions = reference["regions_degrees"]
    assert isinstance(regions, dict)

    def figure(torsions: NDArray[np.float64]) -> NDArray[np.float64]:
        degrees = np.degrees(torsions)
        inside = [
            [np.mod(degrees[:, axis] - low, 360) < high - low for axis, (low, high) in pair]
            for pair in (list(enumerate(bounds)) for bounds in regions.values())
        ]
        return np.mean(np.all(inside, axis=1), axis=1)

    return figure


def p_value(
    found: float, error: float, reference: dict[str, object], name: str, place: int | None = None
) -> float:
    """Return how likely so different a figure is (Welch's t-test on both sides' blocks)."""
    values = [reference[name], reference[f"{name}_error"], reference[f"{name}_blocks"]]
    expected, expected_error, blocks = (np.array(value) for value in values)
    if place is not None:
        expected, expected_error = expected[place], expected_error[place]
    return float(
        stats.ttest_ind_from_stats(
            found,
            error * np.sqrt(CHAIN_BLOCKS),
            CHAIN_BLOCKS,
            expected,
            expected_error * np.sqrt(len(blocks)),
            len(blocks),
            equal_var=False,
        ).pvalue
    )


def compare_populations(
    frames: Frames, molecule: MolecularSystem, reference: dict[str, object]
) -> list[float]:
    """Return the p-value of each region's share."""
    shares, errors = with_error(shares_of(molecule, reference), frames.torsions(molecule))
    names = list(reference["regions_degrees"])  # type: ignore[call-overload]
    expected = reference["region_shares"]
    pvalues = [
        p_value(shares[i], errors[i], reference, "region_shares", i) for i in range(len(names))
    ]
    for name, share, error, value, p in zip(names, shares, errors, expected, pvalues, strict=True):  # type: ignore[call-overload]
        print(f"{name}: {share:.4f} +- {error:.4f}, reference {value:.4f}, p = {p:.2g}")
    return pvalues


def test_the_reference_says_where_it_comes_from(
    reference: dict[str, object], alanine: MolecularSystem
) -> None:
    assert "umbrella_sampling.py" in str(reference["script"])
    assert reference["constraints"] == "HBonds"
    assert reference["force_field"] == list(alanine.force_field)
    assert reference["temperature_K"] == read_metadata(MODEL).temperature
    assert np.sum(reference["region_shares"]) == pytest.approx(1.0, abs=1e-6)


def test_populations(
    sampled: Frames, reference: dict[str, object], alanine: MolecularSystem
) -> None:
    phi = sampled.torsions(alanine)[:, 0]
    assert np.count_nonzero(np.diff(phi > 0)) > 20
    pvalues = compare_populations(sampled, alanine, reference)
    assert min(pvalues) > FALSE_ALARM / len(pvalues)


def test_mean_potential_energy(sampled: Frames, reference: dict[str, object]) -> None:
    found, error = with_error(np.mean, sampled.energies)
    p = p_value(float(found), float(error), reference, "potential_energy")
    print(f"<U>: {found:.2f} +- {error:.2f} kJ/mol, {reference['potential_energy']}, p = {p:.2g}")
    assert error < 0.5
    assert p > FALSE_ALARM


def lengths(frames: Frames, system: openmm.System) -> tuple[NDArray[np.float64], ...]:
    """Return the lengths [T, C] / nm of constrained bonds, and what they should be [C]."""
    bonds = [system.getConstraintParameters(i) for i in range(system.getNumConstraints())]
    ends = np.array([(i, j) for i, j, _ in bonds])
    vectors = frames.positions[:, ends[:, 0]] - frames.positions[:, ends[:, 1]]
    return np.linalg.norm(vectors, axis=-1), np.array([length._value for *_, length in bonds])


def test_constrained_lengths_are_kept(sampled: Frames, alanine: MolecularSystem) -> None:
    found, expected = lengths(sampled, with_hydrogen_bonds_constrained(alanine))
    assert found.shape[1] == 12
    # Frames are recorded in single precision.
    assert np.abs(found - expected).max() < 1e-6


class KeepsTheFactor(torch.nn.Module):
    """A planted fault: the density of a kept length is left in."""

    def __init__(self, model: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.model = model

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.sample(x, noise, lag)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return self.model.log_prob(y, w, x, lag)

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return self.model.invert(y, w, x, lag)

    @torch.jit.export
    def sample_constrained(
        self, x: Tensor, noise: Tensor, lag: Tensor, kept: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, w, _ = self.model.sample_constrained(x, noise, lag, kept)
        return y, w, self.model.log_prob(y, w, x.unsqueeze(0), lag)

    @torch.jit.export
    def log_prob_constrained(
        self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor, kept: Tensor
    ) -> Tensor:
        return self.model.log_prob(y, w, x, lag)


def test_populations_see_the_density_of_a_kept_length(
    reference: dict[str, object], alanine: MolecularSystem, tmp_path: Path
) -> None:
    planted = tmp_path / "planted.pt"
    save_model(KeepsTheFactor(load_module(MODEL)), read_metadata(MODEL), planted)
    pvalues = compare_populations(sample(planted, alanine, ITERATIONS), alanine, reference)
    assert min(pvalues) < 1e-6
