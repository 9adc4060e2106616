"""Mirror images of conformations, in the labels that dynamics keeps."""

from __future__ import annotations

import numpy as np
import pytest
from molecules import make

from timewarp_openmm.molecule.mirror_images import mirror_images
from timewarp_openmm.molecule.rotatable_torsions import rotatable_torsions
from timewarp_openmm.molecule.stereochemistry import Stereochemistry
from timewarp_openmm.molecule.torsions import measure_torsions


@pytest.mark.parametrize("smiles", ["CCN(C)CCO", "CNCC", "CN", "CCCC", "CNC(N)=O"])
def test_an_image_is_the_same_molecule_with_all_torsions_reversed(smiles: str) -> None:
    molecule, positions = make(smiles, 3)
    images = mirror_images(molecule, positions[0], positions)
    assert images is not None
    check = Stereochemistry(molecule, positions[0])
    flips, _ = check.flipped(positions)
    # RDKit labels the hydrogens of a CH2 group either way, dynamics does not.
    assert not check.flipped(images)[0].any()
    torsions = rotatable_torsions(molecule)
    turned = np.exp(1j * measure_torsions(images, torsions)) * np.exp(
        1j * measure_torsions(positions, torsions)
    )
    heavy = [all(molecule.elements[i] != "H" for i in atoms) for atoms in torsions]
    np.testing.assert_allclose(turned[:, heavy], 1.0, atol=1e-9)
    same = ~flips.any(1)
    assert same.any()
    again = mirror_images(molecule, positions[0], images[same])
    assert again is not None
    np.testing.assert_allclose(again, positions[same], atol=1e-12)


@pytest.mark.parametrize(
    "smiles",
    # The last one would have to exchange two branches.
    ["C[C@H](F)N(C)CC", "CC(=O)N[C@@H](C)C(=O)NC", "CC[S@](C)=O", "CCCC(CCC)C(=O)O"],
)
def test_a_molecule_with_a_centre_that_is_kept_has_none(smiles: str) -> None:
    molecule, positions = make(smiles, 2)
    assert mirror_images(molecule, positions[0], positions) is None
