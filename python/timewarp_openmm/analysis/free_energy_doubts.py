"""When a free energy is not to be trusted: too little overlap, too few samples, disagreement."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .autocorrelation import LARGEST_RHAT
from .configurational import DifferenceEstimate, Estimate, FreeEnergies, SystemEstimate

#: Least element of the overlap matrix beside the diagonal, and least share of effective draws
#: (Klimovich, Shirts and Mobley, J. Comput.-Aided Mol. Des. 29, 397 (2015)).
LEAST_OVERLAP = 0.03
#: Uncorrelated samples of each state, as the same authors ask for.
FEWEST_SAMPLES = 50
#: Standard errors between two ways to one number.
LARGEST_DEVIATION = 4.0


def doubts(found: FreeEnergies) -> list[str]:
    """Return why figures are not to be trusted, one sentence each; none if all is well."""
    messages = []
    for number, system in enumerate(found.systems, start=1):
        where = f"System {number}" if len(found.systems) > 1 else "the System"
        messages += [f"{where}: {message}" for message in _of_system(system)]
    if found.difference is not None:
        messages += [f"the difference: {message}" for message in _of_difference(found.difference)]
    return messages


def _of_system(system: SystemEstimate) -> Iterator[str]:
    if system.kish_share < LEAST_OVERLAP or system.kish < FEWEST_SAMPLES:
        yield (
            f"importance weighting is not to be trusted: of all draws {system.kish:.0f} "
            f"({system.kish_share:.2%}) are effective, and it takes {LEAST_OVERLAP:.0%} and "
            f"{FEWEST_SAMPLES}; train the model further, or make one for this System"
        )
    if system.overlap < LEAST_OVERLAP:
        yield (
            f"BAR is not to be trusted: draws and chain overlap by {system.overlap:.3f}, and it "
            f"takes {LEAST_OVERLAP}; train the model further, or make one for this System"
        )
    if system.effective < FEWEST_SAMPLES:
        yield (
            f"its chains hold {system.effective:.0f} effective samples, too few for their errors; "
            "take more --iterations, or a model that is accepted more often"
        )
    if system.rhat > LARGEST_RHAT:
        yield (
            f"its chains disagree (R-hat {system.rhat:.2f}); take more --iterations, or a model "
            "that is accepted more often"
        )
    yield from _disagreement("importance weighting and BAR", system.weighting, system.bar)


def _of_difference(difference: DifferenceEstimate) -> Iterator[str]:
    if difference.overlap < LEAST_OVERLAP:
        yield (
            f"BAR between the two chains is not to be trusted: they overlap by "
            f"{difference.overlap:.3f}, and it takes {LEAST_OVERLAP}; the way through the flow "
            "stands by itself, so give each System a model of its own (--model2)"
        )
    yield from _disagreement(
        "the chains and the way through the flow", difference.chains, difference.through_flow
    )


def _disagreement(ways: str, first: Estimate, second: Estimate) -> Iterator[str]:
    error = math.hypot(first.error, second.error)
    if abs(first.value - second.value) > LARGEST_DEVIATION * error:
        yield (
            f"{ways} differ by {abs(first.value - second.value):.2g} kT with an error of "
            f"{error:.2g}: something is not sampled"
        )
