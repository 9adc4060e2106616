"""Ramachandran maps side by side on the same axes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_BINS = 60


def plot_ramachandran(samples: Mapping[str, NDArray[np.float64]], path: str | Path) -> None:
    """Write a figure with one map for each sample, all on one colour scale.

    Parameters
    ----------
    samples : mapping of title to array [F, 2]
        phi and psi in radians; the maps stand from left to right in this order.
    path : str or Path
        Image file; the suffix decides the format.

    Raises
    ------
    ValueError
        If a sample is empty.
    """
    edges = np.linspace(-180.0, 180.0, _BINS + 1)
    free_energies = {title: _free_energy(angles, edges, title) for title, angles in samples.items()}
    highest = max(float(np.nanmax(f)) for f in free_energies.values())
    figure, axes = plt.subplots(
        1, len(samples), figsize=(4.2 * len(samples) + 0.8, 4.2), sharey=True, squeeze=False
    )
    for axis, (title, free_energy) in zip(axes[0], free_energies.items(), strict=True):
        image = axis.pcolormesh(edges, edges, free_energy.T, cmap="viridis", vmin=0, vmax=highest)
        axis.set(title=title, xlabel="phi / degrees", aspect="equal")
        axis.set_xticks([-180, -90, 0, 90, 180])
        axis.set_yticks([-180, -90, 0, 90, 180])
        axis.axvline(0.0, color="grey", linewidth=0.6, linestyle=":")
    axes[0][0].set_ylabel("psi / degrees")
    figure.colorbar(image, ax=axes[0].tolist(), label="free energy / kT", shrink=0.8)
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def _free_energy(
    angles: NDArray[np.float64], edges: NDArray[np.float64], title: str
) -> NDArray[np.float64]:
    if len(angles) == 0:
        raise ValueError(f"there are no frames in {title!r}")
    degrees = np.degrees(angles)
    counts, _, _ = np.histogram2d(degrees[:, 0], degrees[:, 1], bins=[edges, edges])
    with np.errstate(divide="ignore"):
        free_energy = -np.log(counts / counts.max())
    return np.where(np.isfinite(free_energy), free_energy, np.nan)
