"""How the time of a fit is shared out, and what it costs at the least."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from timewarp_openmm.simulation.systems import named_molecule
from timewarp_openmm.workflows.budget import (
    Costs,
    FitBudget,
    export_seconds,
    least_times,
    measure_costs,
)

COSTS = Costs(20.0, seconds_per_draw=2e-5, seconds_per_step=0.01, seconds_to_start=1.0)


def test_costs_are_measured() -> None:
    molecule = named_molecule("alanine-dipeptide")
    costs = measure_costs(molecule, 1, FitBudget(speed_seconds=0.1))
    # One step of dynamics is one energy; anything from a wristwatch to a supercomputer passes.
    assert 1e-3 < costs.ps_per_second < 1e4
    assert costs.seconds_per_energy == pytest.approx(1e-3 / costs.ps_per_second)
    assert 1e-8 < costs.seconds_per_draw < costs.seconds_per_step < 100
    assert 0 < costs.seconds_to_start < 600


@pytest.mark.parametrize(
    "slower", ["ps_per_second", "seconds_per_draw", "seconds_per_step", "seconds_to_start"]
)
def test_whatever_is_slower_asks_for_more_time(slower: str) -> None:
    factor = 0.1 if slower == "ps_per_second" else 10
    worse = replace(COSTS, **{slower: factor * getattr(COSTS, slower)})
    budget = FitBudget()
    assert least_times(budget, worse, 2).total > 1.05 * least_times(budget, COSTS, 2).total


def test_workers_share_simulating_and_not_the_flow() -> None:
    budget = FitBudget()
    two, four = (least_times(budget, COSTS, n) for n in (2, 4))
    starting = COSTS.seconds_to_start
    assert four.simulate - starting == pytest.approx((two.simulate - starting) / 2)
    assert four.train == two.train
    assert export_seconds(budget, COSTS, 4) < export_seconds(budget, COSTS, 2)


def test_larger_molecules_keep_more_basins() -> None:
    assert (FitBudget().basins_for(22), FitBudget().basins_for(26)) == (16, 24)


@pytest.mark.parametrize(
    "changes",
    [{"runs_per_basin": 1}, {"chains": 1}, {"train_share": 0.0}, {"shortest": -1}, {"typo": 1}],
)
def test_bad_budgets_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        FitBudget(**changes)
