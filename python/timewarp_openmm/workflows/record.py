"""What a fit has measured and decided, kept in its work folder so that it can go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, with_config
from typing_extensions import TypedDict

from ..bounds import Minutes
from ..stages import Conflict, Missing, Partial, compare
from ..stored import RECORD, read_document, write_document

STATE_FILE = "fit.json"
# Whole numbers stay whole.
_Number = int | Annotated[float, Field(allow_inf_nan=False)]


@with_config(RECORD)
class PassContent(TypedDict):
    """One pass: when it ends, whether it has, and the numbers that it decided."""

    minutes: Minutes
    finished: bool
    decisions: dict[str, _Number | dict[str, _Number]]


@with_config(RECORD)
class FitContent(TypedDict):
    """The content of ``fit.json``; ``seconds`` are those spent on each stage."""

    identity: dict[str, object]
    seconds: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    passes: list[PassContent]


def fit_standing(work: Path, identity: dict[str, object]) -> Missing | Partial | Conflict:
    """Tell whether `work` holds a fit of this molecule with these settings.

    A fit is never done for good: it can always be given more time.
    """
    if not (work / STATE_FILE).exists():
        return Missing()
    stored = _read(work)
    if different := compare(stored["identity"], identity):
        return Conflict(different)
    return Partial(sum(stored["seconds"].values()))


def set_aside(work: Path) -> Path:
    """Rename a work folder to the first free name of the kind ``<name>.old-1``; return that."""
    number = 1
    while (kept := work.with_name(f"{work.name}.old-{number}")).exists():
        number += 1
    work.rename(kept)
    return kept


def last_pass(work: Path) -> int:
    """Return the number of the current pass of the fit in `work`, from 1; 0 before the first."""
    return len(_read(work)["passes"])


class FitRecord:
    """The state of one fit.

    A fit is made in passes: the first one with the time that was given first, and one more each
    time that a finished fit is given more. A pass decides its own numbers; times add up.
    """

    def __init__(self, work: Path, identity: dict[str, object]) -> None:
        self._work = work
        self._content: FitContent = {"identity": identity, "seconds": {}, "passes": []}
        if (work / STATE_FILE).exists():
            self._content = _read(work)
        self._began = time.monotonic() - sum(self._content["seconds"].values())

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time by stage, of all calls."""
        return dict(self._content["seconds"])

    def elapsed_minutes(self) -> float:
        """Return the wall time of all calls together."""
        return float(time.monotonic() - self._began) / 60

    @property
    def number(self) -> int:
        """The number of the current pass, from 1; 0 before the first."""
        return len(self._content["passes"])

    @property
    def is_finished(self) -> bool:
        """Whether the current pass has ended (or there is none yet)."""
        return all(entry["finished"] for entry in self._content["passes"][-1:])

    def minutes(self, number: int) -> float:
        """Return the time up to the end of a pass, 0 for pass 0."""
        return float(self._content["passes"][number - 1]["minutes"]) if number > 0 else 0.0

    def begin_pass(self, minutes: float, decisions: Mapping[str, Any] | None = None) -> None:
        """Begin another pass, which ends after `minutes` of all calls together."""
        self._content["passes"].append(
            {"minutes": minutes, "finished": False, "decisions": dict(decisions or {})}
        )
        self._save()

    def extend_pass(self, minutes: float) -> None:
        """Give the current pass another time; what it has decided stays."""
        self._content["passes"][-1]["minutes"] = minutes
        self._save()

    def finish_pass(self) -> None:
        """Record that the current pass has done what its time allows."""
        self._content["passes"][-1]["finished"] = True
        self._save()

    def has_decided(self, name: str, number: int) -> bool:
        """Tell whether a pass has decided something under `name`."""
        return name in self._content["passes"][number - 1]["decisions"]

    def decide(self, name: str, choose: Callable[[], Any]) -> Any:
        """Return what the current pass decided under `name`, or let it be chosen now."""
        decisions = self._content["passes"][-1]["decisions"]
        if name not in decisions:
            decisions[name] = choose()
            self._save()
        return decisions[name]

    def decided(self, name: str, number: int) -> Any:
        """Return what an earlier pass decided."""
        return self._content["passes"][number - 1]["decisions"][name]

    def add_seconds(self, name: str, seconds: float) -> None:
        """Add to the time of a stage."""
        times = self._content["seconds"]
        times[name] = round(times.get(name, 0.0) + seconds, 1)
        self._save()

    def _save(self) -> None:
        write_document(self._work / STATE_FILE, self._content)


def _read(work: Path) -> FitContent:
    remedy = f"restore it from a copy, or rename {work} to begin anew"
    return read_document(work / STATE_FILE, FitContent, remedy)
