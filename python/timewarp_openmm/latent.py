"""How an independent draw of a flow is correlated with the state in the flow's own variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class LatentChoice(NamedTuple):
    """One way to propose from the state's latent variables (`setLatentCorrelation`).

    Attributes
    ----------
    rho : float
        Correlation of what is drawn with the state's own, at least 0 and less than 1; 0 draws
        afresh.
    weight : float
        How often it is picked among others, in proportion.
    share : float
        The chance of each variable to be drawn, above 0 and at most 1; the others keep their
        values.
    torsions : int
        If positive, that many of the model's rotatable torsions are drawn, picked at random for
        each proposal (all of them if there are no more), while everything else keeps its values.
    """

    rho: float
    weight: float
    share: float = 1.0
    torsions: int = 0


def latent_choice(numbers: Sequence[float]) -> LatentChoice:
    """Return the choice that these numbers are.

    Raises
    ------
    ValueError
        If they are too few or too many, or the number of torsions is not whole.
    """
    if not 2 <= len(numbers) <= 4:
        raise ValueError(
            "a latent correlation is (rho, weight), (rho, weight, share) or (rho, weight, share, "
            f"torsions), not {tuple(numbers)!r}"
        )
    share = numbers[2] if len(numbers) > 2 else 1.0
    torsions = numbers[3] if len(numbers) > 3 else 0
    if not float(torsions).is_integer():
        raise ValueError(f"the number of torsions must be whole, not {torsions!r}")
    return LatentChoice(float(numbers[0]), float(numbers[1]), float(share), int(torsions))
