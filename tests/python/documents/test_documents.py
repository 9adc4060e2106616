"""The documents' Python runs, their commands parse, and their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main
from libraries import PEPTIDE
from report_helpers import PDB, md_frames, write

import timewarp_openmm
from timewarp_openmm.cli import app, repeat_option

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(), flags=re.DOTALL)


PYTHON = [
    (document.name, number)
    for document in DOCUMENTS
    # Those of README.md and contract.md have tests of their own.
    if document.name not in ("README.md", "contract.md")
    for number in range(len(blocks(document, "python")))
]


@pytest.mark.parametrize(("name", "number"), PYTHON)
def test_python_runs(name: str, number: int, tmp_path: Path) -> None:
    shutil.copy(PDB, tmp_path / "alanine-dipeptide.pdb")
    if name == "sidechains.md":
        shutil.copy(PEPTIDE, tmp_path / "protein.pdb")
    write(md_frames()[:100], tmp_path / "out.dcd")
    script = blocks(ROOT / "docs" / name, "python")[number]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


COMMANDS = [
    line.split("#")[0].strip()
    for document in DOCUMENTS
    for block in blocks(document, "bash")
    for line in block.replace("\\\n", " ").splitlines()
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of what the site is made of, so that it is built elsewhere than in the repository."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
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
    for document in (ROOT / "docs").glob("*.md"):
        assert (site / "build" / "docs" / f"{document.stem}.html").exists()
    reference = (site / "build" / "docs" / "api.html").read_text()
    for name in ("addBlock", "setLatentCorrelation", "context_atoms"):
        assert name in reference, "docstrings are not read"


@pytest.mark.parametrize("text", ["[a page](that-is-not-there.md)", "::: timewarp_openmm.nothing"])
def test_a_link_to_nothing_stops_the_site(site: Path, text: str) -> None:
    with (site / "docs" / "limits.md").open("a") as file:
        file.write(f"\n{text}\n")
    assert build_site(site).returncode != 0


def test_every_page_is_in_the_navigation() -> None:
    settings = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    pages = [page for entry in settings["nav"] for page in entry.values()]
    assert sorted(pages) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    listed = re.findall(r"^::: timewarp_openmm\.(\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(timewarp_openmm.__all__)
