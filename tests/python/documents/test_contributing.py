"""The recipes of CONTRIBUTING.md, followed in a copy of the project."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from timewarp_openmm._libraries import load_plugin

ROOT = Path(__file__).parents[3]
#: What recipes change or run.
COPIED = ("python", "tests", "examples", "cpp", "kernels", "CMakeLists.txt", "pyproject.toml")
#: Runs pytest on the package in this folder rather than on an installed one.
RUN_PYTEST = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]
sys.path.insert(0, "python")
import pytest
raise SystemExit(pytest.main(sys.argv[1:]))
"""
COMMAND = ".venv/bin/python -m pytest "


def recipes() -> dict[str, str]:
    """Return the sections that show a diff, by what they add."""
    sections = re.split(r"^## ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    added = (section.partition("\n") for section in sections if "```diff" in section)
    return {title.removeprefix("Add a "): text for title, _, text in added}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def apply(diff: str, folder: Path) -> None:
    done = subprocess.run(
        ["git", "apply", "-"], input=diff, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", "*.pt", "*.so")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=ignore)
        else:
            shutil.copy(source, tmp_path / name)
    compiled = Path(str(load_plugin().__file__)).parent
    (tmp_path / "python" / "timewarp_openmm" / compiled.name).symlink_to(compiled)
    return tmp_path


def test_what_can_be_added() -> None:
    assert list(recipes()) == ["flow", "loss", "platform", "molecule kind"]


def test_what_was_added_passes_its_tests(copy: Path) -> None:
    """Its own, and those that every one of its kind goes through, training included.

    All recipes with a test in Python are followed in one copy, so that it is run once.
    """
    files: list[str] = []
    names: list[str] = []
    for text in recipes().values():
        for command in blocks(text, "bash"):
            apply(blocks(text, "diff")[0], copy)
            arguments = command.removeprefix(COMMAND).split()
            assert arguments[-2] == "-k"
            files += arguments[:-2]
            names.append(arguments[-1])
    assert len(names) >= 2
    options = ["-q", "-rA", "-p", "no:cacheprovider", "-k", " or ".join(names)]
    done = subprocess.run(
        [sys.executable, "-c", RUN_PYTEST, *options, *files],
        cwd=copy,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED")]
        assert sum(name in line for line in passed) >= 3, name


def test_a_new_platform_compiles(copy: Path) -> None:
    apply(blocks(recipes()["platform"], "diff")[0], copy)
    (factory,) = (copy / "cpp" / "platforms" / "hip").rglob("*.cpp")
    import openmm

    headers = Path(openmm.__file__).parents[1] / "OpenMM.libs" / "include"
    folders = (headers, "cpp/openmmapi/include", "cpp/platforms/common/src", "cpp/sampler")
    includes = [f"-I{folder}" for folder in folders]
    done = subprocess.run(
        ["c++", "-std=c++17", "-fsyntax-only", *includes, str(factory)],
        cwd=copy,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
