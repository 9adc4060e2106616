"""The documents' Python runs, their commands parse, and their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from libraries import PEPTIDE
from report_helpers import PDB, md_frames, write

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


def test_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for document in (ROOT / "docs").glob("*.md"):
        assert (tmp_path / "site" / f"{document.stem}.html").exists()
