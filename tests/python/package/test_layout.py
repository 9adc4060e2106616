"""Tests lie where the package has what they are about."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parents[1] / "python" / "timewarp_openmm"
#: What is about the project, and not about a part of it.
OTHERS = {"documents", "package"}


def test_folders_of_tests_are_those_of_the_package() -> None:
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    assert Path() not in folders, "a test stands beside the folders"
    for folder in folders:
        part = PACKAGE / folder
        assert folder.name in OTHERS or part.is_dir() or part.with_suffix(".py").is_file(), folder
