"""Say what is missing before a release can be made from this folder: `make release-check`.

RELEASING.md lists the steps. What a program can check of them is checked here; each failure is one
line that names the remedy, and the exit status is 1.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from build_wheels import LARGEST, PYTHONS, TORCH

ROOT = Path(__file__).parents[1]


def main() -> None:
    problems = list(find_problems(ROOT))
    for problem in problems:
        print(f"- {problem}")
    if problems:
        sys.exit(1)
    print(f"{version_of(ROOT)} is ready to be released")


def find_problems(root: Path) -> Iterator[str]:
    """Yield what keeps the state of a folder from being released."""
    version = version_of(root)
    yield from check_changelog(root, version)
    yield from check_versions(root, version)
    yield from check_repository(root, version)
    yield from check_files(root, version)


def version_of(root: Path) -> str:
    text = (root / "python" / "timewarp_openmm" / "__init__.py").read_text()
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise ValueError("python/timewarp_openmm/__init__.py has no line with __version__")
    return found[1]


def check_changelog(root: Path, version: str) -> Iterator[str]:
    text = (root / "CHANGELOG.md").read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    title = sections[0].splitlines()[0]
    if not re.fullmatch(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d", title):
        yield (
            f"CHANGELOG.md begins with {title!r}; make it [{version}] and the day, as 2026-01-31"
        )


def check_versions(root: Path, version: str) -> Iterator[str]:
    minor = ".".join(version.split(".")[:2])
    table = (root / "docs" / "compatibility.md").read_text()
    row = next((line for line in table.splitlines() if line.startswith(f"| {minor}")), None)
    if row is None:
        yield f"the table in docs/compatibility.md has no row that begins with {minor}"
        return
    for release in (*(t.rsplit(".", 1)[0] for t in TORCH), *PYTHONS):
        if release not in row:
            yield f"the row of {minor} in docs/compatibility.md does not name {release}"


def check_repository(root: Path, version: str) -> Iterator[str]:
    if git(root, "status", "--porcelain"):
        yield "there are changes that are not committed"
    if git(root, "tag", "--list", f"v{version}"):
        yield f"the tag v{version} is there already; raise __version__"


def check_files(root: Path, version: str) -> Iterator[str]:
    dist = root / "dist"
    for python in PYTHONS:
        tag = f"cp{python.replace('.', '')}"
        wheels = list(dist.glob(f"timewarp_openmm-{version}-{tag}-{tag}-manylinux*.whl"))
        if len(wheels) != 1:
            yield (
                f"dist has {len(wheels)} wheels of {version} for Python {python}, not one; "
                "empty it, and run make wheels with that Python on PATH"
            )
        for wheel in wheels:
            if wheel.stat().st_size > LARGEST:
                yield f"{wheel.name} is larger than {LARGEST / 1e6:.0f} MB"
    if not (dist / f"timewarp_openmm-{version}.tar.gz").is_file():
        yield f"dist has no sdist of {version}; run make wheels"


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
