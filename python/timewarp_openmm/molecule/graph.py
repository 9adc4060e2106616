"""The molecule as flows, data and models see it: atoms and bonds, no force field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import networkx as nx

from ..units import DALTON
from .bond_orders import known_orders

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
    residue_ids, insertion_codes, chain_ids : tuple of str, length N
        Residue number, insertion code and chain as in the structure file; empty tuples where there
        was none to read them from.
    bond_orders : tuple of int, as long as `bonds`
        1, 2 or 3 (aromatic rings in one of their Kekule forms); empty where they are not known.
        Two molecules are equal whether or not they are.
    formal_charges : tuple of int, length N
        That go with the bond orders; empty without them.
    """

    atom_names: tuple[str, ...]
    residue_names: tuple[str, ...]
    residue_indices: tuple[int, ...]
    elements: tuple[str, ...]
    masses: tuple[float, ...]
    bonds: tuple[tuple[int, int], ...]
    residue_ids: tuple[str, ...] = ()
    insertion_codes: tuple[str, ...] = ()
    chain_ids: tuple[str, ...] = ()
    bond_orders: tuple[int, ...] = field(default=(), compare=False)
    formal_charges: tuple[int, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for name in ("residue_ids", "insertion_codes", "chain_ids"):
            if len(getattr(self, name)) not in (0, self.num_atoms):
                raise ValueError(
                    f"{name} names {len(getattr(self, name))} atoms of {self.num_atoms}"
                )
        known = (len(self.bonds), self.num_atoms) if self.bond_orders else (0, 0)
        if (len(self.bond_orders), len(self.formal_charges)) != known:
            raise ValueError(
                "bond orders and formal charges are known of all bonds and atoms or none"
            )

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

    def part(self, atoms: Sequence[int]) -> Molecule:
        """Return some atoms, in this order, with the bonds between them.

        Bond orders are kept where no bond is cut.
        """
        place = {atom: i for i, atom in enumerate(atoms)}
        inside = [i for i, (a, b) in enumerate(self.bonds) if a in place and b in place]
        pairs = [(place[a], place[b]) for a, b in (self.bonds[i] for i in inside)]
        bonds = [(min(pair), max(pair)) for pair in pairs]
        order = sorted(range(len(bonds)), key=bonds.__getitem__)
        cut = any((a in place) != (b in place) for a, b in self.bonds)
        known = bool(self.bond_orders) and not cut
        residues = [self.residue_indices[i] for i in atoms]
        number = {residue: k for k, residue in enumerate(dict.fromkeys(residues))}
        names = ("residue_ids", "insertion_codes", "chain_ids")
        labels = {
            name: tuple(getattr(self, name)[i] for i in atoms)
            for name in names
            if getattr(self, name)
        }
        return Molecule(
            atom_names=tuple(self.atom_names[i] for i in atoms),
            residue_names=tuple(self.residue_names[i] for i in atoms),
            residue_indices=tuple(number[residue] for residue in residues),
            elements=tuple(self.elements[i] for i in atoms),
            masses=tuple(self.masses[i] for i in atoms),
            bonds=tuple(bonds[i] for i in order),
            bond_orders=tuple(self.bond_orders[inside[i]] for i in order) if known else (),
            formal_charges=tuple(self.formal_charges[i] for i in atoms) if known else (),
            **labels,
        )

    def without_bond_orders(self) -> Molecule:
        """Return the molecule as a file that states no bond orders has it."""
        return replace(self, bond_orders=(), formal_charges=())

    def chain_id(self, index: int) -> str:
        """Return the chain of an atom as in the file; empty where it has none."""
        return self.chain_ids[index] if self.chain_ids else ""

    def residue_id(self, index: int) -> str:
        """Return the residue number of an atom as in the file, or counted from 1 without one."""
        return self.residue_ids[index] if self.residue_ids else str(self.residue_indices[index] + 1)

    def insertion_code(self, index: int) -> str:
        """Return the insertion code of an atom's residue; empty where it has none."""
        return self.insertion_codes[index] if self.insertion_codes else ""

    def residue_label(self, index: int) -> str:
        """Return the name of an atom's residue: ``A:ALA12``, ``B:NME99A`` or, unnumbered, ``ALA2``.

        Examples
        --------
        >>> Molecule(("CA",), ("ALA",), (0,), ("C",), (12.0,), (), ("99",), ("A",), ("B",)
        ...          ).residue_label(0)
        'B:ALA99A'
        """
        chain = self.chain_id(index)
        number = self.residue_id(index) + self.insertion_code(index)
        return f"{chain}:{self.residue_names[index]}{number}".removeprefix(":")

    def atom_label(self, index: int) -> str:
        """Return the name of an atom in tables and figures, such as ``A:ALA2:CA``."""
        return f"{self.residue_label(index)}:{self.atom_names[index]}"

    def describe_atom(self, index: int) -> str:
        """Return a name for messages, such as ``A:ALA2:CA (atom 8)``."""
        return f"{self.atom_label(index)} (atom {index})"


def molecule_from_topology(
    topology: app.Topology,
    system: openmm.System | None = None,
    particles: Sequence[int] | None = None,
) -> Molecule:
    """Make a Molecule from an OpenMM Topology; masses come from `system` where it is given.

    Bond orders are known if the Topology states them, or if all residues are standard ones.

    Parameters
    ----------
    topology : openmm.app.Topology
    system : openmm.System, optional
    particles : sequence of int, optional
        The atoms that make up the molecule, in this order; by default all.

    Raises
    ------
    ValueError
        If an atom has no element, or the System has another particle count than the Topology.
    """
    everything = list(topology.atoms())
    if system is not None and system.getNumParticles() != len(everything):
        raise ValueError(
            f"the System has {system.getNumParticles()} particles but the Topology has "
            f"{len(everything)} atoms; make the System from this Topology"
        )
    atoms = everything if particles is None else [everything[i] for i in particles]
    for atom in atoms:
        if atom.element is None:
            raise ValueError(
                f"atom {atom.index} ({atom.name} of {atom.residue.name}) has no element; "
                "remove extra particles or set the element in the Topology"
            )
    place = {atom.index: i for i, atom in enumerate(atoms)}
    residues = {index: i for i, index in enumerate(dict.fromkeys(a.residue.index for a in atoms))}
    bonds = _bonds(topology, place)
    orders, charges = known_orders(topology, atoms, bonds)
    return Molecule(
        atom_names=tuple(atom.name for atom in atoms),
        residue_names=tuple(atom.residue.name for atom in atoms),
        residue_indices=tuple(residues[atom.residue.index] for atom in atoms),
        elements=tuple(atom.element.symbol for atom in atoms),
        masses=tuple(_mass(atom, system) for atom in atoms),
        bonds=bonds,
        residue_ids=tuple(atom.residue.id for atom in atoms),
        # A blank in a PDB file's column says that there is none.
        insertion_codes=tuple((atom.residue.insertionCode or "").strip() for atom in atoms),
        chain_ids=tuple((atom.residue.chain.id or "").strip() for atom in atoms),
        bond_orders=orders,
        formal_charges=charges,
    )


def _mass(atom: app.topology.Atom, system: openmm.System | None) -> float:
    mass = atom.element.mass if system is None else system.getParticleMass(atom.index)
    return float(mass.value_in_unit(DALTON))


def _bonds(topology: app.Topology, place: dict[int, int]) -> tuple[tuple[int, int], ...]:
    pairs = ((place.get(bond[0].index), place.get(bond[1].index)) for bond in topology.bonds())
    inside = {(min(a, b), max(a, b)) for a, b in pairs if a is not None and b is not None}
    return tuple(sorted(inside))
