"""Progress for long commands: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Seconds between lines where there is no terminal.
LOG_SECONDS = 60.0


@contextmanager
def counting(title: str, total: float, unit: str = "") -> Iterator[Callable[..., None]]:
    """Show progress towards `total`.

    Yields
    ------
    report : callable
        ``report(done, note="")``, as often as you like.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _LogLines(title, total, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=total, note="")

        def report(done: float, note: str = "") -> None:
            progress.update(bar, completed=done, note=note)

        yield report


class _LogLines:
    def __init__(self, title: str, total: float, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._first: tuple[float, float] | None = None
        self._next = 0.0

    def __call__(self, done: float, note: str = "") -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        if now < self._next and done < self._total:
            return
        self._next = now + LOG_SECONDS
        began, before = self._first
        left = ""
        if done > before:
            minutes = (self._total - done) * (now - began) / (done - before) / 60
            left = f", {minutes:.1f} min left"
        line = f"{self._title}: {done:g} of {self._total:g} {self._unit}{left} {note}"
        print_progress(line.rstrip())


def print_progress(line: str) -> None:
    """Print a line of a log; a log that cannot be written is no reason to stop the work."""
    with suppress(OSError):
        print(line, flush=True)
