"""Crossings of a slow barrier, their rates with honest bounds, and the reference that ships."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..simulation.record import ProtocolContent
from ..stored import conform

#: rad; a crossing counts once the torsion is so far on the other side, not when it touches it.
MARGIN = 0.3


@dataclass(frozen=True)
class SlowSplit:
    """A torsion's window whose borders are the slowest barrier.

    Attributes
    ----------
    atoms : (int, int, int, int)
        The torsion's, in the molecule's order; files number residues differently.
    low, high : float
        rad, -pi <= low < high <= pi; inside and outside are the two sides.
    """

    atoms: tuple[int, int, int, int]
    low: float
    high: float

    def sides(self, angles: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return whether each frame [F] is inside, with the memory of the last side reached.

        Frames before the first that is clearly on a side count as on the side they are nearer to.
        """
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        # Distance from the window's middle, round the circle.
        distance = np.abs((np.asarray(angles, dtype=float) - middle + np.pi) % (2 * np.pi) - np.pi)
        clear = np.where(distance < half - MARGIN, 1, np.where(distance > half + MARGIN, 0, -1))
        known = np.flatnonzero(clear >= 0)
        if len(known) == 0:
            return np.asarray(distance < half)
        last = np.maximum.accumulate(np.where(clear >= 0, np.arange(len(clear)), -1))
        sides = np.where(last >= 0, clear[np.maximum(last, 0)], distance < half)
        return sides.astype(bool)


@dataclass(frozen=True)
class Crossings:
    """How often trajectories crossed, and how long they were on either side.

    Attributes
    ----------
    inward, outward : int
        Crossings from outside to inside, and back.
    inside, outside : float
        Time on either side, in any one unit.
    """

    inward: int
    outward: int
    inside: float
    outside: float

    def __add__(self, other: Crossings) -> Crossings:
        return Crossings(
            self.inward + other.inward,
            self.outward + other.outward,
            self.inside + other.inside,
            self.outside + other.outside,
        )

    def relaxation_rate(self) -> float:
        """Return the estimated rate k_in + k_out; NaN where a side was never visited."""
        if self.inside == 0 or self.outside == 0:
            return float("nan")
        return self.inward / self.outside + self.outward / self.inside

    def highest_rate(self, confidence: float = 0.95) -> float:
        """Return an upper bound of k_in + k_out.

        The sum of two one-sided Poisson bounds, each at half of what may be missed; infinite where
        a side was never visited, since nothing is known about how it is left.
        """
        each = 1 - (1 - confidence) / 2
        return _poisson_bound(self.inward, self.outside, each) + _poisson_bound(
            self.outward, self.inside, each
        )


def _poisson_bound(events: int, time: float, confidence: float) -> float:
    """Return the rate under which so few events come with probability 1 - confidence.

    Examples
    --------
    >>> round(_poisson_bound(0, 1.0, 0.95), 3)
    2.996
    """
    from scipy.stats import chi2

    if time <= 0:
        return float("inf")
    return float(chi2.ppf(confidence, 2 * (events + 1)) / (2 * time))


def count_sides(chains: Iterable[NDArray[np.bool_]], interval: float) -> Crossings:
    """Count crossings of chains of sides [F], `interval` of time between frames.

    Examples
    --------
    >>> count_sides([np.array([True, True, False, True])], 2.0)
    Crossings(inward=1, outward=1, inside=6.0, outside=2.0)
    """
    total = Crossings(0, 0, 0.0, 0.0)
    for sides in chains:
        step = np.diff(sides.astype(int))
        inside = float(sides.sum()) * interval
        outside = float((~sides).sum()) * interval
        total = total + Crossings(int((step > 0).sum()), int((step < 0).sum()), inside, outside)
    return total


@dataclass(frozen=True)
class ReferenceRates:
    """Crossings in long molecular dynamics, by ``benchmarks/reference_rates.py``.

    Attributes
    ----------
    split : SlowSplit
    crossings : Crossings
        Times in ns.
    nanoseconds : float
    protocol : dict
        Of the MD, as `timewarp-openmm simulate` writes it.
    atoms : list of str
        Names, in order.
    files : dict of str
        SHA-256 of each trajectory.
    """

    split: SlowSplit
    crossings: Crossings
    nanoseconds: float
    protocol: ProtocolContent
    atoms: list[str]
    files: dict[str, str]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> ReferenceRates:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            If it is something else.
        """
        try:
            return conform(json.loads(text), ReferenceRates)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"this is no reference of benchmarks/reference_rates.py: {error}"
            ) from error


def shipped_reference(
    atoms: Sequence[str], force_field: Sequence[str], temperature: float
) -> ReferenceRates | None:
    """Return the reference that ships for a molecule, its force field and temperature, if any.

    Rates at another temperature would be no bound, so it must be the same to 1 K.
    """
    for entry in sorted((resources.files(__package__) / "references").iterdir(), key=str):
        if not entry.name.endswith(".json"):
            continue
        found = ReferenceRates.from_json(entry.read_text())
        same = list(atoms) == found.atoms and list(force_field) == found.protocol["force_field"]
        if same and abs(temperature - float(str(found.protocol["temperature"]))) < 1.0:
            return found
    return None


def read_reference(path: Path) -> ReferenceRates:
    """Read a reference of one's own.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file or it is something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no reference at {path}")
    try:
        return ReferenceRates.from_json(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
