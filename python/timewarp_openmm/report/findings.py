"""What a report says: sections of figures, tables, numbers, and what could not be computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure with its caption; `name` is its file's name without suffix."""

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Table:
    """A table; `rows` are text, first column the row's name."""

    caption: str
    header: list[str]
    rows: list[list[str]]


@dataclass
class Section:
    """A section of the page.

    Attributes
    ----------
    key, title, text : str
        `key` names it in the JSON file.
    problems : list of str
        What could not be computed, and why.
    numbers : dict
        Everything that the section shows, for the JSON file.
    """

    key: str
    title: str
    text: str
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Note a ValueError as a problem with `what`, and go on."""
        try:
            yield
        except ValueError as error:
            self.problems.append(f"{what}: {error}")


@dataclass
class Findings:
    """A report's content.

    Attributes
    ----------
    title : str
    sections : list of Section
    warnings : list of str
        What a reader must know before believing the rest.
    """

    title: str
    sections: list[Section] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def numbers(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        return {
            "title": self.title,
            "warnings": self.warnings,
            "problems": {s.key: s.problems for s in self.sections if s.problems},
            **{section.key: section.numbers for section in self.sections},
        }


def show(value: float, error: float | None = None, digits: int = 3) -> str:
    """Return a number, and its error if there is one, as text.

    Examples
    --------
    >>> show(0.02468, 0.0012), show(float("nan")), show(12345.6)
    ('0.0247 +- 0.0012', 'n/a', '1.23e+04')
    """
    if value != value:
        return "n/a"
    text = f"{value:.{digits}g}"
    return text if error is None or error != error else f"{text} +- {error:.2g}"


def columns(header: Sequence[str], rows: Mapping[str, Sequence[str]], caption: str = "") -> Table:
    """Return a table from named rows."""
    return Table(caption, list(header), [[name, *cells] for name, cells in rows.items()])
