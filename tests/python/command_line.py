"""The command line, run within a test."""

from __future__ import annotations

import sys

import pytest

from timewarp_openmm import cli


def run(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of the command line."""
    monkeypatch.setattr(sys, "argv", ["timewarp-openmm", *arguments])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
