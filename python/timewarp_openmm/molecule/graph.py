"""The molecule as flows, data and models see it: atoms and bonds, no force field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx

from ..units import DALTON

if TYPE_CHECKING:
    import openmm
    from openmm import app


@dataclass(frozen=True)
class Molecule:
    """Atoms and bonds of the particles that a model moves.

    Attributes
    ----------
    atom_names, residue_names, elements : tuple of str, length N
        As in the topology; `elements` are chemical symbols.
    residue_indices : tuple of int, length N
        Which residue each atom belongs to, counted from 0.
    masses : tuple of float, length N
        In dalton, as in the System.
    bonds : tuple of (int, int)
        Pairs i < j, sorted.
    """

    atom_names: tuple[str, ...]
    residue_names: tuple[str, ...]
    residue_indices: tuple[int, ...]
    elements: tuple[str, ...]
    masses: tuple[float, ...]
    bonds: tuple[tuple[int, int], ...]

    @property
    def num_atoms(self) -> int:
        return len(self.elements)

    def graph(self) -> nx.Graph:
        """Return the bond graph; nodes carry `element`, `name` and `residue`."""
        graph = nx.Graph()
        for i, element in enumerate(self.elements):
            graph.add_node(
                i, element=element, name=self.atom_names[i], residue=self.residue_names[i]
            )
        graph.add_edges_from(self.bonds)
        return graph

    def describe_atom(self, index: int) -> str:
        """Return a name for messages, such as ``ALA2:CA (atom 8)``."""
        residue = f"{self.residue_names[index]}{self.residue_indices[index] + 1}"
        return f"{residue}:{self.atom_names[index]} (atom {index})"


def molecule_from_topology(topology: app.Topology, system: openmm.System | None = None) -> Molecule:
    """Make a Molecule from an OpenMM Topology; masses come from `system` where it is given.

    Raises
    ------
    ValueError
        If an atom has no element, or the System has another particle count than the Topology.
    """
    atoms = list(topology.atoms())
    if system is not None and system.getNumParticles() != len(atoms):
        raise ValueError(
            f"the System has {system.getNumParticles()} particles but the Topology has "
            f"{len(atoms)} atoms; make the System from this Topology"
        )
    for atom in atoms:
        if atom.element is None:
            raise ValueError(
                f"atom {atom.index} ({atom.name} of {atom.residue.name}) has no element; "
                "remove extra particles or set the element in the Topology"
            )
    if system is None:
        masses = tuple(atom.element.mass.value_in_unit(DALTON) for atom in atoms)
    else:
        masses = tuple(system.getParticleMass(i).value_in_unit(DALTON) for i in range(len(atoms)))
    bonds = {tuple(sorted((bond[0].index, bond[1].index))) for bond in topology.bonds()}
    return Molecule(
        atom_names=tuple(atom.name for atom in atoms),
        residue_names=tuple(atom.residue.name for atom in atoms),
        residue_indices=tuple(atom.residue.index for atom in atoms),
        elements=tuple(atom.element.symbol for atom in atoms),
        masses=masses,
        bonds=tuple(sorted((a, b) for a, b in bonds)),
    )
