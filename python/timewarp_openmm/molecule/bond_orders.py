"""Bond orders as a Topology states them, and as they follow from the names of standard residues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .standard_residues import DELTA_HISTIDINE, DOUBLE_BONDS

if TYPE_CHECKING:
    from openmm import app

#: The charges of atoms by the sum of their bonds' orders.
_CHARGES = {
    "H": {1: 0},
    "B": {3: 0, 4: -1},
    "C": {4: 0},
    "N": {2: -1, 3: 0, 4: 1},
    "O": {1: -1, 2: 0, 3: 1},
    "F": {1: 0},
    "Si": {4: 0},
    "P": {2: -1, 3: 0, 4: 1, 5: 0},
    "S": {1: -1, 2: 0, 3: 1, 4: 0, 6: 0},
    "Cl": {1: 0, 7: 0},
    "As": {3: 0, 4: 1, 5: 0},
    "Se": {1: -1, 2: 0, 3: 1, 4: 0, 6: 0},
    "Br": {1: 0},
    "I": {1: 0, 3: 0, 5: 0},
}
_ORDERS = {"Single": 1, "Double": 2, "Triple": 3, "Amide": 1}

Pair = tuple[int, int]


def known_orders(
    topology: app.Topology, atoms: Sequence[app.topology.Atom], bonds: Sequence[Pair]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the orders of `bonds` between `atoms` and the formal charges of these.

    An order is what the Topology states, 1 for hydrogen, or what standard residues have; charges
    follow from the orders, or are what the Topology states. Both are empty if one is missing.
    """
    place = {atom.index: i for i, atom in enumerate(atoms)}
    stated: dict[Pair, int] = {}
    for bond in topology.bonds():
        a, b = place.get(bond[0].index), place.get(bond[1].index)
        order = _stated(bond)
        if a is not None and b is not None and order is not None:
            stated[min(a, b), max(a, b)] = order
    delta = _delta_histidines(atoms, bonds)
    orders = []
    for a, b in bonds:
        order = stated.get((a, b)) or _of_names(atoms[a], atoms[b], delta)
        if order is None:
            return (), ()
        orders.append(order)
    charges = _charges(atoms, bonds, orders)
    return ((), ()) if charges is None else (tuple(orders), charges)


def _stated(bond: app.topology.Bond) -> int | None:
    if bond.order is not None:
        return int(bond.order)
    # "Aromatic" alone does not say which bonds are double.
    return None if bond.type is None else _ORDERS.get(str(bond.type))


def _of_names(first: app.topology.Atom, second: app.topology.Atom, delta: set[int]) -> int | None:
    if "H" in (first.element.symbol, second.element.symbol):
        return 1
    if first.residue.name not in DOUBLE_BONDS or second.residue.name not in DOUBLE_BONDS:
        return None
    if first.residue.index != second.residue.index:
        return 1
    residue = first.residue
    doubles = DELTA_HISTIDINE if residue.index in delta else DOUBLE_BONDS[residue.name]
    return 2 if {first.name, second.name} in doubles else 1


def _delta_histidines(atoms: Sequence[app.topology.Atom], bonds: Sequence[Pair]) -> set[int]:
    """Return the residues that have a hydrogen on ND1 and none on NE2."""
    carriers: dict[str, set[int]] = {"ND1": set(), "NE2": set()}
    for a, b in bonds:
        for atom, other in ((atoms[a], atoms[b]), (atoms[b], atoms[a])):
            if atom.name in carriers and other.element.symbol == "H":
                carriers[atom.name].add(atom.residue.index)
    return carriers["ND1"] - carriers["NE2"]


def _charges(
    atoms: Sequence[app.topology.Atom], bonds: Sequence[Pair], orders: Sequence[int]
) -> tuple[int, ...] | None:
    sums = [0] * len(atoms)
    for (a, b), order in zip(bonds, orders, strict=True):
        sums[a] += order
        sums[b] += order
    charges: list[int] = []
    for atom, total in zip(atoms, sums, strict=True):
        charge = _CHARGES.get(atom.element.symbol, {}).get(total, atom.formalCharge)
        if charge is None:
            return None
        charges.append(int(charge))
    return tuple(charges)
