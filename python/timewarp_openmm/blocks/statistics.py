"""What became of the blocks' proposals of a run, as its file beside the trajectory has it."""

from __future__ import annotations

import csv
from pathlib import Path


def statistics_file(out: Path) -> Path:
    """Return where the statistics of blocks go, beside a trajectory.

    Examples
    --------
    >>> statistics_file(Path("run/out.dcd")).name
    'out.blocks.csv'
    """
    return out.with_suffix(".blocks.csv")


def read_statistics(path: Path, blocks: int) -> list[tuple[int, int]]:
    """Return how many proposals of each block were tried and accepted, by a BlockReporter's file.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is not one of so many blocks with at least one row.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no statistics of blocks at {path}")
    *_, last = [None, *csv.DictReader(path.read_text(encoding="utf-8").splitlines())]
    try:
        if last is None or f"block {blocks} tried" in last:
            raise ValueError
        return [
            (int(last[f"block {i} tried"]), int(last[f"block {i} accepted"])) for i in range(blocks)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} does not hold the statistics of that number of blocks ({blocks}); give the "
            "file of blocks that the run was made with"
        ) from error
