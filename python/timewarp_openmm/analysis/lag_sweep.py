"""What each lag time of a model does: acceptance and turned torsions, as numbers and a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import replace_atomically
from ..simulation.chains import ChainRuns

#: rad; a torsion that turns by more in one iteration has left its basin.
TURN = math.pi / 2


@dataclass(frozen=True)
class LagResult:
    """What chains at one lag time did; errors are standard errors between chains.

    Attributes
    ----------
    lag : float
        ps; ``inf`` for independent draws.
    acceptance, acceptance_error : float
    turns, turns_error : float
        Iterations in which a torsion turned by more than 90 degrees, per iteration.
    step, step_error : float
        Root mean square change of the torsions in an iteration, rad; rejected ones count as 0.
    iterations_per_second : float
    """

    lag: float
    acceptance: float
    acceptance_error: float
    turns: float
    turns_error: float
    step: float
    step_error: float
    iterations_per_second: float


def count_turns(torsions: NDArray[np.float64]) -> int:
    """Count the iterations in which any torsion [F, R] / rad turns by more than 90 degrees.

    Examples
    --------
    >>> count_turns(np.array([[3.0, 0.0], [-3.0, 0.1], [-1.0, 0.1], [-1.1, 2.0]]))
    2
    """
    return int((np.abs(_changes(torsions)) > TURN).any(1).sum())


def summarize_lag(
    lag: float, runs: ChainRuns, torsions: Sequence[NDArray[np.float64]]
) -> LagResult:
    """Summarize chains at one lag.

    Parameters
    ----------
    lag : float
        ps.
    runs : ChainRuns
        Of at least two chains.
    torsions : sequence of array [F, R]
        Of each chain / rad, the start and every iteration.
    """
    turns = [count_turns(t) / (len(t) - 1) for t in torsions]
    steps = [float(np.sqrt(np.square(_changes(t)).mean())) for t in torsions]
    return LagResult(
        lag,
        runs.acceptance.mean,
        runs.acceptance.error,
        *_with_error(turns),
        *_with_error(steps),
        iterations_per_second=runs.iterations_per_second,
    )


def plot_sweep(results: Sequence[LagResult], path: Path) -> None:
    """Draw acceptance, turns and step sizes as functions of the lag; ``inf`` is the last point."""
    # Not through pyplot, whose state would outlive this and mix with a caller's figures.
    from matplotlib.figure import Figure

    labels = [_label(result.lag) for result in results]
    places = np.arange(len(results))
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    rows = (
        ("acceptance", "acceptance"),
        ("turns", "torsion turned by > 90° (per iteration)"),
        ("step", "rms change of torsions (rad)"),
    )
    for ax, (name, title) in zip(axes, rows, strict=True):
        values = [getattr(result, name) for result in results]
        errors = [getattr(result, f"{name}_error") for result in results]
        ax.errorbar(places, values, yerr=errors, fmt="o-", capsize=3)
        ax.set(title=title, xlabel="lag time (ps)", ylim=(0, None))
        ax.set_xticks(places, labels)
    replace_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=150))


def _label(lag: float) -> str:
    return f"{lag:g}" if math.isfinite(lag) else "∞"


def _changes(torsions: NDArray[np.float64]) -> NDArray[np.float64]:
    differences: NDArray[np.float64] = np.angle(np.exp(1j * np.diff(torsions, axis=0)))
    return differences


def _with_error(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
