"""What every loss must keep: each loss of the registry goes through these tests."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from training_data import data_section, write_data_folder

from timewarp_openmm.losses.registry import LOSSES, losses
from timewarp_openmm.training.config import TrainingConfig, parse_config
from timewarp_openmm.training.loop import train

#: A flow that draws independently, so that every loss applies.
FLOW = {
    "coordinates": "internal",
    "rotor_layers": 2,
    "rotor_hidden": 8,
    "narrow_layers": 2,
    "narrow_hidden": 16,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_folder(tmp_path_factory.mktemp("data") / "ala2")


@pytest.mark.parametrize("name", LOSSES)
def test_a_flow_trains_with_this_loss_alone(name: str, folder: Path, tmp_path: Path) -> None:
    """With its settings by default, which a configuration file keeps."""
    config = TrainingConfig.model_validate(
        {
            "flow": FLOW,
            "data": data_section(folder),
            "lag_times": [math.inf],
            "loss": {name: {}},
            "batch_size": 16,
            "max_steps": 3,
            "evaluation_pairs": 8,
        }
    )
    (used,) = config.loss.used()
    assert type(used) is LOSSES[name]
    assert parse_config(config.to_yaml()) == config
    progress = train(config, tmp_path / "run")
    assert math.isfinite(progress.train_loss)
    assert progress.bad_steps == 0


@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_of_zero_leaves_it_out(name: str) -> None:
    other = next(other for other in LOSSES if other != name)
    (used,) = losses(**{name: 0, other: 1}).used()
    assert type(used) is LOSSES[other]
