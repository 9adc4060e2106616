"""Figures of a report, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..analysis.free_energy import MAP_BINS, MapDifference, Profile, normalise
from .study import COLOURS

_TICKS = [-180, -90, 0, 90, 180]
Points = NDArray[np.float64]


def make_axes(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a figure of rows x columns axes, each of `size` in inches."""
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def draw_ramachandran(angles: Mapping[str, Points], title: str, bins: int = 60) -> Figure:
    """Draw free-energy maps of (phi, psi) / rad [F, 2] side by side on one colour scale."""
    edges = np.linspace(-180.0, 180.0, bins + 1)
    maps = {}
    for label, values in angles.items():
        degrees = np.degrees(values)
        counts = np.histogram2d(degrees[:, 0], degrees[:, 1], bins=[edges, edges])[0]
        with np.errstate(divide="ignore"):
            maps[label] = -np.log(counts / max(counts.max(), 1.0))
    highest = max(float(m[np.isfinite(m)].max(initial=1.0)) for m in maps.values())
    figure, axes = make_axes(1, len(maps), (3.3, 3.5))
    for axis, (label, energies) in zip(axes, maps.items(), strict=True):
        image = axis.pcolormesh(
            edges, edges, np.where(np.isfinite(energies), energies, np.nan).T,
            vmin=0, vmax=highest, cmap="viridis", rasterized=True,
        )  # fmt: skip
        axis.set(title=label, xlabel="phi / degrees", aspect="equal", xticks=_TICKS, yticks=_TICKS)
    axes[0].set_ylabel("psi / degrees")
    figure.colorbar(image, ax=axes, label="free energy / kT", shrink=0.85)
    figure.suptitle(title)
    return figure


def draw_differences(differences: Mapping[str, MapDifference], title: str) -> Figure:
    """Draw differences of (phi, psi) maps in units of their noise."""
    edges = np.linspace(-180.0, 180.0, MAP_BINS + 1)
    figure, axes = make_axes(1, len(differences), (3.5, 3.5))
    for axis, (label, found) in zip(axes, differences.items(), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(found.noise > 0, found.difference / found.noise, np.nan)
        image = axis.pcolormesh(
            edges, edges, ratio.T, vmin=-6, vmax=6, cmap="RdBu_r", rasterized=True
        )
        axis.set(
            title=f"{label}\ndistance {found.distance:.3f}, MD halves {found.floor:.3f}",
            xlabel="phi / degrees", aspect="equal", xticks=_TICKS, yticks=_TICKS,
        )  # fmt: skip
    axes[0].set_ylabel("psi / degrees")
    figure.colorbar(image, ax=axes, label="difference from MD / its noise", shrink=0.85)
    figure.suptitle(title)
    return figure


def draw_profiles(profiles: Mapping[str, Mapping[str, Profile]]) -> Figure:
    """Draw the profiles of each torsion: {torsion: {sample: profile}}."""
    wide = min(3, len(profiles))
    figure, axes = make_axes(-(-len(profiles) // wide), wide, (3.6, 2.7))
    for axis, (torsion, samples) in zip(axes, profiles.items(), strict=False):
        for label, profile in samples.items():
            x = np.degrees(profile.centres)
            axis.plot(x, profile.free_energy, color=COLOURS[label], label=label, linewidth=1.2)
            high = np.where(np.isfinite(profile.high), profile.high, profile.low + 10.0)
            axis.fill_between(x, profile.low, high, color=COLOURS[label], alpha=0.2, linewidth=0)
        axis.set(title=torsion, xticks=_TICKS, ylim=(-0.5, 9.0))
        axis.set(xlabel="degrees", ylabel="free energy / kT")
    for axis in axes[len(profiles) :]:
        axis.set_visible(False)
    axes[0].legend(fontsize=7)
    return figure


def draw_projection(points: Mapping[str, Points], title: str, axes_labels: Sequence[str]) -> Figure:
    """Draw densities of points [F, 2] side by side on the same axes."""
    pooled = np.concatenate(list(points.values()))
    low, high = pooled.min(0) - 0.2, pooled.max(0) + 0.2
    edges = [np.linspace(low[k], high[k], 61) for k in range(2)]
    maps = {k: np.histogram2d(v[:, 0], v[:, 1], bins=edges)[0] for k, v in points.items()}
    shares = {k: normalise(m) for k, m in maps.items()}
    lowest = min(float(s[s > 0].min()) for s in shares.values())
    figure, axes = make_axes(1, len(points), (3.3, 3.2))
    for axis, (label, share) in zip(axes, shares.items(), strict=True):
        with np.errstate(divide="ignore"):
            energies = np.where(share > 0, -np.log(share), np.nan)
        image = axis.pcolormesh(
            *edges, energies.T, vmin=0, vmax=-np.log(lowest), cmap="viridis", rasterized=True
        )
        axis.set(title=label, xlabel=axes_labels[0])
    axes[0].set_ylabel(axes_labels[1])
    figure.colorbar(image, ax=axes, label="-ln share of frames", shrink=0.9)
    figure.suptitle(title)
    return figure


def draw_populations(
    populations: Mapping[str, tuple[Points, Points]], names: Sequence[str], title: str
) -> Figure:
    """Draw populations with errors of each state, bars by sample."""
    figure, (axis,) = make_axes(1, 1, (max(6.0, 1.6 * len(names)), 3.2))
    width = 0.8 / len(populations)
    for k, (label, (values, errors)) in enumerate(populations.items()):
        x = np.arange(len(names)) + (k - (len(populations) - 1) / 2) * width
        axis.bar(x, values, width, yerr=np.nan_to_num(errors), color=COLOURS[label], label=label)
    axis.set_yscale("log")
    axis.set(xticks=range(len(names)), ylabel="population", title=title)
    axis.set_xticklabels([n.replace(" (", "\n(") for n in names], fontsize=7)
    axis.legend(fontsize=7)
    return figure


def draw_matrices(matrices: Mapping[str, NDArray[np.int64]], title: str) -> Figure:
    """Draw counted transitions between states."""
    figure, axes = make_axes(1, len(matrices), (3.2, 3.0))
    highest = max(1, *(int(m.max()) for m in matrices.values()))
    for axis, (label, matrix) in zip(axes, matrices.items(), strict=True):
        axis.imshow(np.log1p(matrix), cmap="Blues", vmin=0, vmax=np.log1p(highest))
        for i, j in np.ndindex(*matrix.shape):
            axis.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=7)
        ticks = [f"S{k + 1}" for k in range(len(matrix))]
        axis.set(title=label, xticks=range(len(ticks)), yticks=range(len(ticks)), xlabel="to")
        axis.set_xticklabels(ticks)
        axis.set_yticklabels(ticks)
    axes[0].set_ylabel("from")
    figure.suptitle(title)
    return figure


def draw_divergences(
    divergences: Mapping[str, Points], floor: Points, names: Sequence[str], most: int = 25
) -> Figure:
    """Draw the coordinates that differ most, with the noise floor of each."""
    worst = np.max(list(divergences.values()), axis=0)
    order = np.argsort(-worst)[:most]
    figure, (axis,) = make_axes(1, 1, (max(6.0, 0.42 * len(order)), 3.8))
    x = np.arange(len(order))
    for label, values in divergences.items():
        axis.plot(x, values[order], "o", color=COLOURS[label], label=label, markersize=4)
    axis.step(x, floor[order], where="mid", color="grey", label="noise floor (MD halves, 95 %)")
    axis.set_yscale("log")
    axis.set(ylabel="Jensen-Shannon divergence / bit", xticks=x)
    axis.set_xticklabels([names[i] for i in order], rotation=90, fontsize=6)
    axis.legend(fontsize=7)
    return figure


def draw_lines(
    lines: Mapping[str, tuple[Points, Points]],
    labels: tuple[str, str],
    colours: Mapping[str, str] | None = None,
    bottom: float | None = None,
) -> Figure:
    """Draw y over x for each name."""
    figure, (axis,) = make_axes(1, 1, (8.0, 2.8))
    for name, (x, y) in lines.items():
        colour = (colours or {}).get(name)
        axis.plot(x, y, color=colour, label=name, linewidth=0.9)
    axis.set(xlabel=labels[0], ylabel=labels[1])
    if bottom is not None:
        axis.set_ylim(bottom=bottom)
    if len(lines) > 1:
        axis.legend(fontsize=7)
    return figure


def draw_histograms(
    values: Mapping[str, Points], label: str, quantile: float = 0.001, normal: bool = False
) -> Figure:
    """Draw densities on one axis; the range leaves out the outer quantiles of all but the flow."""
    figure, (axis,) = make_axes(1, 1, (6.0, 3.0))
    shown = [v for k, v in values.items() if k.startswith(("MD", "long"))] or list(values.values())
    low = min(float(np.quantile(v, quantile)) for v in shown)
    high = max(float(np.quantile(v, 1 - quantile)) for v in shown)
    margin = 0.1 * (high - low) or 1.0
    edges = np.linspace(low - margin, high + margin, 81)
    for name, sample in values.items():
        counts = np.histogram(sample, edges)[0] / (len(sample) * (edges[1] - edges[0]))
        axis.stairs(counts, edges, color=COLOURS.get(name), label=name, linewidth=1.3)
    if normal:
        axis.plot(edges, np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi), "k--", label="N(0, 1)")
    axis.set(xlabel=label, ylabel="density")
    axis.legend(fontsize=7)
    return figure
