"""``timewarp-openmm doctor``: what is installed, what works, what is missing."""

from __future__ import annotations

import typer

from .options import Options


class DoctorOptions(Options):
    """What ``timewarp-openmm doctor`` is told: nothing."""


def doctor(options: DoctorOptions) -> None:
    """Say what is installed, which platforms work, and what is missing.

    Ends with exit code 1 if nothing can be sampled.
    """
    from ..diagnosis import examine

    findings = examine()
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        mark = "ok" if finding.good else "--"
        typer.echo(f"{mark}  {finding.what:{width}}  {finding.text}")
    if any(finding.needed and not finding.good for finding in findings):
        raise typer.Exit(1)
