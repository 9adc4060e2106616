"""The record of a run of simulations: what ``run.json`` says, and what its files must be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PositiveInt, with_config
from typing_extensions import TypedDict

from ..files import sha256_of
from ..stored import (
    RECORD,
    Count,
    DamagedFileError,
    conform,
    read_document_if_any,
    write_document,
)
from .protocol import Protocol

RUN_FILE = "run.json"
SYSTEM_FILE = "system.xml"
_REMEDY = "restore it from a copy, or remove the folder of the run and simulate again"

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _fits_protocol(content: dict[str, Any]) -> dict[str, Any]:
    conform(content, Protocol)
    return content


#: What `Protocol.to_dict` returns.
ProtocolContent = Annotated[dict[str, Any], AfterValidator(_fits_protocol)]


@with_config(RECORD)
class TrajectoryRecord(TypedDict):
    """A finished trajectory: its file, frames and seed, and the torsions / degrees it began in."""

    file: Annotated[str, Field(pattern=r"^trajectory-\d+\.h5$")]
    sha256: Sha256
    frames: PositiveInt
    seed: Count
    start: dict[str, float]
    dropped_starts: Count


@with_config(RECORD)
class RunRecord(TypedDict):
    """The content of ``run.json``.

    ``protocol`` is `Protocol.to_dict`; ``inputs`` are digests of the molecule and the starts, by
    name, and ``system_file_sha256`` that of ``system.xml``.
    """

    protocol: ProtocolContent
    inputs: dict[str, object]
    system_file_sha256: Sha256
    versions: dict[str, str]
    complete: bool
    wall_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    dropped_starts: Count
    trajectories: list[TrajectoryRecord]


def write_run(folder: Path, run: RunRecord) -> None:
    """Write ``run.json``."""
    write_document(folder / RUN_FILE, run)


def read_run(folder: Path) -> RunRecord | None:
    """Return the record of the run in `folder`, or None; see `read_document_if_any`."""
    return read_document_if_any(folder / RUN_FILE, RunRecord, _REMEDY)


def check_files(folder: Path, run: RunRecord) -> None:
    """Check that the System and the finished trajectories of a run are what they were.

    Raises
    ------
    FileNotFoundError, DamagedFileError
        Naming the first that is missing or has another checksum.
    """
    checksums = {entry["file"]: entry["sha256"] for entry in run["trajectories"]}
    for name, checksum in {SYSTEM_FILE: run["system_file_sha256"], **checksums}.items():
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder / RUN_FILE} names {name}, which is missing; {_REMEDY}"
            )
        if sha256_of(path) != checksum:
            raise DamagedFileError(path, f"its checksum is not that in {RUN_FILE}", _REMEDY)
