"""The way to workers: by an address, by a number, or as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .base import Workers
from .here import Here
from .local import LocalWorkers


@contextmanager
def open_workers(scheduler: str | None, count: int) -> Iterator[Workers]:
    """Connect to a scheduler's workers, or have processes of this machine.

    Parameters
    ----------
    scheduler : str, optional
        See `open_cluster`.
    count : int
        Of processes where there is no scheduler; they start when they are needed.

    Raises
    ------
    ConnectionError
        If no scheduler answers at the address.
    """
    if scheduler is None:
        with LocalWorkers(count) as local:
            yield local
        return
    # An extra of the package.
    from .cluster import open_cluster

    with open_cluster(scheduler) as cluster:
        yield cluster


@contextmanager
def using(workers: int | Workers) -> Iterator[Workers]:
    """Yield the workers, or so many of this machine; one is this process itself."""
    if isinstance(workers, Workers):
        yield workers
        return
    with Here() if workers == 1 else LocalWorkers(workers) as own:
        yield own
