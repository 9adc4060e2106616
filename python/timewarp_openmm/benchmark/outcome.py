"""From the recordings of all methods to what a benchmark says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..analysis.tica import fit_slow_coordinates
from ..analysis.torsions import proper_torsions, true_torsions
from ..molecule.graph import Molecule
from .measure import (
    BreakEven,
    Comparison,
    MethodResult,
    break_even,
    chain_torsions,
    compare,
    measure,
    model_cost,
)
from .rates import ReferenceRates
from .samplers import REFERENCE_METHOD, Recording

#: Frames of MD between which slow coordinates are sought.
_TICA_LAG = 25


@dataclass(frozen=True)
class Outcome:
    """What a benchmark says.

    Attributes
    ----------
    results : list of MethodResult
        Timewarp first.
    comparisons : list of Comparison
        Of Timewarp with each of the others.
    cost : dict of str to float
        Seconds of each stage that made the model; empty if it does not say.
    breaks : list of BreakEven
    problems : list of str
        What could not be computed, and why.
    """

    results: list[MethodResult]
    comparisons: list[Comparison]
    cost: dict[str, float]
    breaks: list[BreakEven]
    problems: list[str]


def conclude(
    recordings: Mapping[str, Sequence[Recording]],
    molecule: Molecule,
    rates: ReferenceRates | None,
    provenance: Mapping[str, object],
) -> Outcome:
    """Measure every method and compare them.

    Parameters
    ----------
    recordings : mapping of str to sequence of Recording
        Of the chains of each method, Timewarp first.
    rates : ReferenceRates or None
        Crossings of long MD.
    provenance : mapping
        Of the model, which says what it cost.
    """
    rotatable = true_torsions(proper_torsions(molecule))
    angles = {k: chain_torsions(r, rotatable) for k, r in recordings.items()}
    problems = []
    try:
        slow = fit_slow_coordinates(angles[REFERENCE_METHOD], lag=_TICA_LAG)
    except ValueError as error:
        problems.append(f"no slow coordinates: {error}")
        slow = None
    split, known = (None, None) if rates is None else (rates.split, rates.crossings)
    results = [measure(k, recordings[k], angles[k], rotatable, slow, split) for k in recordings]
    comparisons = [compare(results[0], other, known) for other in results[1:]]
    cost = model_cost(provenance)
    total = sum(cost.values())
    breaks = [break_even(total, comparison) for comparison in comparisons] if cost else []
    return Outcome(results, comparisons, cost, [b for b in breaks if b is not None], problems)
