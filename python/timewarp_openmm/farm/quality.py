"""Whether chains agree, while they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..analysis.autocorrelation import SamplingQuality, circular_quality
from ..simulation.chains import BURN_IN

#: Of a chain, for an estimate that takes a moment; fewer frames give fewer effective samples.
_MOST_FRAMES = 4000


@dataclass(frozen=True)
class Target:
    """What chains are run until; None where it does not matter.

    Attributes
    ----------
    rhat : float, optional
        Largest R-hat of the slowest torsion.
    ess : float, optional
        Fewest effective samples of it, of all chains together.
    """

    rhat: float | None = None
    ess: float | None = None

    def is_set(self) -> bool:
        return self.rhat is not None or self.ess is not None

    def is_met(self, quality: SamplingQuality | None) -> bool:
        """Whether chains of this quality are enough; never where nothing is known of it."""
        if quality is None or not self.is_set():
            return False
        agree = self.rhat is None or quality.rhat <= self.rhat
        return agree and (self.ess is None or quality.ess >= self.ess)


def slowest(angles: Sequence[NDArray[np.float64]]) -> tuple[int, SamplingQuality] | None:
    """Return the torsion with the fewest effective samples, and its quality.

    The first tenth of each chain is left out, and what the shortest does not have.

    Parameters
    ----------
    angles : sequence of array [F, T], rad
        Of each chain.

    Returns
    -------
    (int, SamplingQuality), or None
        None where frames are too few, or a torsion has not moved at all: nothing can be said yet.
    """
    frames = min(len(chain) for chain in angles)
    kept = np.stack([chain[:frames][int(frames * BURN_IN) :] for chain in angles])
    stride = -(-kept.shape[1] // _MOST_FRAMES) if kept.shape[1] else 1
    kept = kept[:, ::stride]
    try:
        qualities = [circular_quality(kept[:, :, i]) for i in range(kept.shape[2])]
    except ValueError:
        return None
    number = int(np.argmin([quality.ess for quality in qualities]))
    return number, qualities[number]
