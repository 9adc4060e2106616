"""Rotamers of capped valine and leucine in TIP3P, by a block of the side chain and dynamics,
against umbrella sampling by OpenMM alone (tests/data, made by benchmarks/umbrella_rotamers.py)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data"
#: Models, the first made by benchmarks/make_test_models.py and the other the bundled library's;
#: steps of 25 time steps and 200 proposals; and how many changes of rotamer there are at least.
RUNS = {
    "valine-dipeptide": (DATA / "valine-sidechain-small.pt", 400, 8),
    "leucine-dipeptide": (
        ROOT / "python" / "timewarp_openmm" / "pretrained" / "amber14" / "LEU.pt",
        # In less time its most frequent rotamers seldom take turns, and errors are too small.
        8000,
        200,
    ),
}
#: Chance that a right chain fails.
FALSE_ALARM = 1e-3


@pytest.mark.long
@pytest.mark.parametrize("molecule", RUNS)
def test_rotamers_are_those_of_umbrella_sampling(
    molecule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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

    model, steps, changes = RUNS[molecule]
    reference = json.loads((DATA / f"{molecule}-rotamers.json").read_text())
    simulation, integrator = make_simulation(molecule, model, seed=1, threads=1)
    angles, names = sample(simulation, math.inf, steps)
    found, expected = shares_of(angles, names), reference_shares(reference)
    print(table(found, expected, list(reference["rotamers"])))
    assert integrator.getBlockStatistics(0).accepted > 0.01 * steps
    # The dynamics alone, 40 and 800 ps, change the rotamer about once at most.
    assert changes_of(angles, names) > changes
    assert found.errors.max() < 0.15
    assert p_value(found, expected) > FALSE_ALARM
    # It would see a rotamer that is lost.
    lost = np.roll(np.eye(len(found.whole))[int(found.whole.argmax())], 1)
    moved = type(found)(found.blocks - found.whole + lost, lost)
    assert p_value(moved, expected) < FALSE_ALARM
