"""Rotamers of capped valine in TIP3P, by a block of its side chain and dynamics, against umbrella
sampling made with OpenMM alone (tests/data, by benchmarks/umbrella_rotamers.py)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data"
#: Made by benchmarks/make_test_models.py.
MODEL = DATA / "valine-sidechain-small.pt"
#: Steps of 25 time steps and 200 proposals; chance that a right chain fails.
STEPS, FALSE_ALARM = 400, 1e-3


@pytest.mark.long
def test_rotamers_are_those_of_umbrella_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from rotamer_populations import (
        changes_of,
        make_simulation,
        p_value,
        reference_shares,
        sample,
        shares_of,
        table,
    )

    reference = json.loads((DATA / "valine-dipeptide-rotamers.json").read_text())
    simulation, integrator = make_simulation("valine-dipeptide", MODEL, seed=1, threads=1)
    angles, names = sample(simulation, math.inf, STEPS)
    found, expected = shares_of(angles, names), reference_shares(reference)
    print(table(found, expected, list(reference["rotamers"])))
    assert integrator.getBlockStatistics(0).accepted > 0.01 * STEPS
    # The 40 ps of dynamics alone change the rotamer less than once.
    assert changes_of(angles, names) > 8
    assert found.errors.max() < 0.15
    assert p_value(found, expected) > FALSE_ALARM
    # It would see a rotamer that is lost.
    lost = np.roll(np.eye(len(found.whole))[int(found.whole.argmax())], 1)
    moved = type(found)(found.blocks - found.whole + lost, lost)
    assert p_value(moved, expected) < FALSE_ALARM
