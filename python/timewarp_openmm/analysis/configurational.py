"""Configurational free energies from draws of a normalised density and chains of Systems.

State 0 is the density q of the draws, with the reduced energy -log q and, being normalised, the
free energy 0. States 1, 2 ... are Systems at a temperature, with u = U/kT and f = -ln Z. All
energies here are in kT. Three ways lead to f:

* importance weighting of the draws, Z = <exp(-u)/q> (Zwanzig, J. Chem. Phys. 22, 1420 (1954));
* BAR between the draws and the System's own chain (Bennett, J. Comput. Phys. 22, 245 (1976));
* MBAR of all draws and chains (Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008)).

Errors are standard deviations of all of it over a bootstrap, in which draws are independent and
chains are made of blocks (circular: Politis and Romano, in Exploring the Limits of Bootstrap
(1992)). So they hold for differences of quantities that share samples, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..importance import UNPHYSICAL, kish_size
from .autocorrelation import SamplingQuality, sampling_quality
from .mbar import pymbar

#: Frames of each chain that are kept, at least, however correlated they are.
FEWEST_KEPT = 10
#: Of MBAR's solver, which takes ten where states overlap; where they do not, it might take minutes.
_MOST_ITERATIONS = 200


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Sample:
    """Frames of one state, and what all K states say of them.

    Attributes
    ----------
    state : int
        Which they were sampled from.
    reduced : float64 array [K, F]
        Reduced energy of each frame in each state.
    inside : bool array [F, B]
        Whether a frame is in each of B basins.
    chains : int
        F / chains successive frames belong to one chain.
    block : int
        Frames of a chain that the bootstrap keeps together.
    effective : float
        Effective samples among all frames, those that are left out included.
    rhat : float
        Whether chains agree (1) in their reduced energies; NaN for independent frames.
    counted : tuple of Estimate
        Share of all frames of the chains, kept or not, that is in each basin.
    """

    state: int
    reduced: NDArray[np.float64]
    inside: NDArray[np.bool_]
    chains: int = 1
    block: int = 1
    effective: float = math.nan
    rhat: float = math.nan
    counted: tuple[Estimate, ...] = ()

    @property
    def size(self) -> int:
        return int(self.reduced.shape[1])

    def resampled(self, rng: np.random.Generator) -> Sample:
        """Return as many frames, in blocks drawn with replacement that begin anywhere."""
        length = self.size // self.chains
        count = -(-self.size // self.block)
        chain = rng.integers(self.chains, size=count)
        start = rng.integers(length, size=count)
        within = (start[:, None] + np.arange(self.block)) % length
        chosen = (chain[:, None] * length + within).ravel()[: self.size]
        return Sample(
            self.state, self.reduced[:, chosen], self.inside[chosen], self.chains, self.block
        )


def independent_sample(reduced: NDArray[np.float64], inside: NDArray[np.bool_]) -> Sample:
    """Return the draws as a sample of state 0; energies that are not finite become UNPHYSICAL."""
    draws = _finite(reduced)
    # What is no conformation has no weight in any System; q of it must only be some number.
    draws[0, (draws[1:] >= UNPHYSICAL).all(axis=0)] = 0.0
    return Sample(0, draws, inside, effective=float(draws.shape[1]))


def chain_sample(
    state: int, reduced: NDArray[np.float64], inside: NDArray[np.bool_], chains: int
) -> Sample:
    """Return frames of several chains, one chain after the other, as a sample of a System.

    Of correlated frames one per statistical inefficiency is kept, so that BAR and MBAR, which take
    all frames for independent, give chains no more weight than they have (Klimovich et al. 2015).
    The inefficiency is the largest of those of the frames' log weights and of their being in each
    basin.
    """
    reduced = _finite(reduced)
    length = reduced.shape[1] // chains
    log_weights = (reduced[state] - reduced[0]).reshape(chains, length)
    columns = [column.reshape(chains, length).astype(float) for column in inside.T]
    qualities = [_quality(values) for values in (log_weights, *columns)]
    known = [quality for quality in qualities if quality is not None]
    # Chains that never moved are one sample each.
    tau = max(1.0, max((quality.tau for quality in known), default=float(length)))
    kept = np.arange(length) % min(math.floor(tau), max(length // FEWEST_KEPT, 1)) == 0
    every = np.tile(kept, chains)
    return Sample(
        state,
        reduced[:, every],
        inside[every],
        chains,
        block=max(1, min(math.ceil(2 * tau * kept.sum() / length), int(kept.sum()) // 2)),
        effective=reduced.shape[1] / tau,
        rhat=max((quality.rhat for quality in known), default=math.nan),
        counted=tuple(map(_counted, columns, qualities[1:])),
    )


def _quality(values: NDArray[np.float64]) -> SamplingQuality | None:
    """Return the quality of values [C, F], None if they are all the same."""
    return sampling_quality(values) if np.ptp(values) > 0 else None


def _counted(values: NDArray[np.float64], quality: SamplingQuality | None) -> Estimate:
    error = math.nan if quality is None else float(values.std() / math.sqrt(quality.ess))
    return Estimate(float(values.mean()), error)


def _finite(reduced: NDArray[np.float64]) -> NDArray[np.float64]:
    finite: NDArray[np.float64] = np.where(
        np.isfinite(reduced), np.minimum(reduced, UNPHYSICAL), UNPHYSICAL
    )
    return finite


@dataclass(frozen=True)
class BasinEstimate:
    """What a System says of one basin.

    Attributes
    ----------
    population : Estimate
        Share of the whole, by MBAR.
    counted : Estimate
        Share of the chain's frames, all of them.
    free_energy : Estimate
        -ln of the basin's own integral, kT; infinite where nothing was there.
    relative : Estimate
        To the first basin, kT.
    """

    population: Estimate
    counted: Estimate
    free_energy: Estimate
    relative: Estimate


@dataclass(frozen=True)
class SystemEstimate:
    """f = -ln Z of a System, in kT.

    Attributes
    ----------
    weighting, bar, mbar : Estimate
        From the draws; from draws and its own chain; from everything.
    kish_share : float
        Kish's effective sample size of the draws, per draw.
    kish : float
        The effective sample size itself.
    overlap : float
        Of draws and chain, 0 to 0.5: the element beside the diagonal of the overlap matrix of as
        many samples of either.
    effective : float
        Effective samples of the chain.
    rhat : float
    basins : tuple of BasinEstimate
    """

    weighting: Estimate
    bar: Estimate
    mbar: Estimate
    kish_share: float
    kish: float
    overlap: float
    effective: float
    rhat: float
    basins: tuple[BasinEstimate, ...]


@dataclass(frozen=True)
class DifferenceEstimate:
    """f of the second System less that of the first, in kT.

    Attributes
    ----------
    weighting : Estimate
        Of the two absolute free energies from the same draws, no chain taking part.
    chains : Estimate
        BAR between the two chains, the draws taking no part.
    through_flow : Estimate
        Of the two absolute free energies by BAR.
    mbar : Estimate
    overlap : float
        Of the two chains, likewise.
    """

    weighting: Estimate
    chains: Estimate
    through_flow: Estimate
    mbar: Estimate
    overlap: float


@dataclass(frozen=True)
class FreeEnergies:
    """All that samples say about one System or two.

    Attributes
    ----------
    systems : tuple of SystemEstimate
    difference : DifferenceEstimate or None
        Where there are two.
    overlap : float64 array [K, K]
        pymbar's overlap matrix of the draws and all chains.
    """

    systems: tuple[SystemEstimate, ...]
    difference: DifferenceEstimate | None
    overlap: NDArray[np.float64]


def free_energies(
    draws: Sample, chains: Sequence[Sample], resamples: int, seed: int = 0
) -> FreeEnergies:
    """Estimate the free energies of one System or two.

    Parameters
    ----------
    draws : Sample
        Of state 0.
    chains : sequence of Sample
        Of the states 1, 2 ..., one each, in this order.
    resamples : int
        Of the bootstrap.
    """
    samples = [draws, *chains]
    found = _figures(samples, None)
    rng = np.random.default_rng(seed)
    drawn = [
        _figures([sample.resampled(rng) for sample in samples], found["mbar"])
        for _ in range(resamples)
    ]
    with np.errstate(invalid="ignore"):
        errors = {name: np.std([d[name] for d in drawn], axis=0, ddof=1) for name in found}

    def estimate(name: str, *place: int) -> Estimate:
        return Estimate(float(found[name][place]), float(errors[name][place]))

    def basin(i: int, chain: Sample, number: int) -> BasinEstimate:
        return BasinEstimate(
            population=estimate("populations", i, number),
            counted=chain.counted[number],
            free_energy=estimate("of_basins", i, number),
            relative=estimate("relative", i, number),
        )

    def of_system(i: int, chain: Sample) -> SystemEstimate:
        kish = kish_size(-_work(draws, 0, chain.state))
        return SystemEstimate(
            weighting=estimate("weighting", i),
            bar=estimate("bar", i),
            mbar=estimate("mbar", i),
            kish_share=kish / draws.size,
            kish=kish,
            overlap=_pair_overlap(draws, chain, float(found["bar"][i])),
            effective=chain.effective,
            rhat=chain.rhat,
            basins=tuple(basin(i, chain, number) for number in range(draws.inside.shape[1])),
        )

    difference = None
    if len(chains) == 2:
        difference = DifferenceEstimate(
            weighting=estimate("weighting_difference"),
            chains=estimate("chains"),
            through_flow=estimate("through_flow"),
            mbar=estimate("difference"),
            overlap=_pair_overlap(chains[0], chains[1], float(found["chains"])),
        )
    systems = tuple(of_system(i, chain) for i, chain in enumerate(chains))
    return FreeEnergies(systems, difference, _overlap_matrix(samples, found["mbar"]))


def _figures(
    samples: Sequence[Sample], start: NDArray[np.float64] | None
) -> dict[str, NDArray[np.float64]]:
    """Return every estimate by name: of each of S Systems [S], and of its B basins [S, B]."""
    draws, *chains = samples
    f = _mbar(samples, start)
    weights = np.exp(_log_weights(samples, f))[1:]
    inside = np.concatenate([sample.inside for sample in samples])
    populations = weights @ inside
    with np.errstate(divide="ignore", invalid="ignore"):
        of_basins = f[:, None] - np.log(populations)
        relative = of_basins - of_basins[:, :1]
    figures = {
        "weighting": np.array([weighted(_work(draws, 0, chain.state)) for chain in chains]),
        "bar": np.array([bar(draws, chain) for chain in chains]),
        "mbar": f,
        "populations": populations,
        "of_basins": of_basins,
        "relative": relative,
    }
    if len(chains) == 2:
        figures["chains"] = np.array(bar(*chains))
        figures["weighting_difference"] = np.diff(figures["weighting"])[0]
        figures["through_flow"] = np.diff(figures["bar"])[0]
        figures["difference"] = np.diff(f)[0]
    return figures


def _work(sample: Sample, start: int, end: int) -> NDArray[np.float64]:
    """Return the reduced energies [F] in one state less those in another."""
    work: NDArray[np.float64] = sample.reduced[end] - sample.reduced[start]
    return work


def weighted(work: NDArray[np.float64]) -> float:
    """Return -ln <exp(-work)>.

    Examples
    --------
    >>> round(weighted(np.array([0.0, np.inf])), 4)
    0.6931
    """
    from scipy.special import logsumexp

    return float(math.log(len(work)) - logsumexp(-work))


def bar(first: Sample, second: Sample) -> float:
    """Return f of the second sample's state less that of the first's, by BAR."""
    forward = _work(first, first.state, second.state)
    reverse = _work(second, second.state, first.state)
    # The bracket that it looks for the root in must hold it, and the means may be far off.
    guess = weighted(forward)
    found = pymbar().bar(forward, reverse, DeltaF=guess, compute_uncertainty=False)
    return float(found["Delta_f"])


def _mbar(
    samples: Sequence[Sample], start: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return f [S] of the Systems by MBAR, that of the draws being 0."""
    counts = np.array([sample.size for sample in samples])
    reduced = np.concatenate([sample.reduced for sample in samples], axis=1)
    if start is None:
        start = np.array([weighted(_work(samples[0], 0, s.state)) for s in samples[1:]])
    initial = np.concatenate([[0.0], start])
    solver = pymbar().MBAR(
        reduced, counts, initial_f_k=initial, maximum_iterations=_MOST_ITERATIONS
    )
    found = solver.f_k
    return np.asarray(found[1:] - found[0], dtype=float)


def _log_weights(samples: Sequence[Sample], f: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log weights [K, F] of all frames in each state; weights of a state add up to 1."""
    from scipy.special import logsumexp

    states = [sample.state for sample in samples]
    reduced = np.concatenate([sample.reduced for sample in samples], axis=1)[states]
    log_factors = np.concatenate([[0.0], f])[:, None] - reduced
    counts = np.array([[sample.size] for sample in samples])
    weights: NDArray[np.float64] = log_factors - logsumexp(log_factors, b=counts, axis=0)
    return weights


def _overlap_matrix(samples: Sequence[Sample], f: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the overlap matrix, O_ij = N_j sum_n W_ni W_nj (Klimovich et al. 2015, eq. 9)."""
    weights = np.exp(_log_weights(samples, f))
    counts = np.array([sample.size for sample in samples])
    matrix: NDArray[np.float64] = (weights @ weights.T) * counts
    return matrix


def _pair_overlap(first: Sample, second: Sample, f: float) -> float:
    """Return the element beside the diagonal that the overlap matrix of two states has where there
    are as many samples of either, int p q / (p + q), at most 0.5: the mean of BAR's Fermi
    functions over either sample, of which the lesser is taken."""
    from scipy.special import expit

    forward = expit(f - _work(first, first.state, second.state))
    reverse = expit(-f - _work(second, second.state, first.state))
    return float(min(forward.mean(), reverse.mean()))
