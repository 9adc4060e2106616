"""The curves of a training run: one JSON line per test, each with its checksum.

Reports read them without any of the code that trains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pydantic import with_config
from typing_extensions import TypedDict

from .files import naming, write_bytes_atomically
from .stored import RECORD, Count, DamagedFileError, seal, unseal

METRICS_FILE = "metrics.jsonl"


@with_config(RECORD)
class Metrics(TypedDict):
    """What is measured at a test; not a number where it is not measured."""

    step: Count
    seconds: float
    learning_rate: float
    train_loss: float
    test_loss: float
    train_log_likelihood: float
    test_log_likelihood: float
    acceptance: float


def append_metrics(folder: Path, entry: Mapping[str, float]) -> None:
    """Add a line to the curves."""
    path = folder / METRICS_FILE
    with naming(path), open(path, "a") as handle:
        handle.write(json.dumps(seal(entry)) + "\n")


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Return the curves' lines; a last line that was cut off by a kill is left out.

    Raises
    ------
    DamagedFileError
        If a line is not what was written.
    """
    path = folder / METRICS_FILE
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    entries: list[dict[str, float]] = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(cast(dict[str, float], unseal(line, Metrics)))
        except ValueError as error:
            remedy = "the curves can be drawn no more: remove it, and the weights stay as they are"
            raise DamagedFileError(path, f"line {number}: {error}", remedy) from error
    return entries


def truncate_metrics(folder: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed run will write again."""
    kept = [json.dumps(seal(entry)) for entry in read_metrics(folder) if entry["step"] <= step]
    write_bytes_atomically(folder / METRICS_FILE, "".join(f"{line}\n" for line in kept).encode())
