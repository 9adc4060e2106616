"""What a refinement has measured so far, kept in its folder so that it can go on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ..stored import read_document_if_any, write_document

RECORD_FILE = "refine.json"
_REMEDY = "remove the folder, to refine again"


@dataclass(frozen=True)
class Measurement:
    """A flow as it is: what its frozen weights do in fresh chains.

    Attributes
    ----------
    acceptance, error : float
        Mean over the chains, and its standard error.
    lowest : float
        Of the chains.
    kish : float
        Kish's effective sample size per draw.
    """

    acceptance: float
    error: float
    lowest: float
    kish: float


@dataclass(frozen=True)
class RefineRecord:
    """The rounds so far.

    Attributes
    ----------
    identity : dict
        Weights, data and settings that the refinement is of.
    measurements : tuple of Measurement
        Before the first round, and after each one.
    populations : tuple of tuple of float
        Of the basins, as each round that was prepared has taken them.
    """

    identity: dict[str, object]
    measurements: tuple[Measurement, ...] = ()
    populations: tuple[tuple[float, ...], ...] = ()

    @property
    def best_round(self) -> int:
        """The number of the round with the highest acceptance; 0: before all of them."""
        rates = [measurement.acceptance for measurement in self.measurements]
        return rates.index(max(rates))

    def is_finished(self, rounds: int, target: float) -> bool:
        """Tell whether no further round is worth its time, of `rounds` at most."""
        if not self.measurements:
            return False
        last = len(self.measurements) - 1
        gained = self.best_round == last
        return last >= rounds or not gained or self.measurements[last].acceptance >= target


def read_record(folder: Path) -> RefineRecord | None:
    """Return what `write_record` wrote, or None; see `read_document_if_any`."""
    return read_document_if_any(folder / RECORD_FILE, RefineRecord, _REMEDY)


def write_record(folder: Path, record: RefineRecord) -> None:
    """Write a record in one step."""
    write_document(folder / RECORD_FILE, asdict(record))
