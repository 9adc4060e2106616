"""How many workers there are by default: as many as the process may use CPUs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from timewarp_openmm.machine import usable_cpus

PINNED = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.cpu_count = lambda: 16
from timewarp_openmm.machine import usable_cpus
print(usable_cpus())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_that_is_pinned_to_one_cpu_has_one_worker() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PINNED], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_there_is_a_worker_at_least_and_no_more_than_cpus() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
