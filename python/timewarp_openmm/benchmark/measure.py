"""From recordings to effective samples per second, with intervals and honest bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..analysis.autocorrelation import (
    ENOUGH,
    SamplingQuality,
    circular_quality,
    sampling_quality,
    stack_chains,
)
from ..analysis.tica import SlowCoordinates
from ..analysis.torsions import Torsion, folded_torsions
from .rates import Crossings, SlowSplit, count_sides
from .samplers import Recording

#: Chains that differ by more have not mixed, and their effective samples mean nothing.
RHAT_LIMIT = 1.1


@dataclass(frozen=True)
class Rate:
    """Effective samples per second and per energy evaluation of one quantity.

    Attributes
    ----------
    quantity : str
    per_second, low, high : float
        Mean over chains and its 95 % interval (Student's t over chains).
    per_evaluation, evaluation_low, evaluation_high : float
    rhat : float
        Over all chains, which started in different basins.
    measured : bool
        False where the chains disagree, hold under 20 effective samples together, or never
        crossed the barrier that is known to be the slowest: the numbers are then too high, as none
        of the chains knows the other basins.
    """

    quantity: str
    per_second: float
    low: float
    high: float
    per_evaluation: float
    evaluation_low: float
    evaluation_high: float
    rhat: float
    measured: bool


@dataclass(frozen=True)
class MethodResult:
    """What one method did.

    Attributes
    ----------
    name : str
    seconds, evaluations, steps, picoseconds : float
        Over all chains.
    slowest_torsion, slowest_component : Rate or None
    sides : Rate or None
        Of being on one side or the other of the slowest barrier, where it is known.
    crossings : Crossings or None
        Times in seconds of stepping.
    """

    name: str
    chains: int
    seconds: float
    evaluations: int
    steps: int
    picoseconds: float
    slowest_torsion: Rate | None
    slowest_component: Rate | None
    sides: Rate | None
    crossings: Crossings | None

    @property
    def nanoseconds_per_second(self) -> float:
        """Simulated ns per second of stepping, over all chains one after the other."""
        return self.picoseconds / 1000 / self.seconds


def chain_torsions(
    recordings: Sequence[Recording], torsions: Sequence[Torsion]
) -> list[NDArray[np.float64]]:
    """Return the torsions [F, T] / rad of each chain's frames."""
    return [folded_torsions(np.stack(r.frames), torsions).astype(float) for r in recordings]


def measure(
    name: str,
    recordings: Sequence[Recording],
    angles: Sequence[NDArray[np.float64]],
    torsions: Sequence[Torsion],
    slow: SlowCoordinates | None,
    split: SlowSplit | None,
) -> MethodResult:
    """Reduce the chains of one method to its result.

    Parameters
    ----------
    angles : sequence of array [F, T], rad
        Of true rotatable torsions, one array for each chain.
    """
    crossings = on_side = None
    if split is not None:
        column = _column_of(split, torsions)
        on_side = [split.sides(a[:, column]) for a in angles]
        crossings = _count_crossings(recordings, on_side)
    # Where the slowest barrier is known, chains that never crossed it have not mixed, even if they
    # all sit on one side and agree.
    crossed = crossings is None or crossings.inward + crossings.outward > 0

    def rate(
        quantity: str, chains: Sequence[NDArray[np.floating]], circular: bool = False
    ) -> Rate | None:
        return _rate(quantity, recordings, angles, stack_chains(chains), circular, crossed)

    found = [rate(t.name, [a[:, k] for a in angles], True) for k, t in enumerate(torsions)]
    component = sides = None
    if slow is not None:
        component = rate("TIC 1", [slow.project(a)[:, 0] for a in angles])
    if on_side is not None:
        sides = rate(f"side of {torsions[column].name}", [s.astype(float) for s in on_side])
    return MethodResult(
        name,
        len(recordings),
        sum(r.seconds for r in recordings),
        sum(r.evaluations for r in recordings),
        sum(r.steps for r in recordings),
        sum(r.picoseconds for r in recordings),
        # Unmeasured ones first: a torsion whose chains disagree is slower than any number says.
        min(filter(None, found), key=lambda r: (r.measured, r.per_second), default=None),
        component,
        sides,
        crossings,
    )


def _count_crossings(
    recordings: Sequence[Recording], on_side: Sequence[NDArray[np.bool_]]
) -> Crossings:
    total = Crossings(0, 0, 0.0, 0.0)
    for recording, side in zip(recordings, on_side, strict=True):
        total += count_sides([side], recording.seconds / len(side))
    return total


def _column_of(split: SlowSplit, torsions: Sequence[Torsion]) -> int:
    for column, torsion in enumerate(torsions):
        if split.atoms in (torsion.atoms, torsion.atoms[::-1]):
            return column
    raise ValueError(
        f"the reference's barrier is in the torsion of atoms {split.atoms}, which is no rotatable "
        "torsion of this molecule; give the reference of this molecule"
    )


def _rate(
    quantity: str,
    recordings: Sequence[Recording],
    angles: Sequence[NDArray[np.float64]],
    series: NDArray[np.float64],
    circular: bool,
    crossed: bool,
) -> Rate | None:
    estimate = circular_quality if circular else sampling_quality
    try:
        together = estimate(series)
        alone = [estimate(chain) for chain in series]
    except ValueError:
        return None
    seconds = [r.seconds for r in recordings]
    evaluations = [r.evaluations for r in recordings]
    frames = [len(a) for a in angles]
    samples = [_ess(q, n, series.shape[1]) for q, n in zip(alone, frames, strict=True)]
    per_second = t_interval([e / s for e, s in zip(samples, seconds, strict=True)])
    per_evaluation = t_interval([e / n for e, n in zip(samples, evaluations, strict=True)])
    measured = crossed and together.rhat < RHAT_LIMIT and together.ess >= ENOUGH
    return Rate(quantity, *per_second, *per_evaluation, together.rhat, measured)


def _ess(quality: SamplingQuality, frames: int, used: int) -> float:
    """Scale to all frames of a chain of which only as many as the shortest has were used."""
    return quality.ess * frames / used


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return mean and bounds of its interval by Student's t; NaN bounds for one value.

    Examples
    --------
    >>> [round(v, 3) for v in t_interval([1.0, 2.0, 3.0])]
    [2.0, 0.0, 4.484]
    """
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * float(
        np.std(values, ddof=1) / math.sqrt(len(values))
    )
    # Effective samples are no fewer than none.
    return mean, max(0.0, mean - half), mean + half


@dataclass(frozen=True)
class Comparison:
    """Timewarp against one other method, in effective samples per second.

    Attributes
    ----------
    other : str
    quantity : str
    text : str
        "12 (8 to 20)" or "> 40", or why nothing can be said.
    ratio, low, high : float
        NaN where there is none; `high` is NaN for a bound.
    basis : str
        What the ratio rests on.
    own_rate, own_low : float
        Effective samples per second of Timewarp, and the lower end of the interval.
    rate_bound : float
        Effective samples per second of the other method, at most (or as measured).
    """

    other: str
    quantity: str
    text: str
    ratio: float
    low: float
    high: float
    basis: str
    own_rate: float
    own_low: float
    rate_bound: float


def compare(timewarp: MethodResult, other: MethodResult, reference: Crossings | None) -> Comparison:
    """Compare the slowest torsion's effective samples per second.

    Where the other method's chains have not mixed, its rate is bounded by crossings: a process that
    relaxes with rate k = k_in + k_out gives k / 2 effective samples of the two sides per time.

    Parameters
    ----------
    reference : Crossings or None
        Of long molecular dynamics, times in ns.
    """
    mine, theirs = timewarp.slowest_torsion, other.slowest_torsion
    if mine is None or not mine.measured:
        return _nothing(other.name, "the Timewarp chains have not mixed in the given time")
    if theirs is not None and theirs.measured:
        ratio = mine.per_second / theirs.per_second
        low = mine.low / theirs.high if theirs.high > 0 else float("nan")
        high = mine.high / theirs.low if theirs.low > 0 else float("inf")
        return Comparison(
            other.name,
            f"{mine.quantity} / {theirs.quantity}",
            f"{ratio:.3g} ({low:.3g} to {high:.3g})",
            ratio,
            low,
            high,
            "both measured in this run",
            mine.per_second,
            mine.low,
            theirs.per_second,
        )
    return _compare_bound(timewarp, other, reference)


def _compare_bound(
    timewarp: MethodResult, other: MethodResult, reference: Crossings | None
) -> Comparison:
    """Compare effective samples of the side of the slowest barrier, `other`'s by crossings."""
    mine = timewarp.sides
    if other.crossings is None:
        return _nothing(other.name, "its chains have not mixed and no slow barrier is known")
    if mine is None or not mine.measured:
        return _nothing(other.name, "the Timewarp chains have not crossed often enough")
    crossings, basis = _known_crossings(other, reference)
    bound = crossings.highest_rate() / 2
    if not math.isfinite(bound):
        return _nothing(other.name, "it never visited one side of the barrier, so nothing is known")
    low = mine.low / bound
    return Comparison(
        other.name,
        mine.quantity,
        f"> {low:.3g}",
        float("nan"),
        low,
        float("nan"),
        basis,
        mine.per_second,
        mine.low,
        bound,
    )


def _known_crossings(other: MethodResult, reference: Crossings | None) -> tuple[Crossings, str]:
    """Return crossings with times in seconds of `other`'s stepping, and where they come from."""
    own = other.crossings
    assert own is not None
    crossed = own.inward + own.outward
    times = {0: "not one crossing", 1: "one crossing"}.get(crossed, f"{crossed} crossings")
    note = f"{times} in {other.picoseconds / 1000:.3g} ns here"
    # Exchange speeds crossings up, so plain MD is no bound for it.
    if reference is None or "exchange" in other.name:
        return own, f"{note}; 95 % bound of the rates from these"
    speed = other.nanoseconds_per_second
    scaled = Crossings(
        reference.inward, reference.outward, reference.inside / speed, reference.outside / speed
    )
    return own + scaled, (
        f"{note}; 95 % bound of the rates from these and the reference's "
        f"{reference.inward + reference.outward} crossings in "
        f"{reference.inside + reference.outside:.3g} ns"
    )


def _nothing(name: str, why: str) -> Comparison:
    nan = float("nan")
    return Comparison(name, "", f"no ratio: {why}", nan, nan, nan, why, nan, nan, nan)


@dataclass(frozen=True)
class BreakEven:
    """After how long a model has paid for itself.

    Attributes
    ----------
    other : str
    cost : float
        Seconds to make the model.
    seconds : float
        Wall time, the model's making included, after which Timewarp has more effective samples;
        an upper bound where the ratio is a lower one. Infinite if never.
    bound : bool
    """

    other: str
    cost: float
    seconds: float
    bound: bool


def break_even(cost: float, comparison: Comparison) -> BreakEven | None:
    """Return t with (t - cost) r_Timewarp = t r_other, or None where a rate is not known."""
    if not math.isfinite(comparison.rate_bound):
        return None
    bound = not math.isfinite(comparison.ratio)
    rate = comparison.own_low if bound else comparison.own_rate
    if rate <= comparison.rate_bound:
        return BreakEven(comparison.other, cost, float("inf"), bound)
    return BreakEven(comparison.other, cost, cost / (1 - comparison.rate_bound / rate), bound)


def model_cost(provenance: Mapping[str, object]) -> dict[str, float]:
    """Return the seconds of each stage that made a model, from its provenance; empty if unsaid.

    Examples
    --------
    >>> model_cost({"fit": {"seconds": {"train": 60.0}}, "training_seconds": 50.0})
    {'train': 60.0}
    >>> model_cost({"training_seconds": 50.0})
    {'train': 50.0}
    """
    fit = provenance.get("fit")
    if isinstance(fit, Mapping) and isinstance(fit.get("seconds"), Mapping):
        return {str(k): float(v) for k, v in fit["seconds"].items()}
    seconds = provenance.get("training_seconds")
    return {"train": float(str(seconds))} if seconds is not None else {}
