"""Workers of a SLURM cluster for `timewarp-openmm COMMAND --scheduler ADDRESS`.

    python examples/slurm_workers.py --jobs 32 --walltime 12:00:00 --partition long

Run it where jobs can be submitted, in an environment with timewarp-openmm[farm] and dask-jobqueue
that compute nodes see, too. It starts a scheduler, submits one job for each worker, prints the
scheduler's address, and stays: Ctrl-C ends scheduler and jobs. Jobs that end before that, by their
time limit say, lose the piece of work that they run, which another worker runs again.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from dask_jobqueue import SLURMCluster
from distributed import Client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, required=True, help="workers, each of one core")
    parser.add_argument("--walltime", default="12:00:00")
    parser.add_argument("--memory", default="4GB", help="of each worker")
    parser.add_argument("--partition")
    parser.add_argument("--interface", help="network interface of the nodes, such as ib0")
    arguments = parser.parse_args()
    environment = Path(sys.prefix)
    cluster = SLURMCluster(
        queue=arguments.partition,
        cores=1,
        processes=1,
        memory=arguments.memory,
        walltime=arguments.walltime,
        interface=arguments.interface,
        python=sys.executable,
        # A piece is one thread's work.
        job_script_prologue=[
            f"export PATH={environment / 'bin'}:$PATH",
            "export OMP_NUM_THREADS=1 OPENMM_CPU_THREADS=1",
        ],
    )
    cluster.scale(jobs=arguments.jobs)
    print(f"scheduler: {cluster.scheduler_address}", flush=True)
    with Client(cluster) as client:
        client.wait_for_workers(1)
        print("the first worker is there", flush=True)
        with contextlib.suppress(EOFError, KeyboardInterrupt):
            input("Enter or Ctrl-C ends the workers\n")
    cluster.close()


if __name__ == "__main__":
    main()
