"""Slow coordinates: time-lagged independent components (TICA) of the torsions, by deeptime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SlowCoordinates:
    """A TICA model that was fitted on reference trajectories.

    Attributes
    ----------
    model : deeptime TransferOperator
    mean, scale : array [K]
        Of the reference's projection, which is brought to mean 0 and variance 1.
    lag : int
        Frames of the reference.
    timescales : array [K]
        Implied timescales in frames of the reference; infinite where frames never decorrelate.
    """

    model: Any
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    lag: int
    timescales: NDArray[np.float64]

    def project(self, torsions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the components [F, K] of torsions [F, T] / rad."""
        projected = self.model.transform(torsion_features(torsions))[:, : len(self.mean)]
        scaled: NDArray[np.float64] = (projected - self.mean) / self.scale
        return scaled


def torsion_features(torsions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return sines and cosines [F, 2 T] of torsions [F, T] / rad."""
    angles = np.asarray(torsions, dtype=float)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def fit_slow_coordinates(
    trajectories: Sequence[NDArray[np.floating]], lag: int, components: int = 2
) -> SlowCoordinates:
    """Fit TICA on trajectories of torsions [F, T] / rad.

    Parameters
    ----------
    trajectories : sequence of array
        Of molecular dynamics: TICA needs their time order.
    lag : int
        Frames.
    components : int
        K.

    Raises
    ------
    ValueError
        If there are no torsions, the trajectories are not longer than the lag, or nothing moves.
    """
    from deeptime.decomposition import TICA

    if not trajectories or trajectories[0].shape[1] == 0:
        raise ValueError("the molecule has no torsions for TICA to work on")
    long = [torsion_features(t) for t in trajectories if len(t) > lag]
    if sum(len(t) - lag for t in long) < 10:
        raise ValueError(
            f"the reference is too short for TICA at a lag of {lag} frames; it takes 10 pairs"
        )
    if max(float(t.std(axis=0).max()) for t in long) < 1e-6:
        raise ValueError("no torsion of the reference moves, so TICA has nothing to find")
    model = TICA(lagtime=lag, dim=components, scaling=None).fit(long).fetch_model()
    projected = np.concatenate([model.transform(t) for t in long])
    components = min(components, projected.shape[1])
    values = np.abs(np.asarray(model.singular_values[:components], dtype=float))
    with np.errstate(divide="ignore"):
        timescales = -lag / np.log(np.minimum(values, 1.0))
    return SlowCoordinates(
        model,
        projected.mean(axis=0)[:components],
        projected.std(axis=0)[:components],
        lag,
        np.abs(timescales),
    )
