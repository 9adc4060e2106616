"""Conformers from distance geometry, where bond orders are known.

ETKDG: Riniker and Landrum, J. Chem. Inf. Model. 55, 2562 (2015), with RDKit's third version of the
torsion preferences (small rings and macrocycles).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..molecule.equivalent_atoms import equivalent_pairs
from ..molecule.graph import Molecule
from ..molecule.stereochemistry import Stereochemistry

#: s for one conformer; rings that do not close are given up.
_PATIENCE = 5


def embedded_conformers(
    molecule: Molecule, positions: NDArray[np.float64], count: int, seed: int
) -> NDArray[np.float64]:
    """Return conformers of a molecule, of the stereochemistry that `positions` have.

    Parameters
    ----------
    molecule : Molecule
    positions : array [N, 3], nm
    count : int
        To be tried; those that RDKit cannot make are left out.
    seed : int

    Returns
    -------
    array [K, N, 3], nm
        In no minimum of anything. Empty where bond orders are not known.
    """
    if not molecule.bond_orders:
        return np.empty((0, molecule.num_atoms, 3))
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDistGeom

    from ..molecule.bonding.by_orders import to_rdkit

    mol = to_rdkit(molecule)
    conformer = Chem.Conformer(molecule.num_atoms)
    conformer.SetPositions(np.ascontiguousarray(10 * positions, dtype=float))
    mol.AddConformer(conformer)
    Chem.AssignStereochemistryFrom3D(mol)
    # Of centres with equivalent groups, too, whose labels have to stay what they are.
    Chem.AssignAtomChiralTagsFromStructure(mol)
    parameters = rdDistGeom.ETKDGv3()
    # RDKit's stubs have another type for these.
    parameters.randomSeed = seed  # type: ignore[assignment]
    parameters.timeout = _PATIENCE * count  # type: ignore[assignment]
    # Of molecules that it can make only some conformers of.
    with rdBase.BlockLogs():
        rdDistGeom.EmbedMultipleConfs(mol, count, parameters)
    made = [0.1 * found.GetPositions() for found in mol.GetConformers()]
    found = np.array(made).reshape(-1, molecule.num_atoms, 3)
    _relabel(molecule, positions, found)
    return found


def _relabel(
    molecule: Molecule, reference: NDArray[np.float64], conformers: NDArray[np.float64]
) -> None:
    """Exchange the two hydrogens of a methylene group, say, where they are the wrong way round."""
    check = Stereochemistry(molecule, reference)
    pairs = equivalent_pairs(molecule)
    flipped, _ = check.flipped(conformers)
    for atom, frames in zip(check.atoms, flipped.T, strict=True):
        if atom in pairs:
            a, b = pairs[atom]
            conformers[np.ix_(frames, [a, b])] = conformers[np.ix_(frames, [b, a])]
