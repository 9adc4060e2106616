"""The parts of a residue between two caps, or of one at an end of a chain, as peptides are made of
them.

A residue hangs on the alpha carbon and the carbonyl carbon before it and on its own nitrogen, and
it ends with the nitrogen after it: omega, phi, psi and the side chain are its own, and what comes
next hangs on its atoms in the same way. The last residue of a chain ends with its carboxylate.

The first residue of a chain has nothing to hang on. Its alpha carbon and carbonyl and the nitrogen
after them come first and the rest hangs on these, so that it can also be drawn anew before a chain
that stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from .graph import Molecule

_ACETYL, _METHYL = "ACE", "NME"


@dataclass(frozen=True)
class CappedResidueParts:
    """Which atoms of a residue with its caps are made one after the other; each ascending.

    Attributes
    ----------
    start : tuple of int
        The acetyl group and the residue's nitrogen; of the first residue of a chain its alpha
        carbon, its carbonyl and the nitrogen after it.
    residue : tuple of int
        The rest of the residue, and the nitrogen of the N-methyl group if that is not there yet.
    methyl : tuple of int
        The rest of that; empty at the end of a chain.
    """

    start: tuple[int, ...]
    residue: tuple[int, ...]
    methyl: tuple[int, ...]

    @property
    def later(self) -> tuple[tuple[int, ...], ...]:
        """Those that come after the start."""
        return tuple(part for part in (self.residue, self.methyl) if part)


def capped_residue_parts(molecule: Molecule) -> CappedResidueParts:
    """Return the parts of a residue with an acetyl group, an N-methyl group, or both.

    Examples
    --------
    >>> from timewarp_openmm.molecule.graph import molecule_from_topology
    >>> from timewarp_openmm.simulation.systems import named_molecule
    >>> alanine = molecule_from_topology(named_molecule("alanine-dipeptide").topology)
    >>> capped_residue_parts(alanine).methyl
    (17, 18, 19, 20, 21)
    """
    labels = list(zip(molecule.residue_names, molecule.atom_names, strict=True))
    parts: dict[str, list[int]] = {"start": [], "residue": [], "methyl": []}
    place = _place_after_acetyl if _ACETYL in molecule.residue_names else _place_of_first
    for atom, label in enumerate(labels):
        parts[place(*label)].append(atom)
    return CappedResidueParts(**{name: tuple(atoms) for name, atoms in parts.items()})


def _place_after_acetyl(residue: str, name: str) -> str:
    if residue == _METHYL:
        return "residue" if name == "N" else "methyl"
    return "start" if residue == _ACETYL or name == "N" else "residue"


def _place_of_first(residue: str, name: str) -> str:
    if residue == _METHYL:
        return "start" if name == "N" else "methyl"
    return "start" if name in ("CA", "C", "O") else "residue"


def shared_atoms(molecule: Molecule, is_first: bool, is_last: bool) -> list[int]:
    """Return the atoms of a capped residue that stand for others where it is one of a peptide.

    Hydrogens of the acetyl group have no like but in the first residue; of the N-methyl group only
    the nitrogen has one but in the last.
    """
    parts = capped_residue_parts(molecule)
    before = [i for i in parts.start if is_first or molecule.elements[i] != "H"]
    return sorted([*before, *parts.residue, *(parts.methyl if is_last else ())])
