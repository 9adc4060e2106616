"""Basins of a molecule: ranges of its torsions, or the metastable states of a reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .states import MetastableStates
from .torsions import Torsion, folded_torsions

#: Positions [F, N, 3] / nm to which of them are in each of B basins, [F, B].
Membership = Callable[[NDArray[np.float64]], NDArray[np.bool_]]


@dataclass(frozen=True)
class TorsionRange:
    """A range of one torsion, in degrees; `high` may be above 180."""

    torsion: Torsion
    low: float
    high: float

    def contains(self, angles: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which angles / rad are in it."""
        inside: NDArray[np.bool_] = np.mod(np.degrees(angles) - self.low, 360) < (
            self.high - self.low
        )
        return inside


@dataclass(frozen=True)
class Basin:
    """Conformations with all of these torsions in range."""

    name: str
    ranges: tuple[TorsionRange, ...]

    def contains(self, positions: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which positions [F, N, 3] / nm are in it."""
        angles = folded_torsions(positions, [part.torsion for part in self.ranges])
        inside = np.ones(len(positions), dtype=bool)
        for i, part in enumerate(self.ranges):
            inside &= part.contains(angles[:, i])
        return inside


def parse_basin(text: str, torsions: Sequence[Torsion]) -> Basin:
    """Return the basin that a text describes.

    Parameters
    ----------
    text : str
        "phi:0:137", "alpha=phi:-180:0,psi:-120:45": a name if wanted, then torsions with their
        ranges in degrees. A range whose end is below its start goes through 180.
    torsions : sequence of Torsion
        Of the molecule. The first word of a name will do where there is only one such torsion.

    Raises
    ------
    ValueError
        Saying what a basin looks like, or which torsions there are.
    """
    name, _, ranges = text.rpartition("=")
    parsed = tuple(_parse_range(text, part, torsions) for part in ranges.split(","))
    return Basin(name or ranges, parsed)


def _parse_range(text: str, part: str, torsions: Sequence[Torsion]) -> TorsionRange:
    # From the right: names of torsions have colons.
    words = part.rsplit(":", 2)
    try:
        wanted, low, high = words[0].strip(), float(words[1]), float(words[2])
    except (IndexError, ValueError) as error:
        raise ValueError(
            f"the basin {text!r} is not TORSION:LOW:HIGH in degrees, such as phi:0:137, with a "
            "name (left=phi:0:137) or several ranges (phi:-180:0,psi:-120:45) if you like"
        ) from error
    if not (-360 <= low <= 360 and -360 <= high <= 720):
        raise ValueError(f"the basin {text!r} has angles that are not from -360 to 360 degrees")
    if high <= low:
        high += 360
    if not 0 < high - low <= 360:
        raise ValueError(f"the range of {wanted} in the basin {text!r} is not within one turn")
    found = [t for t in torsions if t.name == wanted] or [
        t for t in torsions if t.name.split()[0] == wanted
    ]
    if len(found) != 1:
        known = ", ".join(t.name for t in torsions) or "none"
        problem = "no torsion" if not found else f"{len(found)} torsions"
        raise ValueError(f"there is {problem} named {wanted!r} in the molecule; it has: {known}")
    return TorsionRange(found[0], low, high)


def membership_of(basins: Sequence[Basin]) -> Membership:
    """Return what tells which basins frames are in."""

    def inside(positions: NDArray[np.float64]) -> NDArray[np.bool_]:
        columns = [basin.contains(positions) for basin in basins]
        return np.stack(columns, axis=1) if columns else np.zeros((len(positions), 0), dtype=bool)

    return inside


def membership_of_states(states: MetastableStates, torsions: Sequence[Torsion]) -> Membership:
    """Return what tells which metastable states frames are in, found in these torsions."""

    def inside(positions: NDArray[np.float64]) -> NDArray[np.bool_]:
        state = states.assign(folded_torsions(positions, torsions))
        columns: NDArray[np.bool_] = state[:, None] == np.arange(len(states.names))
        return columns

    return inside
