"""The documents' Python runs, their commands parse, and their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from libraries import PEPTIDE
from pages import DOCS, DOCUMENTS, ROOT, TUTORIALS, blocks, commands
from report_helpers import PDB, md_frames, write

import timewarp_openmm
from timewarp_openmm.cli import app, repeat_option

PYTHON = [
    (document.name, number)
    for document in DOCUMENTS
    # These have tests of their own, and tutorials are run from top to bottom.
    if document.name not in ("README.md", "contract.md") and document not in TUTORIALS
    for number in range(len(blocks(document, "python")))
]


@pytest.mark.parametrize(("name", "number"), PYTHON)
def test_python_runs(name: str, number: int, tmp_path: Path) -> None:
    shutil.copy(PDB, tmp_path / "alanine-dipeptide.pdb")
    if name == "sidechains.md":
        shutil.copy(PEPTIDE, tmp_path / "protein.pdb")
    write(md_frames()[:100], tmp_path / "out.dcd")
    script = blocks(DOCS / name, "python")[number]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


COMMANDS = [
    line
    for document in DOCUMENTS
    for block in blocks(document, "bash")
    for line in commands(block)
    if line.startswith(("timewarp-openmm ", "python "))
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_these_options(command: str) -> None:
    program, *arguments = shlex.split(command)
    if program == "python":
        script = ROOT / arguments[0]
        assert script.exists(), f"there is no {script}"
        source = script.read_text()
        for option in (a for a in arguments if a.startswith("--")):
            assert f'"{option}"' in source
        return
    group = typer.main.get_command(app)
    parsed = group.commands[arguments[0]]  # type: ignore[attr-defined]
    # Parses and converts without running; it raises by name of what is unknown or missing.
    parsed.make_context(arguments[0], repeat_option(arguments[1:], "--force-field"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of what the site is made of, so that it is built elsewhere than in the repository."""
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    (tmp_path / "python").symlink_to(ROOT / "python")
    return tmp_path


def build_site(folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("zensical")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_site_builds(site: Path) -> None:
    done = build_site(site)
    assert done.returncode == 0, done.stdout + done.stderr
    for document in DOCS.rglob("*.md"):
        made = document.relative_to(DOCS).with_suffix(".html")
        assert (site / "build" / "docs" / made).exists()
    reference = (site / "build" / "docs" / "api.html").read_text()
    for name in ("addBlock", "setLatentCorrelation", "context_atoms"):
        assert name in reference, "docstrings are not read"


@pytest.mark.parametrize("text", ["[a page](that-is-not-there.md)", "::: timewarp_openmm.nothing"])
def test_a_link_to_nothing_stops_the_site(site: Path, text: str) -> None:
    with (site / "docs" / "limits.md").open("a") as file:
        file.write(f"\n{text}\n")
    assert build_site(site).returncode != 0


def pages_of(navigation: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the pages of a navigation and of its sections."""
    for entry in navigation:
        for item in entry.values():
            if isinstance(item, str):
                yield item
            else:
                yield from pages_of(item)


def test_every_page_is_in_the_navigation() -> None:
    settings = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    there = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
    assert sorted(pages_of(settings["nav"])) == there


def test_pictures_are_shown_and_small() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in DOCUMENTS
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())
    }
    for picture in DOCS.rglob("*.png"):
        assert picture in shown, f"no page shows {picture.name}"
        assert picture.stat().st_size < 300_000, f"{picture.name} is too large"


def test_the_reference_has_every_public_name() -> None:
    text = (DOCS / "api.md").read_text()
    listed = re.findall(r"^::: timewarp_openmm\.(\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(timewarp_openmm.__all__)
