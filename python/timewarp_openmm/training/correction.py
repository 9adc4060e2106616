"""Learning a correction to a force field's energy from energies and forces of a potential."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..energies.correction import Correction
from ..units import thermal_energy

LEAST_STEPS = 300
_BATCH = 64
_RATE = 2e-3
#: Of one mean squared force in the loss to one of kT^2: forces are many and say most.
_FORCE_WEIGHT = 500.0
#: kT, and times the typical force: beyond, errors count linearly.
_BOUND, _FORCE_BOUND = 3.0, 1.0
#: kT above the median; what lies higher no chain ever visits.
_HIGHEST = 60.0
_TEST_EVERY = 10


@dataclass(frozen=True)
class Labelled:
    """Conformations with energies.

    Attributes
    ----------
    positions : array [F, N, 3], nm
    energies : array [F]
        U/kT.
    gradients : array [F, N, 3]
        Of U/kT, 1/nm.
    """

    positions: NDArray[np.float64]
    energies: NDArray[np.float64]
    gradients: NDArray[np.float64]

    @staticmethod
    def joined(parts: list[Labelled]) -> Labelled:
        """Return all of several."""
        return Labelled(
            np.concatenate([p.positions for p in parts]),
            np.concatenate([p.energies for p in parts]),
            np.concatenate([p.gradients for p in parts]),
        )

    def usable(self) -> Labelled:
        """Return those of a finite energy not too far above the others."""
        finite = np.isfinite(self.energies)
        kept = finite & (self.energies < np.median(self.energies[finite]) + _HIGHEST)
        return Labelled(self.positions[kept], self.energies[kept], self.gradients[kept])


@dataclass(frozen=True)
class CorrectionQuality:
    """How well a correction predicts conformations that it was not trained with.

    Attributes
    ----------
    states : int
        That it was trained with.
    before, after : float
        kT; the spread of potential minus force field, and of what is left with the correction:
        half the distance between the 16th and the 84th percentile.
    acceptance : float
        What a chain of delayed acceptance would accept of independent steps in its second stage.
    """

    states: int
    before: float
    after: float
    acceptance: float


def learn_correction(
    force_field: nn.Module,
    labelled: Labelled,
    temperature: float,
    seconds: float,
    seed: int,
    report: Callable[[float, str], None] = lambda *_: None,
    least_steps: int = LEAST_STEPS,
) -> tuple[Correction, CorrectionQuality]:
    """Learn what a potential has beyond a force field.

    Parameters
    ----------
    force_field : Module
        Of `surrogate_energy`.
    labelled : Labelled
        With the potential's energies, in kT at `temperature`. A tenth of them is held out.
    temperature : float
        K.
    seconds : float
        Of training.
    least_steps : int
        Taken in any case.

    Raises
    ------
    ValueError
        If fewer than 50 conformations have an energy.
    """
    usable = labelled.usable()
    if len(usable.energies) < 50:
        raise ValueError(
            f"only {len(usable.energies)} of {len(labelled.energies)} conformations have an energy "
            "of the potential, which is too few to learn from; give the fit more --minutes"
        )
    data = _Differences.of(force_field, usable, temperature)
    test = torch.arange(len(data.energies)) % _TEST_EVERY == 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        correction = Correction(usable.positions.shape[1])
    correction.fit_normalisation(data.positions[~test])
    _train(correction, data.part(~test), temperature, (seconds, least_steps), seed, report)
    correction.limit(data.energies * thermal_energy(temperature))
    return correction, _measure(correction, data.part(test), int((~test).sum()), temperature)


@dataclass(frozen=True)
class _Differences:
    """Potential minus force field, in kT and 1/nm; energies around their median."""

    positions: Tensor
    energies: Tensor
    gradients: Tensor

    @staticmethod
    def of(force_field: nn.Module, labelled: Labelled, temperature: float) -> _Differences:
        kT = thermal_energy(temperature)
        positions = torch.from_numpy(labelled.positions).float()
        energies, gradients = [], []
        for part in torch.split(positions, 256):
            x = part.clone().requires_grad_(True)
            found = force_field(x) / kT
            (gradient,) = torch.autograd.grad(found.sum(), x)
            energies.append(found.detach())
            gradients.append(gradient)
        difference = torch.from_numpy(labelled.energies) - torch.cat(energies)
        return _Differences(
            positions,
            (difference - difference.median()).float(),
            torch.from_numpy(labelled.gradients).float() - torch.cat(gradients),
        )

    def part(self, chosen: Tensor) -> _Differences:
        return _Differences(self.positions[chosen], self.energies[chosen], self.gradients[chosen])


def _train(
    correction: Correction,
    data: _Differences,
    temperature: float,
    length: tuple[float, int],
    seed: int,
    report: Callable[[float, str], None],
) -> None:
    kT = thermal_energy(temperature)
    # A robust spread: a few collisions would hide all else.
    typical = data.gradients.abs().median() / 0.6745
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(correction.parameters(), lr=_RATE)
    began, step = time.monotonic(), 0
    seconds, least_steps = length
    while (done := min((time.monotonic() - began) / seconds, step / least_steps)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = _RATE * 0.5 * (1 + math.cos(math.pi * done))
        rows = torch.randint(len(data.energies), (_BATCH,), generator=generator)
        x = data.positions[rows].requires_grad_(True)
        energy = correction.unlimited(x) / kT
        (gradient,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
        of_energy = nn.functional.huber_loss(energy, data.energies[rows], delta=_BOUND)
        of_forces = nn.functional.huber_loss(
            gradient / typical, data.gradients[rows] / typical, delta=_FORCE_BOUND
        )
        optimizer.zero_grad()
        torch.autograd.backward(of_energy + _FORCE_WEIGHT * of_forces)
        optimizer.step()
        step += 1
        report(done, f"step {step}, energies to {math.sqrt(2 * float(of_energy.detach())):.2f} kT")


@torch.no_grad()
def _measure(
    correction: Correction, data: _Differences, states: int, temperature: float
) -> CorrectionQuality:
    left = data.energies - correction(data.positions) / thermal_energy(temperature)
    between = left[:, None] - left[None]
    return CorrectionQuality(
        states,
        round(_spread(data.energies), 3),
        round(_spread(left), 3),
        round(float(between.exp().clamp_max(1.0).mean()), 3),
    )


def _spread(values: Tensor) -> float:
    low, high = torch.quantile(values, torch.tensor([0.16, 0.84]))
    return float(high - low) / 2
