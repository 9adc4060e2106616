"""The parts of a residue between an acetyl and an N-methyl group, as a peptide is made of them.

A residue hangs on the alpha carbon and the carbonyl carbon before it and on its own nitrogen, and
it ends with the nitrogen after it: omega, phi, psi and the side chain are its own, and what comes
next hangs on its atoms in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

from .graph import Molecule


@dataclass(frozen=True)
class CappedResidueParts:
    """Which atoms of a capped residue are made one after the other; each ascending.

    Attributes
    ----------
    acetyl : tuple of int
        The acetyl group and the residue's nitrogen.
    residue : tuple of int
        The rest of the residue, and the nitrogen of the N-methyl group.
    methyl : tuple of int
        The rest of that.
    """

    acetyl: tuple[int, ...]
    residue: tuple[int, ...]
    methyl: tuple[int, ...]

    @property
    def later(self) -> tuple[tuple[int, ...], ...]:
        """Those that come after the first."""
        return self.residue, self.methyl


def capped_residue_parts(molecule: Molecule) -> CappedResidueParts:
    """Return the parts of a residue between an acetyl and an N-methyl group.

    Examples
    --------
    >>> from timewarp_openmm.molecule.graph import molecule_from_topology
    >>> from timewarp_openmm.simulation.systems import named_molecule
    >>> alanine = molecule_from_topology(named_molecule("alanine-dipeptide").topology)
    >>> capped_residue_parts(alanine).methyl
    (17, 18, 19, 20, 21)
    """
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for atom in range(molecule.num_atoms):
        place = molecule.residue_indices[atom]
        if molecule.atom_names[atom] == "N":
            place -= 1
        parts[place].append(atom)
    return CappedResidueParts(*map(tuple, parts))


def shared_atoms(molecule: Molecule, is_first: bool, is_last: bool) -> list[int]:
    """Return the atoms of a capped residue that stand for others where it is one of a peptide.

    Hydrogens of the acetyl group have no like but in the first residue; of the N-methyl group only
    the nitrogen has one but in the last.
    """
    parts = capped_residue_parts(molecule)
    before = [i for i in parts.acetyl if is_first or molecule.elements[i] != "H"]
    return sorted([*before, *parts.residue, *(parts.methyl if is_last else ())])
