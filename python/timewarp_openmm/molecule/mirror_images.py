"""Mirror images of conformations that are conformations of the same molecule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .equivalent_atoms import equivalent_pairs
from .graph import Molecule
from .stereochemistry import Stereochemistry


def mirror_images(
    molecule: Molecule, reference: NDArray[np.floating], positions: NDArray[np.floating]
) -> NDArray[np.float64] | None:
    """Return the mirror images of conformations [F, N, 3], in the chirality of a reference [N, 3].

    Labels are exchanged between two equivalent atoms of a centre where that is what gives it the
    chirality of the reference. None for a molecule with a centre that has no such two: its mirror
    image is another molecule, or the same one with two branches exchanged, as no dynamics does.
    """
    check = Stereochemistry(molecule, reference)
    pairs = equivalent_pairs(molecule)
    images = np.asarray(positions, dtype=float) * np.array([1.0, 1.0, -1.0])
    flipped, _ = check.flipped(images)
    for atom, flips in zip(check.atoms, flipped.T, strict=True):
        if atom in pairs:
            first, second = pairs[atom]
            exchanged = images[:, [second, first]]
            images[:, [first, second]] = np.where(
                flips[:, None, None], exchanged, images[:, [first, second]]
            )
    return None if check.flipped(images)[0].any() else images
