"""What this process may use of the machine."""

from __future__ import annotations


def usable_cpus() -> int:
    """Return how many CPUs this process may use: its affinity and its cgroup's quota count."""
    # Imported late: commands that need no workers start faster without it.
    from loky import cpu_count

    return int(cpu_count())
