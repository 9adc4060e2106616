"""What every loss must keep: each loss of the registry goes through these tests."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from training_data import TINY_INTERNAL, short_run, write_data_folder

from timewarp_openmm.losses.registry import LOSSES, losses
from timewarp_openmm.training.config import parse_config
from timewarp_openmm.training.loop import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_folder(tmp_path_factory.mktemp("data") / "ala2")


@pytest.mark.parametrize("name", LOSSES)
def test_a_flow_trains_with_this_loss_alone(name: str, folder: Path, tmp_path: Path) -> None:
    """With its settings by default, which a configuration file keeps."""
    # A flow that draws independently, so that every loss applies.
    flow, loss = TINY_INTERNAL, {name: {}}
    config = short_run(folder, flow=flow, lag_times=[math.inf], loss=loss, max_steps=3)
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
