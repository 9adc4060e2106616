"""What ``chains.json`` says: which chains a folder holds, and how far they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, with_config
from typing_extensions import TypedDict

from ..stages import compare, refuse
from ..stored import RECORD, Count, read_document_if_any, write_document
from .files import REMEDY, ChainFiles

RECORD_FILE = "chains.json"
STARTS_FILE = "starts.npz"
LOCK_FILE = ".lock"
_OWN = ("chain-*.h5", "chain-*.chk", RECORD_FILE, STARTS_FILE, f"{LOCK_FILE}*")
_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@with_config(RECORD)
class ChainRecord(TypedDict):
    """One chain: its trajectory, seed, and what it did."""

    file: Annotated[str, Field(pattern=r"^chain-\d+\.h5$")]
    seed: PositiveInt
    frames: Count
    iterations: Count
    acceptance: _Share
    non_finite: Count


@with_config(RECORD)
class FarmRecord(TypedDict):
    """The content of ``chains.json``.

    ``identity`` holds what makes two runs the same. ``ended`` says why the chains are as long as
    they are; "interrupted" ones are gone on with by the same call. The slowest torsion is the one
    with the fewest effective samples, of all chains together.
    """

    identity: dict[str, Any]
    ended: Literal["interrupted", "all steps", "target reached"]
    chains: list[ChainRecord]
    slowest_torsion: str | None
    effective_samples: _Positive | None
    rhat: _Positive | None
    seconds: _Positive
    versions: dict[str, str]


def find_record(
    folder: Path, identity: dict[str, Any], iterations: int, force: bool
) -> FarmRecord | None:
    """Return the record of chains that can be gone on with; None where there are none.

    Parameters
    ----------
    iterations : int
        That are asked for, of each chain.
    force : bool
        The chains that the folder holds do not matter, since they are going to be removed.

    Raises
    ------
    FileExistsError
        If the folder holds other chains, longer ones, or other files.
    """
    record = None if force else read_document_if_any(folder / RECORD_FILE, FarmRecord, REMEDY)
    others = [path.name for path in _others(folder)]
    if record is None and others:
        raise FileExistsError(
            f"{folder} is there and holds {others[0]}, which is no chain; name another folder"
        )
    chains = [] if force else sorted(folder.glob("chain-*"))
    if record is None and chains:
        # Nothing says what they are of, so that nobody may go on with them.
        raise FileExistsError(
            f"{folder} holds {chains[0].name} without {RECORD_FILE}; name another folder or pass "
            "--force to replace what is there"
        )
    if record is None:
        return None
    differences = compare(record["identity"], identity)
    longest = max((chain["iterations"] for chain in record["chains"]), default=0)
    if longest > iterations:
        differences += (f"steps: {longest} there, {iterations} now",)
    if differences:
        raise refuse(folder, "other chains", differences)
    return record


def _others(folder: Path) -> list[Path]:
    """Return what in a folder is none of the files that chains leave."""
    own = {path for pattern in _OWN for path in folder.glob(pattern)}
    return sorted(set(folder.iterdir()) - own) if folder.is_dir() else []


def remove_chains(folder: Path) -> None:
    """Remove what chains have left in a folder, but for the lock."""
    for pattern in _OWN:
        for path in folder.glob(pattern):
            if path.name != LOCK_FILE:
                path.unlink()


def chain_records(files: list[ChainFiles], seeds: list[int], interval: int) -> list[ChainRecord]:
    """Return what is recorded of each chain."""
    return [
        {
            "file": file.path.name,
            "seed": seed,
            "frames": file.standing.frames,
            "iterations": file.standing.frames * interval,
            "acceptance": file.accepted / file.proposed if file.proposed else 0.0,
            "non_finite": file.non_finite,
        }
        for file, seed in zip(files, seeds, strict=True)
    ]


def write_record(folder: Path, record: FarmRecord) -> None:
    """Write ``chains.json``."""
    write_document(folder / RECORD_FILE, record)
