"""Laying conformations onto each other."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from timewarp_openmm.molecule.superposition import pairwise_rmsd, rmsd_to, superpose


def test_pairwise_rmsd_against_scipy() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 20, 6, 3))
    for x, y, found in zip(a, b, pairwise_rmsd(a, b), strict=True):
        x, y = x - x.mean(0), y - y.mean(0)
        _, residual = Rotation.align_vectors(x, y)
        assert found == pytest.approx(residual / np.sqrt(6), abs=1e-6)
    turned = a @ Rotation.random(rng=3).as_matrix() + 1.0
    np.testing.assert_allclose(pairwise_rmsd(a, turned), 0.0, atol=1e-6)
    # A mirror image is no rotation.
    assert pairwise_rmsd(a, a * [1, 1, -1]).min() > 0.05


def test_superposition_undoes_a_rigid_motion_but_not_a_reflection() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((8, 7, 3))
    y = x @ Rotation.random(8, rng=3).as_matrix() + rng.standard_normal((8, 1, 3))
    np.testing.assert_allclose(superpose(y, x), x, atol=1e-9)
    assert np.linalg.norm(superpose(-x, x) - x, axis=2).mean() > 0.1


def test_chosen_atoms_decide_and_all_are_moved() -> None:
    rng = np.random.default_rng(4)
    target = rng.standard_normal((1, 6, 3))
    y = target + np.zeros((3, 1, 1))
    y[:, 5] += 3.0
    moved = superpose(y @ Rotation.random(3, rng=5).as_matrix(), target, np.arange(5))
    np.testing.assert_allclose(moved, y, atol=1e-9)


def test_rmsd_to_each_conformation() -> None:
    frames = np.random.default_rng(6).standard_normal((4, 5, 3))
    table = rmsd_to(frames, frames[:2])
    assert table.shape == (4, 2)
    np.testing.assert_allclose([table[0, 0], table[1, 1]], 0.0, atol=1e-9)
    assert table[0, 1] == pytest.approx(table[1, 0])
