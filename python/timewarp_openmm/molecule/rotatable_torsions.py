"""The torsions that tell one conformation of a molecule from another."""

from __future__ import annotations

from .graph import Molecule
from .torsions import TorsionAtoms
from .zmatrix import build_zmatrix


def rotatable_torsions(molecule: Molecule) -> list[TorsionAtoms]:
    """Return the torsion of each bond that turns, the flaps of rings that flip, and the offset of
    each atom that turns inside out.

    Bonds that only turn equivalent atoms (methyls) are left out.

    Raises
    ------
    ValueError
        If the molecule has no Z-matrix.
    """
    zmatrix = build_zmatrix(molecule)
    equivalent = {atom for group in zmatrix.symmetric_torsions for atom in group}
    return [
        (placed.atom, *placed.references)
        for placed in zmatrix.placed
        if placed.kind.is_circular and placed.atom not in equivalent
    ]
