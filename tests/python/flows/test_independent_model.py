"""A model file's draws and densities in a topology's order: what docs/free-energy.md says they
cover."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from timewarp_openmm import pretrained
from timewarp_openmm.flows.independent_model import IndependentModel, open_independent_model
from timewarp_openmm.simulation.systems import named_molecule


@pytest.fixture(scope="module")
def model() -> IndependentModel:
    molecule = named_molecule("alanine-dipeptide")
    return open_independent_model(
        pretrained("alanine-dipeptide"), molecule.topology, molecule.positions + 5.0
    )


@pytest.fixture(scope="module")
def draws(model: IndependentModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return next(model.draw(20, 1))


def test_densities_are_those_of_the_draws(
    model: IndependentModel, draws: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> None:
    """Wherever the molecule lies, and however it is turned."""
    model.check_normalised()
    positions, log_density = draws
    assert model.log_density(positions, 1) == pytest.approx(log_density, abs=1e-6)
    turned = positions[:, :, [1, 2, 0]] + 3.0
    assert model.log_density(turned, 2) == pytest.approx(log_density, abs=1e-6)


def test_labels_and_mirror_images_that_are_covered(
    model: IndependentModel, draws: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> None:
    """Of a methyl group the three labellings that turning leads to; not the other enantiomer."""
    positions, log_density = draws
    names = [atom.name for atom in named_molecule("alanine-dipeptide").topology.atoms()]
    hydrogens = [names.index(name) for name in ("HB1", "HB2", "HB3")]
    for order in permutations(range(3)):
        relabelled = positions.copy()
        relabelled[:, hydrogens] = positions[:, [hydrogens[k] for k in order]]
        turned = order in ((0, 1, 2), (1, 2, 0), (2, 0, 1))
        expected = log_density if turned else np.full(20, -math.inf)
        assert model.log_density(relabelled, 1) == pytest.approx(expected, abs=1e-6)
    assert np.isneginf(model.log_density(positions * [-1, 1, 1], 1)).all()
