"""Short runs whose losses are known: what training does changes only where it is meant to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from training_data import TINY_CARTESIAN, TINY_INTERNAL, short_run, write_data_folder

from timewarp_openmm.curves import read_metrics
from timewarp_openmm.training.loop import train

LAGS = [0.1, math.inf]
OWN = {"states": 2, "proposals": 2}
ALL_LOSSES = {
    "likelihood": 1.0,
    "acceptance": {"weight": 0.01, **OWN},
    "entropy": {"weight": 0.1, **OWN},
}
REGRESSION = {"likelihood": 0.5, "regression": {"draws": 8, "states": 8, "redrawn": 0}}
REDRAWN = {"regression": {"draws": 8, "states": 8}}

RUNS: dict[str, dict[str, Any]] = {
    "cartesian": {"flow": TINY_CARTESIAN, "lag_times": [0.1], "loss": ALL_LOSSES},
    "independent draws": {"flow": TINY_INTERNAL, "lag_times": [math.inf], "loss": REGRESSION},
    "redrawn states": {"flow": TINY_INTERNAL, "lag_times": [math.inf], "loss": REDRAWN},
    "lags": {
        "flow": {**TINY_INTERNAL, "lag_times": LAGS, "velocities": True},
        "lag_times": LAGS,
        "lag_weights": [3.0, 1.0],
    },
}
#: Of each run at steps 10, 20 and 30: the training loss and the test log-likelihood.
EXPECTED = {
    "cartesian": [(-91.78902, 101.6516), (-94.125224, 103.41395), (-93.978487, 104.01193)],
    "independent draws": [(91.149032, 142.28443), (22568.666, 142.52736), (814.78688, 142.60268)],
    "redrawn states": [(788.59181, 142.22931), (216.4526, 142.42886), (103.16695, 142.48364)],
    "lags": [(-146.59528, 142.88237), (-147.20779, 143.10576), (-145.7799, 143.18946)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_folder(tmp_path_factory.mktemp("data") / "ala2")


@pytest.mark.parametrize("name", RUNS)
def test_losses_are_those_on_record(name: str, folder: Path, tmp_path: Path) -> None:
    config = short_run(
        folder,
        max_steps=30,
        warmup_steps=5,
        learning_rate=1e-3,
        evaluation_interval=10,
        evaluation_pairs=16,
        ema_decay=0.9,
        **RUNS[name],
    )
    train(config, tmp_path / "run")
    found = [
        (entry["train_loss"], entry["test_log_likelihood"])
        for entry in read_metrics(tmp_path / "run")
    ]
    # Processors round differently; 30 steps make little of it.
    assert found == [pytest.approx(expected, rel=1e-4) for expected in EXPECTED[name]]
