"""Independent draws of a flow: importance weights, and the exact chain that they make.

A flow with an infinite lag draws without looking at the current state, so a Metropolis-Hastings
chain can be run on a list of draws: the ratio is that of importance weights p/q. The chain is the
same as the integrator's, here in numpy so that training need not wait for files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..energies.base import BatchEnergy
from ..flows.gaussian import log_normal
from ..importance import UNPHYSICAL, kish_size, normalised_weights

#: Proposals that are made together.
_CHUNK = 1000


@dataclass(frozen=True)
class Draws:
    """Draws of a flow and their importance weights.

    Attributes
    ----------
    positions : float32 array [F, N, 3], nm
    log_weights : float64 array [F]
        log p - log q, up to one constant; -inf where a draw is impossible.
    contexts : int
        Of a flow that moves a part: how many contexts have one share of the draws each, in order.
    """

    positions: NDArray[np.float32]
    log_weights: NDArray[np.float64]
    contexts: int = 1

    def weights(self) -> NDArray[np.float64]:
        """Return the importance weights, sum 1."""
        return normalised_weights(self.log_weights)

    def kish_share(self) -> float:
        """Return Kish's effective sample size, as a part of the number of draws; the mean over
        contexts, since weights of different ones cannot be compared."""
        shares = np.array_split(self.log_weights, self.contexts)
        return float(np.mean([kish_size(s) / len(s) for s in shares]))


@torch.no_grad()
def draw(
    flow: Any,
    energy: BatchEnergy,
    reference: torch.Tensor,
    count: int,
    generator: torch.Generator,
) -> Draws:
    """Make `count` independent draws; the flow's weights must not change meanwhile.

    Parameters
    ----------
    flow : Module with the model contract's methods
    energy : BatchEnergy
    reference : Tensor [N, 3] or [S, N, 3], nm
        Any conformation; the contract asks for one. For a flow that moves a part, S states in whose
        contexts it draws, a share of the draws in each.
    """
    contexts = len(reference) if reference.dim() == 3 else 1
    shares = np.array_split(np.arange(count), contexts)
    of_draw = np.concatenate([np.full(len(share), i) for i, share in enumerate(shares)])
    positions, log_weights = [], []
    for first in range(0, count, _CHUNK):
        size = min(_CHUNK, count - first)
        noise = torch.randn(size, flow.noise_size, generator=generator).to(reference.device)
        lag = torch.full((size,), math.inf, device=reference.device)
        x = reference[of_draw[first : first + size]] if reference.dim() == 3 else reference
        y, w, log_q = flow.sample(x, noise, lag)
        log_weights.append(_log_weights(energy, y, w, log_q))
        positions.append(y.cpu().float().numpy())
    return Draws(np.concatenate(positions), np.concatenate(log_weights), contexts)


@torch.no_grad()
def log_weights_of(
    flow: Any, energy: BatchEnergy, positions: torch.Tensor, own_context: bool = False
) -> NDArray[np.float64]:
    """Return log p - log q [F] of given conformations [F, N, 3] / nm; +inf where q is 0.

    Parameters
    ----------
    own_context : bool
        Whether each is a draw in a context of its own.
    """
    w = torch.zeros_like(positions)
    lag = torch.full((len(positions),), math.inf, device=positions.device)
    log_q = flow.log_prob(positions, w, positions if own_context else positions[:1], lag)
    log_target = log_normal(w.flatten(1)) - energy.energies(positions)
    values: NDArray[np.float64] = (log_target - log_q).cpu().numpy()
    return values


def _log_weights(
    energy: BatchEnergy, y: torch.Tensor, w: torch.Tensor, log_q: torch.Tensor
) -> NDArray[np.float64]:
    reduced = energy.energies(y)
    values: NDArray[np.float64] = (log_normal(w.flatten(1)) - reduced - log_q).cpu().numpy()
    impossible = (reduced >= UNPHYSICAL).cpu().numpy() | ~np.isfinite(values)
    return np.where(impossible, -np.inf, values)


@dataclass(frozen=True)
class Chains:
    """Chains over one list of draws, from several starts.

    Attributes
    ----------
    acceptance : float array [S]
        Of each chain.
    visited : int array [S, F]
        Which draw each chain is at; -1 while it has not left its start.
    """

    acceptance: NDArray[np.float64]
    visited: NDArray[np.int64]

    @property
    def mean(self) -> float:
        return float(self.acceptance.mean())

    @property
    def error(self) -> float:
        """The standard error of `mean`; NaN for a single chain."""
        if len(self.acceptance) < 2:
            return math.nan
        return float(self.acceptance.std(ddof=1) / math.sqrt(len(self.acceptance)))


def run_chains(
    draws: Draws, start_log_weights: NDArray[np.float64], rng: np.random.Generator
) -> Chains:
    """Run one chain from each start; each goes through its own share of the draws, in order.

    Chains that shared draws would not be independent, and their spread would be no error.

    Parameters
    ----------
    draws : Draws
        F of them.
    start_log_weights : array [S]
        As from `log_weights_of`.
    """
    starts = len(start_log_weights)
    shares = np.array_split(np.arange(len(draws.log_weights)), starts)
    longest = max(len(share) for share in shares)
    visited = np.full((starts, longest), -1, dtype=np.int64)
    acceptance = np.zeros(starts)
    for chain, share in enumerate(shares):
        current, where, accepted = start_log_weights[chain], -1, 0
        thresholds = np.log(1.0 - rng.random(len(share)))
        for step, draw_index in enumerate(share):
            proposed = draws.log_weights[draw_index]
            if thresholds[step] < proposed - current:
                current, where, accepted = proposed, int(draw_index), accepted + 1
            visited[chain, step] = where
        visited[chain, len(share) :] = where
        acceptance[chain] = accepted / max(1, len(share))
    return Chains(acceptance, visited)
