"""Checkpoints of a Context beside what is known of its trajectory, in one file.

One line of JSON, sealed by a checksum, and then the bytes that OpenMM has made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import openmm
from pydantic import with_config
from typing_extensions import TypedDict

from ..files import write_bytes_atomically
from ..stored import RECORD, DamagedFileError, seal, unseal


@with_config(RECORD)
class CheckpointHeader(TypedDict):
    """What every checkpoint states: OpenMM's version, and the SHA-256 of what OpenMM has made."""

    openmm: str
    context: str


T = TypeVar("T", bound=CheckpointHeader)

#: A write reads back all of a trajectory; all of them together may take this share of the time.
_WRITING_SHARE = 0.04


class Writes:
    """When a file that grows is written again.

    Parameters
    ----------
    seconds : float
        Between two writes, or more where these would take much of the time.
    files : int
        That one process writes.
    """

    def __init__(self, seconds: float, files: int) -> None:
        self._seconds, self._files = seconds, files
        self._due = time.monotonic() + seconds

    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def write(self, flush: Callable[[], None]) -> None:
        """Write, and see how long it takes."""
        began = time.monotonic()
        flush()
        ended = time.monotonic()
        pause = self._files * (ended - began) / _WRITING_SHARE
        self._due = ended + max(self._seconds, pause)


def write_checkpoint(path: Path, header: Mapping[str, Any], content: bytes) -> None:
    """Write a checkpoint in one step: a header (see `CheckpointHeader`), then OpenMM's bytes."""
    stated = {**header, "openmm": openmm.__version__, "context": sha256(content).hexdigest()}
    write_bytes_atomically(path, json.dumps(seal(stated)).encode() + b"\n" + content)


def read_checkpoint(path: Path, schema: type[T], remedy: str) -> tuple[T, bytes]:
    """Return the header and OpenMM's bytes.

    Raises
    ------
    DamagedFileError
        If the file is not what was written; the message ends in `remedy`.
    ValueError
        If another version of OpenMM has written it.
    """
    text, _, content = path.read_bytes().partition(b"\n")
    try:
        header = unseal(text, schema)
    except ValueError as error:
        raise DamagedFileError(path, str(error), remedy) from error
    if sha256(content).hexdigest() != header["context"]:
        raise DamagedFileError(path, "its checksum does not fit its content", remedy)
    if header["openmm"] != openmm.__version__:
        raise ValueError(
            f"{path} was written by OpenMM {header['openmm']}, this is {openmm.__version__}, which "
            "may not read it; resume with that version or start again with --force"
        )
    return header, content
