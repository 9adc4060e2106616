"""What is perceived of a molecule's bonds, whoever perceives it."""

from __future__ import annotations

from dataclasses import dataclass

#: The two atoms of a bond.
Bond = frozenset[int]


@dataclass(frozen=True)
class Geometry:
    """What bond orders say, and what is read from the bond graph where they are not known.

    Attributes
    ----------
    linear : frozenset of int
        Atoms whose two neighbours lie on a straight line: alkynes, nitriles, allenes, azides.
    tetrahedral : frozenset of int
        Atoms whose bonds are single and whose lone pairs no neighbour conjugates with.
    centres : frozenset of int
        Atoms that keep the arrangement of their three or four neighbours, but for bridgeheads.
    see_saws : frozenset of int
        Atoms with four neighbours and a lone pair, of which two lie opposite each other (SF4).
    double : frozenset of Bond
        Bonds between flat or straight atoms that are double; those of aromatic rings need not be
        among them.
    """

    linear: frozenset[int]
    tetrahedral: frozenset[int]
    centres: frozenset[int]
    see_saws: frozenset[int]
    double: frozenset[Bond]


@dataclass(frozen=True)
class Bonding:
    """How a molecule's bonds hold its atoms.

    Attributes
    ----------
    linear, tetrahedral, see_saws : frozenset of int
        As in `Geometry`.
    centres : frozenset of int
        Atoms that keep the arrangement of their three or four neighbours. Which hydrogen is which
        counts, since dynamics cannot exchange them.
    inverting : frozenset of int
        Atoms that turn inside out at room temperature: amines, and oxonium.
    rigid : frozenset of Bond
        Bonds that are double, or like it: those of amides, thioamides, ureas, amidines, guanidines.
    cis_trans : frozenset of Bond
        Those of them that are cis or trans.
    """

    linear: frozenset[int]
    tetrahedral: frozenset[int]
    see_saws: frozenset[int]
    centres: frozenset[int]
    inverting: frozenset[int]
    rigid: frozenset[Bond]
    cis_trans: frozenset[Bond]
