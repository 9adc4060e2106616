"""A peptide whose topology and positions tests spoil."""

from __future__ import annotations

import io

import numpy as np
from libraries import PEPTIDE
from openmm import app, unit


class Structure:
    """A topology and its positions [N, 3] / nm, to be spoilt."""

    def __init__(self, text: str = "") -> None:
        pdb = app.PDBFile(io.StringIO(text or PEPTIDE.read_text()))
        self.topology = pdb.topology
        self.positions = np.array(pdb.getPositions(asNumpy=True)._value)

    def residue(self, number: int, copy: int = 0) -> app.topology.Residue:
        return [r for r in self.topology.residues() if r.id == str(number)][copy]

    def atom(self, number: int, name: str, copy: int = 0) -> app.topology.Atom:
        return next(a for a in self.residue(number, copy).atoms() if a.name == name)

    def without(self, *atoms: app.topology.Atom | app.topology.Residue) -> Structure:
        modeller = app.Modeller(self.topology, self.positions * unit.nanometer)
        modeller.delete(list(atoms))
        return self._of(modeller)

    def beside(self, other: Structure, distance: float = 5.0) -> Structure:
        """Return both, so far apart in nm."""
        modeller = app.Modeller(self.topology, self.positions * unit.nanometer)
        modeller.add(other.topology, (other.positions + distance) * unit.nanometer)
        return self._of(modeller)

    @classmethod
    def _of(cls, modeller: app.Modeller) -> Structure:
        return cls.of(modeller.topology, np.array([list(p) for p in modeller.positions._value]))

    @staticmethod
    def of(topology: app.Topology, positions: np.ndarray) -> Structure:
        structure = Structure()
        structure.topology, structure.positions = topology, positions
        return structure

    def after(self, number: int) -> list[int]:
        """Return the atoms of the residues from a number on."""
        return [a.index for a in self.topology.atoms() if int(a.residue.id) >= number]
