"""Bond orders as a Topology states them, and as they follow from the names of standard residues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from .standard_residues import DOUBLE_BONDS, Doubles

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
    "Sb": {3: 0, 4: 1, 5: 0},
    "Te": {2: 0, 3: 1, 4: 0, 6: 0},
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
    named = _doubles_by_name(atoms, bonds)
    orders = []
    for a, b in bonds:
        order = stated.get((a, b)) or _of_names(atoms[a], atoms[b], named)
        if order is None:
            return (), ()
        orders.append(order)
    charges = _charges(atoms, bonds, orders)
    return ((), ()) if charges is None else (tuple(orders), charges)


def _stated(bond: app.topology.Bond) -> int | None:
    if bond.order in (1, 2, 3):
        return int(bond.order)
    # "Aromatic" alone does not say which bonds are double.
    return None if bond.type is None else _ORDERS.get(str(bond.type))


def _of_names(
    first: app.topology.Atom, second: app.topology.Atom, named: Mapping[int, Doubles]
) -> int | None:
    if "H" in (first.element.symbol, second.element.symbol):
        return 1
    residues = first.residue.index, second.residue.index
    if not set(residues) <= set(named):
        return None
    same = residues[0] == residues[1]
    return 2 if same and {first.name, second.name} in named[residues[0]] else 1


def _doubles_by_name(
    atoms: Sequence[app.topology.Atom], bonds: Sequence[Pair]
) -> dict[int, Doubles]:
    """Return the double bonds of each standard residue in the form with the fewest charges."""
    neighbours = Counter(i for bond in bonds for i in bond)
    inside: dict[int, list[tuple[app.topology.Atom, int]]] = {}
    for i, atom in enumerate(atoms):
        if atom.residue.name in DOUBLE_BONDS:
            inside.setdefault(atom.residue.index, []).append((atom, neighbours[i]))

    def charged(residue: list[tuple[app.topology.Atom, int]], doubles: Doubles) -> int:
        carriers = Counter(name for pair in doubles for name in pair)
        return sum(
            _CHARGES.get(atom.element.symbol, {}).get(count + carriers[atom.name]) != 0
            for atom, count in residue
        )

    return {
        index: min(DOUBLE_BONDS[residue[0][0].residue.name], key=partial(charged, residue))
        for index, residue in inside.items()
    }


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
