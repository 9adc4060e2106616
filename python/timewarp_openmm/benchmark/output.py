"""Table, figure and JSON of a benchmark."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis.numbers import plain
from ..files import replace_atomically, write_bytes_atomically
from .measure import BreakEven, Comparison, MethodResult, Rate
from .outcome import Outcome

JSON_FILE = "benchmark.json"
TABLE_FILE = "benchmark.md"
FIGURE_FILE = "benchmark.png"


def result_table(outcome: Outcome, heading: str) -> str:
    """Return the benchmark as Markdown."""
    results, cost = outcome.results, outcome.cost
    lines = [
        f"# Benchmark: {heading}",
        "",
        "| method | steps/s | ns/day | slowest torsion: ESS/s | per 1000 evaluations | R-hat | "
        "slowest TIC: ESS/s | crossings |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        per_day = f"{86400 * r.nanoseconds_per_second:.3g}" if r.picoseconds else "-"
        crossed = "-" if r.crossings is None else str(r.crossings.inward + r.crossings.outward)
        torsion, component = r.slowest_torsion, r.slowest_component
        name = f" ({torsion.quantity})" if torsion else ""
        lines.append(
            f"| {r.name} | {r.steps / r.seconds:.3g} | {per_day} | {_show(torsion, 1.0)}{name} | "
            f"{_show(torsion, 1000.0, True)} | {torsion.rhat if torsion else math.nan:.3g} | "
            f"{_show(component, 1.0)} | {crossed} |"
        )
    lines += [
        "",
        f"{results[0].chains} chains of each method, in turns; mean and 95 % interval over them. "
        "'Not mixed' means that chains from different basins disagree (R-hat above 1.1), hold "
        "under 20 effective samples together, or never crossed the barrier that is known to be the "
        "slowest: their own number would be too high and is not given.",
        "",
        "## How much faster",
        "",
        "| against | effective samples per second, Timewarp / it | from |",
        "| --- | --- | --- |",
        *[f"| {c.other} | {c.text} | {c.basis} |" for c in outcome.comparisons],
        "",
        "## What the model cost",
        "",
    ]
    if not cost:
        lines.append("The model's metadata do not say how long it took to make.")
    else:
        stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in cost.items())
        lines.append(f"{sum(cost.values()):.0f} s ({stages}), by the model's own metadata.")
        lines += ["", "| against | Timewarp is ahead after |", "| --- | --- |"]
        lines += [f"| {b.other} | {_duration(b)} |" for b in outcome.breaks]
    return "\n".join([*lines, ""])


def _show(rate: Rate | None, scale: float, evaluations: bool = False) -> str:
    if rate is None:
        return "n/a"
    if not rate.measured:
        return "not mixed"
    names = ("per_evaluation", "evaluation_low", "evaluation_high")
    values = [getattr(rate, n) for n in (names if evaluations else ("per_second", "low", "high"))]
    mean, low, high = (scale * v for v in values)
    return f"{mean:.3g} ({low:.3g} to {high:.3g})"


def _duration(found: BreakEven) -> str:
    if not math.isfinite(found.seconds):
        return "never, at these rates"
    return f"{'at most ' if found.bound else ''}{found.seconds / 60:.3g} min, its making included"


def write_benchmark(
    folder: Path, outcome: Outcome, heading: str, conditions: dict[str, Any]
) -> str:
    """Write JSON, table and figure; return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    table = result_table(outcome, heading)
    write_bytes_atomically(folder / TABLE_FILE, table.encode())
    content = {
        "conditions": conditions,
        "methods": [asdict(r) for r in outcome.results],
        "comparisons": [asdict(c) for c in outcome.comparisons],
        "model_cost_seconds": outcome.cost,
        "break_even": [asdict(b) for b in outcome.breaks],
    }
    write_bytes_atomically(
        folder / JSON_FILE, (json.dumps(plain(content), indent=1) + "\n").encode()
    )
    replace_atomically(
        folder / FIGURE_FILE,
        lambda path: _draw(outcome.results, outcome.comparisons, heading, path),
    )
    return table


def _draw(
    results: Sequence[MethodResult],
    comparisons: Sequence[Comparison],
    heading: str,
    path: Path,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bounds = {c.other: c.rate_bound for c in comparisons if not math.isfinite(c.ratio)}
    figure = Figure(figsize=(7.5, 0.6 * len(results) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for row, result in enumerate(results):
        for offset, rate, colour in (
            (-0.12, result.slowest_torsion, "#1f5fa8"),
            (0.12, result.slowest_component, "#d1660e"),
        ):
            if rate is not None and rate.measured:
                error = [[rate.per_second - rate.low], [rate.high - rate.per_second]]
                axis.errorbar(
                    rate.per_second, row + offset, xerr=np.nan_to_num(error), fmt="o", color=colour
                )
        bound = bounds.get(result.name, math.nan)
        if math.isfinite(bound):
            axis.plot(bound, row, "<", color="grey", markersize=9)
            axis.annotate("at most", (bound, row), (6, 6), textcoords="offset points", fontsize=7)
    axis.plot([], [], "o", color="#1f5fa8", label="slowest torsion")
    axis.plot([], [], "o", color="#d1660e", label="slowest TIC")
    axis.plot([], [], "<", color="grey", label="95 % bound from crossings")
    axis.set_xscale("log")
    axis.set_yticks(range(len(results)), [r.name for r in results])
    axis.invert_yaxis()
    axis.set(xlabel="effective samples per second of wall time", title=heading)
    axis.legend(fontsize=7)
    figure.savefig(path, dpi=120)
