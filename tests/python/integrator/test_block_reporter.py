"""BlockReporter writes what has become of each block's proposals."""

from __future__ import annotations

import csv
from dataclasses import astuple
from pathlib import Path

import openmm
import pytest
from block_systems import two_block_integrator, wells_simulation
from chains import TEMPERATURE

from timewarp_openmm import BlockReporter, TimewarpMCMCIntegrator

COUNTS = ("tried", "accepted", "screened", "nonFinite", "rigidTried", "rigidAccepted")


def read(path: Path) -> list[dict[str, int]]:
    rows = list(csv.DictReader(path.read_text().splitlines()))
    return [{name: int(value) for name, value in row.items()} for row in rows]


def counts_of(integrator: TimewarpMCMCIntegrator) -> dict[str, int]:
    return {
        f"block {i} {name}": number
        for i in range(integrator.getNumBlocks())
        for name, number in zip(COUNTS, astuple(integrator.getBlockStatistics(i)), strict=True)
    }


def test_rows_hold_what_was_counted_since_the_start(models: dict[str, str], tmp_path: Path) -> None:
    simulation = wells_simulation(two_block_integrator(models), "Reference")
    simulation.step(7)
    before = counts_of(simulation.integrator)
    path = tmp_path / "blocks.csv"
    simulation.reporters.append(BlockReporter(path, 5))
    expected = []
    for steps in (3, 5, 5, 2, 3):  # also where step() ends between two rows
        simulation.step(steps)
        now = counts_of(simulation.integrator)
        expected.append({name: now[name] - before[name] for name in now})
    rows = read(path)
    assert list(rows[0]) == ["step", *before]
    assert [row.pop("step") for row in rows] == [10, 15, 20, 25]
    assert rows == [expected[i] for i in (0, 1, 2, 4)]
    assert rows[-1]["block 0 tried"] + rows[-1]["block 1 tried"] == 18
    assert rows[-1]["block 1 accepted"] > 0


def test_a_file_is_continued(models: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "blocks.csv"
    for run, append in enumerate((True, True, True, False)):
        simulation = wells_simulation(two_block_integrator(models, seed=run + 1), "Reference")
        simulation.currentStep = 20 * run
        simulation.reporters.append(BlockReporter(path, 10, append=append))
        simulation.step(20)
        simulation.reporters.clear()
        rows = read(path)
        expected = [10 * (i + 1) for i in range(2 * (run + 1))] if append else [70, 80]
        assert [row["step"] for row in rows] == expected
        tries = [row["block 0 tried"] + row["block 1 tried"] for row in rows]
        assert tries == ([row["step"] for row in rows] if append else [10, 20])


def test_a_checkpoint_that_is_loaded_takes_nothing_back(
    models: dict[str, str], tmp_path: Path
) -> None:
    simulation = wells_simulation(two_block_integrator(models), "Reference")
    simulation.step(3)
    checkpoint = simulation.context.createCheckpoint()
    path = tmp_path / "blocks.csv"
    simulation.reporters.append(BlockReporter(path, 10))
    simulation.step(17)
    simulation.context.loadCheckpoint(checkpoint)
    assert simulation.integrator.getNumProposed() == 3
    simulation.step(17)
    rows = read(path)
    assert [row["step"] for row in rows] == [10, 20, 10, 20]
    tries = [row["block 0 tried"] + row["block 1 tried"] for row in rows]
    assert tries == [7, 17, 24, 34]


def test_members_of_compound_integrators(models: dict[str, str], tmp_path: Path) -> None:
    compound = openmm.CompoundIntegrator()
    compound.addIntegrator(openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, 0.002))
    compound.addIntegrator(two_block_integrator(models))
    one = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    one.addBlock(models["walk"], [2, 3, 4, 5])
    compound.addIntegrator(one)
    simulation = wells_simulation(compound, "Reference")
    simulation.reporters.append(BlockReporter(tmp_path / "blocks.csv", 4))
    for current in (0, 1, 2):
        compound.setCurrentIntegrator(current)
        simulation.step(4)
    rows = read(tmp_path / "blocks.csv")
    names = [("1", 0), ("1", 1), ("2", 0)]
    columns = [f"integrator {m} block {b} {name}" for m, b in names for name in COUNTS]
    assert list(rows[0]) == ["step", *columns]
    tries = [[row[f"integrator {m} block {b} tried"] for m, b in names] for row in rows]
    assert tries[0] == [0, 0, 0]
    assert sum(tries[1]) == 4
    assert tries[2][2] == 4
    assert tries[2][:2] == tries[1][:2]


def test_the_model_of_the_class_is_a_block(models: dict[str, str], tmp_path: Path) -> None:
    integrator = TimewarpMCMCIntegrator(models["walk"])
    integrator.setParticles([0, 1, 2, 3])
    integrator.setFrozenOthers(True)
    simulation = wells_simulation(integrator, "Reference")
    simulation.reporters.append(BlockReporter(str(tmp_path / "blocks.csv"), 2))
    simulation.step(2)
    assert read(tmp_path / "blocks.csv")[0]["block 0 tried"] == 2


@pytest.mark.parametrize("interval", [0, -1, 1.5, "10", None])
def test_intervals_that_cannot_be(tmp_path: Path, interval: object) -> None:
    with pytest.raises(ValueError, match="reportInterval must be a positive number of steps"):
        BlockReporter(tmp_path / "blocks.csv", interval)
    assert not (tmp_path / "blocks.csv").exists()


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n",
        "step,block 0 tried\n1,2\n2,",
        "step,block 0 tried\n1,2\n2,3,4\n",
        "step,block 0 tried\n1,two\n",
    ],
)
def test_other_files_are_not_appended_to(tmp_path: Path, text: str) -> None:
    path = tmp_path / "blocks.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match="is not a complete file of a BlockReporter"):
        BlockReporter(path, 10, append=True)
    assert path.read_text() == text


def test_a_file_of_other_blocks_is_not_appended_to(models: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "blocks.csv"
    simulation = wells_simulation(two_block_integrator(models), "Reference")
    simulation.reporters.append(BlockReporter(path, 5))
    simulation.step(5)
    simulation.reporters.clear()
    text = path.read_text()
    more = two_block_integrator(models)
    more.addBlock(models["walk"], [2, 3, 4, 5])
    other = wells_simulation(more, "Reference")
    other.reporters.append(BlockReporter(path, 5, append=True))
    with pytest.raises(ValueError, match="columns of other blocks"):
        other.step(5)
    assert path.read_text() == text


def test_an_integrator_without_blocks(tmp_path: Path, models: dict[str, str]) -> None:
    simulation = wells_simulation(
        openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, 0.002), "Reference"
    )
    simulation.reporters.append(BlockReporter(tmp_path / "blocks.csv", 5))
    with pytest.raises(ValueError, match="finds no block"):
        simulation.step(5)


def test_the_file_is_closed(models: dict[str, str], tmp_path: Path) -> None:
    reporter = BlockReporter(tmp_path / "blocks.csv", 5)
    simulation = wells_simulation(two_block_integrator(models), "Reference")
    simulation.reporters.append(reporter)
    simulation.step(5)
    reporter.close()
    reporter.close()
    with pytest.raises(ValueError, match="is closed"):
        simulation.step(5)
