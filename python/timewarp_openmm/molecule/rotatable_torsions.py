"""The torsions that tell one conformation of a molecule from another."""

from __future__ import annotations

from .graph import Molecule
from .in_place import Fragment
from .torsions import TorsionAtoms
from .zmatrix import ZMatrix, build_zmatrix


def rotatable_torsions(molecule: Molecule, fragment: Fragment | None = None) -> list[TorsionAtoms]:
    """Return the torsion of each bond that turns, the flaps of rings that flip, and the offset of
    each atom that turns inside out; of a fragment in place, those that move its atoms.

    Bonds that only turn equivalent atoms (methyls) are left out.

    Raises
    ------
    ValueError
        If the molecule or the fragment has no Z-matrix.
    """
    if fragment is not None:
        own = _rotatable(build_zmatrix(fragment.molecule(molecule), fragment.own_moved))
        known = fragment.known
        return [(known[a], known[b], known[c], known[d]) for a, b, c, d in own]
    return _rotatable(build_zmatrix(molecule))


def _rotatable(zmatrix: ZMatrix) -> list[TorsionAtoms]:
    equivalent = {atom for group in zmatrix.symmetric_torsions for atom in group}
    return [
        (placed.atom, *placed.references)
        for placed in zmatrix.placed
        if placed.kind.is_circular and placed.atom not in equivalent
    ]
