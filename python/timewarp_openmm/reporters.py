"""Reporters for openmm.app.Simulation."""

from __future__ import annotations

import csv
import operator
import os
from dataclasses import astuple, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import openmm

from .integrator import BlockStatistics, TimewarpMCMCIntegrator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openmm import app

#: What `BlockStatistics` counts, as columns are headed.
_HEADINGS = [field.name for field in fields(BlockStatistics)]


class BlockReporter:
    """Writes what has become of each block's proposals to a file of comma-separated values.

    Each row holds the Simulation's step, and for each block how many of its proposals were tried,
    accepted, screened and not finite (see `BlockStatistics`) **since the reporter was first used**,
    whatever the integrator had done before. With `append`, they are counted on from the file's last
    row. The columns of block 2 are headed ``block 2 tried`` and so on; in a CompoundIntegrator
    they are headed ``integrator 1 block 2 tried``, by the place of the member.

    A State or checkpoint that is loaded in between sets an integrator's own numbers; where one of
    them falls, the reporter goes on from there and loses nothing of what it has counted.

    Parameters
    ----------
    file : str or path-like
        The file to write. One that exists is replaced, as OpenMM's reporters do, unless `append`.
    reportInterval : int
        Steps from one row to the next.
    append : bool
        Go on with the file, if it exists.

    Raises
    ------
    ValueError
        If the interval is not a positive integer, or the file to append to is not one of this
        reporter. One of other blocks is refused at the first step.

    Examples
    --------
    ``simulation.reporters.append(BlockReporter("blocks.csv", 1000))``
    """

    def __init__(
        self, file: str | os.PathLike[str], reportInterval: int, append: bool = False
    ) -> None:
        self._interval = _positive(reportInterval)
        self._path = Path(file)
        self._found = _last_row(self._path) if append else None
        self._out: IO[str] | None = self._path.open(
            "w" if self._found is None else "a", newline="", encoding="utf-8"
        )
        self._counted: list[int] = []
        self._seen: list[int] | None = None

    def describeNextReport(self, simulation: app.Simulation) -> dict[str, Any]:
        """Say when the next row is due, and that it needs nothing of the State."""
        self._count(simulation)
        steps = self._interval - simulation.currentStep % self._interval
        return {"steps": steps, "periodic": None, "include": []}

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Write a row."""
        self._count(simulation)
        self._write([simulation.currentStep, *self._counted])

    def close(self) -> None:
        """Close the file. It is also closed when the reporter is dropped."""
        if self._out is not None:
            self._out.close()
            self._out = None

    def __del__(self) -> None:
        # Of an object whose __init__ has raised an exception, nothing may be there.
        if getattr(self, "_out", None) is not None:
            self.close()

    def _write(self, row: list[Any]) -> None:
        if self._out is None:
            raise ValueError(f"the reporter of {self._path} is closed; make a new one")
        csv.writer(self._out, lineterminator="\n").writerow(row)
        self._out.flush()

    def _count(self, simulation: app.Simulation) -> None:
        members = list(_timewarp_members(simulation.integrator))
        now = [
            number
            for _, member in members
            for i in range(member.getNumBlocks())
            for number in astuple(member.getBlockStatistics(i))
        ]
        if self._seen is None:
            self._begin(_columns(members))
        elif all(new >= old for new, old in zip(now, self._seen, strict=True)):
            changes = (new - old for new, old in zip(now, self._seen, strict=True))
            self._counted = [a + b for a, b in zip(self._counted, changes, strict=True)]
        self._seen = now

    def _begin(self, columns: list[str]) -> None:
        if len(columns) == 1:
            raise ValueError(
                f"the reporter of {self._path} finds no block: the Simulation's integrator is no "
                "TimewarpMCMCIntegrator with a model, nor a CompoundIntegrator that has one"
            )
        if self._found is None:
            self._counted = [0] * (len(columns) - 1)
            self._write(columns)
            return
        found, self._counted = self._found
        if found != columns:
            raise ValueError(
                f"{self._path} has the columns of other blocks ({', '.join(found)}); write to "
                "another file, or add the same blocks as there"
            )


def _positive(interval: int) -> int:
    try:
        number = operator.index(interval)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"reportInterval must be a positive number of steps, not {interval!r}")
    return number


def _timewarp_members(
    integrator: openmm.Integrator, place: str = ""
) -> Iterator[tuple[str, TimewarpMCMCIntegrator]]:
    """Yield each TimewarpMCMCIntegrator with its place in CompoundIntegrators, such as "1"."""
    if isinstance(integrator, openmm.CompoundIntegrator):
        for i in range(integrator.getNumIntegrators()):
            inner = f"{place}.{i}" if place else str(i)
            yield from _timewarp_members(integrator.getIntegrator(i), inner)
        return
    try:
        yield place, TimewarpMCMCIntegrator.cast(integrator)
    except TypeError:  # of another kind
        return


def _columns(members: list[tuple[str, TimewarpMCMCIntegrator]]) -> list[str]:
    columns = ["step"]
    for place, member in members:
        prefix = f"integrator {place} " if place else ""
        for i in range(member.getNumBlocks()):
            columns += [f"{prefix}block {i} {heading}" for heading in _HEADINGS]
    return columns


def _last_row(path: Path) -> tuple[list[str], list[int]] | None:
    """Return the columns of a file of this reporter and the counts of its last row, if any."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    if not text:
        return None
    try:
        columns, *rows = list(csv.reader(text.splitlines()))
        counts = [int(number) for number in rows[-1][1:]] if rows else [0] * (len(columns) - 1)
    except (ValueError, csv.Error):
        columns, counts = [], []
    if columns[:1] != ["step"] or len(counts) != len(columns) - 1 or not text.endswith("\n"):
        raise ValueError(
            f"{path} is not a complete file of a BlockReporter, so that nothing can be appended; "
            "write to another file, or remove its last line if that was cut off"
        )
    return columns, counts
