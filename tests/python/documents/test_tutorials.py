"""Each tutorial runs from top to bottom, with less time than its reader has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from libraries import PEPTIDE
from pages import ROOT, TUTORIALS, code, commands

HELIX = ROOT / "examples" / "molecules" / "helix.pdb"


@dataclass(frozen=True)
class Run:
    """How a page is run here.

    Attributes
    ----------
    shorter : dict of str to str
        What is run instead of what the page has, so that it takes less time: each pair is a number
        of steps, minutes or picoseconds, and nothing else is changed.
    given : dict of str to Path
        Files that the reader has, by the names that they have on the page.
    """

    shorter: dict[str, str]
    given: dict[str, Path] = field(default_factory=dict)


RUNS = {
    "cluster": Run({"--steps 200000": "--steps 400"}),
    "sidechains": Run(
        {"--steps 1000": "--steps 20", "ROUNDS = 1000": "ROUNDS = 20"}, {"protein.pdb": HELIX}
    ),
    "smiles": Run(
        {
            "--minutes 5": "--minutes 1.5",
            "--steps 5000": "--steps 500",
            "--steps 50000": "--steps 1000",
            "--length 2000": "--length 10",
        }
    ),
    "water": Run(
        {"ROUNDS = 1200": "ROUNDS = 5", "padding=0.8": "padding=0.5"}, {"peptide.pdb": PEPTIDE}
    ),
    "xtb": Run(
        {
            "--minutes 10": "--minutes 3",
            "--steps 2000": "--steps 200",
            "--frames 100": "--frames 10",
        }
    ),
}
#: Those with a fit, which takes minutes.
LONG = ("smiles", "xtb")


def shortened(text: str, shorter: dict[str, str]) -> str:
    for old, new in shorter.items():
        text = re.sub(rf"{re.escape(old)}\b", new, text)
    return text


@contextmanager
def servers(lines: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run commands that do not end by themselves, until the page is at its end."""
    with ExitStack() as stack:
        for line in lines:
            process = subprocess.Popen(
                line.split(), cwd=folder, env=environment, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait, timeout=60)
            stack.callback(process.terminate)
        yield


def run(command: str | list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.long] if p.stem in LONG else []) for p in TUTORIALS],
    ids=lambda page: page.stem,
)
def test_tutorial_runs(page: Path, tmp_path: Path) -> None:
    told = RUNS[page.stem]
    for name, source in told.given.items():
        shutil.copy(source, tmp_path / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    with ExitStack() as stack:
        for language, text in code(page, "bash", "python"):
            text = shortened(text, told.shorter)
            if language == "python":
                run([sys.executable, "-c", text], tmp_path, environment)
                continue
            lines = [line for line in commands(text) if not line.startswith("pip install ")]
            waiting = [line.removesuffix(" &") for line in lines if line.endswith(" &")]
            stack.enter_context(servers(waiting, tmp_path, environment))
            for line in lines:
                if not line.endswith(" &"):
                    run(line, tmp_path, environment)
                for out in re.findall(r"--out (\S+)", line):
                    # `ligand` writes two files whose names begin so.
                    assert list(tmp_path.glob(f"{out}*")), f"{line} has not written {out}"


def test_every_page_says_how_it_is_run() -> None:
    assert {page.stem for page in TUTORIALS} == set(RUNS)
    for page in TUTORIALS:
        text = page.read_text()
        for old in RUNS[page.stem].shorter:
            assert re.search(rf"{re.escape(old)}\b", text), f"{page.name} has no {old}"


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_page_has_the_same_parts(page: Path) -> None:
    titles = re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)
    assert titles == [
        "What you need",
        "What you do",
        "What you see",
        "Is it right?",
        "What can go wrong",
    ]
