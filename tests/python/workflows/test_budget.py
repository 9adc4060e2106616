"""How the time of a fit is shared out, and what it costs at the least."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from timewarp_openmm.simulation.systems import named_molecule
from timewarp_openmm.workflows.budget import (
    LARGER,
    Costs,
    FitBudget,
    export_seconds,
    least_times,
    measure_costs,
    network_sizes,
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


def test_networks_are_larger_where_there_are_steps_enough_for_them() -> None:
    """A step takes 0.02 s with its draws and 1.65 times as long with larger networks; 0.71 of the
    time is left for refining."""
    budget = FitBudget()
    least = 1.65 * 0.02024 * budget.larger_steps / 60 / 0.71
    assert network_sizes(budget, COSTS, 0.99 * least) == {}
    assert network_sizes(budget, COSTS, 1.01 * least) == LARGER
    larger = COSTS.of_larger_networks()
    assert larger.seconds_per_step == pytest.approx(1.65 * COSTS.seconds_per_step)
    assert larger.ps_per_second == COSTS.ps_per_second


@pytest.mark.parametrize(
    "changes",
    [{"runs_per_basin": 1}, {"chains": 1}, {"train_share": 0.0}, {"shortest": -1}, {"typo": 1}],
)
def test_bad_budgets_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        FitBudget(**changes)
