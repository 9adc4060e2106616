"""Where work is done: processes of this machine, or a cluster that is there already."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
from distributed import Client, LocalCluster

#: s that a scheduler may take to answer.
_PATIENCE = 30
#: A chain is one thread's work: workers that each took all cores would stand in each other's way.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENMM_CPU_THREADS": "1",
}


@contextmanager
def open_cluster(scheduler: str | None, workers: int) -> Iterator[Client]:
    """Connect to a scheduler, or start processes of one thread each on this machine.

    Parameters
    ----------
    scheduler : str, optional
        Address of a dask scheduler, such as ``tcp://node1:8786``, or the file that ``dask scheduler
        --scheduler-file`` has written. Its workers are used as they are, also those that come or go
        meanwhile.
    workers : int
        Processes to start where there is no scheduler.

    Raises
    ------
    ConnectionError
        If no scheduler answers at the address.
    """
    if scheduler is not None:
        with _connect(scheduler) as client:
            yield client
        return
    settings = {
        "distributed.nanny.pre-spawn-environ": _ONE_THREAD,
        # Contexts of OpenMM and torch's libraries are not dask's to count.
        "distributed.worker.memory.terminate": False,
        "distributed.worker.memory.pause": False,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            # No port that another cluster may have.
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _connect(scheduler: str) -> Client:
    try:
        if Path(scheduler).is_file():
            return Client(scheduler_file=scheduler, timeout=_PATIENCE)
        return Client(scheduler, timeout=_PATIENCE)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"no dask scheduler answers at {scheduler} ({error}); start one with: dask scheduler, "
            "and workers with: dask worker ADDRESS --nthreads 1"
        ) from error
