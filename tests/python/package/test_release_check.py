"""What keeps a folder from being released is named."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

PACKAGING = Path(__file__).parents[3] / "packaging"


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # It imports its neighbours, as scripts do.
    monkeypatch.syspath_prepend(PACKAGING)
    spec = importlib.util.spec_from_file_location("release_check", PACKAGING / "release_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("build_wheels", "merge_wheels"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return module


@pytest.fixture
def ready(release: ModuleType, tmp_path: Path) -> Path:
    """A folder in which nothing is missing."""
    package = tmp_path / "python" / "timewarp_openmm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "3.4.1"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [3.4.1] - 2030-01-31\n- All new.\n")
    (tmp_path / "docs").mkdir()
    torch = " and ".join(t.rsplit(".", 1)[0] for t in release.TORCH)
    row = f"| 3.4 | 8.6 | {torch} | {', '.join(release.PYTHONS)} | version 1 |\n"
    (tmp_path / "docs" / "compatibility.md").write_text(row)
    (tmp_path / ".gitignore").write_text("/dist/\n")
    commands = (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "--quiet", "-m", "All"],
    )
    for command in commands:
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    (tmp_path / "dist").mkdir()
    for python in release.PYTHONS:
        tag = f"cp{python.replace('.', '')}"
        (tmp_path / "dist" / f"timewarp_openmm-3.4.1-{tag}-{tag}-manylinux_2_34.whl").touch()
    (tmp_path / "dist" / "timewarp_openmm-3.4.1.tar.gz").touch()
    return tmp_path


def test_nothing_is_missing(release: ModuleType, ready: Path) -> None:
    assert list(release.find_problems(ready)) == []


def unreleased(folder: Path) -> None:
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n- All new.\n")


def without_row(folder: Path) -> None:
    (folder / "docs" / "compatibility.md").write_text("| 3.3 | 8.5 |\n")


def without_python(folder: Path) -> None:
    path = folder / "docs" / "compatibility.md"
    path.write_text(path.read_text().replace("3.12", "3.10"))


def tagged(folder: Path) -> None:
    subprocess.run(["git", "-C", str(folder), "tag", "v3.4.1"], check=True)


def without_wheel(folder: Path) -> None:
    next((folder / "dist").glob("*-cp312-*")).unlink()


def large(folder: Path) -> None:
    with next((folder / "dist").glob("*-cp313-*")).open("wb") as file:
        file.truncate(30_000_000)


def without_sdist(folder: Path) -> None:
    next((folder / "dist").glob("*.tar.gz")).unlink()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (unreleased, "CHANGELOG.md begins with '[Unreleased]'"),
        (without_row, "no row that begins with 3.4"),
        (without_python, "does not name 3.12"),
        (tagged, "the tag v3.4.1 is there"),
        (without_wheel, "0 wheels of 3.4.1 for Python 3.12"),
        (large, "larger than 20 MB"),
        (without_sdist, "no sdist of 3.4.1"),
    ],
)
def test_what_is_missing_is_named(
    release: ModuleType, ready: Path, spoil: Callable[[Path], None], named: str
) -> None:
    spoil(ready)
    problems: Iterator[str] = release.find_problems(ready)
    assert any(named in problem for problem in problems)


def test_changes_that_are_not_committed(release: ModuleType, ready: Path) -> None:
    (ready / "new.py").touch()
    assert list(release.find_problems(ready)) == ["there are changes that are not committed"]
