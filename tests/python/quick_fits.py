"""Fits that take little of everything, and say what they do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import pytest

from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.workflows import fit as fit_module
from timewarp_openmm.workflows import record as record_module
from timewarp_openmm.workflows.budget import Costs, FitBudget
from timewarp_openmm.workflows.settings import FitSettings

#: Little of everything.
QUICK = FitBudget(
    least_minutes=0.0,
    runs_per_basin=2,
    least_basins=1,
    most_basins=3,
    equilibration=0.5,
    shortest=2.0,
    least_steps=1,
    least_draws=200,
    most_draws=400,
    chains=3,
    iterations=50,
    relaxation=0.5,
    export_starts=0.0,
    least_acceptance=0.0,
    least_in_place=0.0,
)
SETTINGS = FitSettings(minutes=0.1, seed=3, workers=1)
SMALL = InternalFlowConfig(
    rotatable_layers=2, rotatable_hidden=16, rotatable_bins=4, stiff_layers=2, stiff_hidden=16
)


@contextmanager
def known_plans(*timed: ModuleType) -> Iterator[None]:
    """Plans that do not depend on how busy the machine is, and a clock that stands still.

    The stages keep their own time; the clock is that of the fit as a whole, and of modules `timed`.
    """
    with pytest.MonkeyPatch.context() as patch:
        costs = Costs(10.0, seconds_per_draw=2e-5, seconds_per_step=0.01, seconds_to_start=0.1)
        patch.setattr(fit_module, "measure_costs", lambda *_: costs)
        for module in (fit_module, record_module, *timed):
            patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 0.0))
        yield


class Record:
    """A display that remembers, and stops a fit at a stage as Ctrl-C would."""

    def __init__(self, stop_at: str = "") -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []
        self._stop_at = stop_at

    def stage(self, name: str) -> None:
        if name == self._stop_at:
            raise KeyboardInterrupt
        self.stages.append(name)

    def update(self, done: float, note: str) -> None:
        assert -1e-9 <= done <= 1 + 1e-9
        self.notes.append(f"{self.stages[-1]}: {note}")

    def tell(self, message: str) -> None:
        self.notes.append(message)
