"""The README's scripts run as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from timewarp_openmm.simulation.systems import structure_file

README = Path(__file__).parents[3] / "README.md"


def run_script(number: int, folder: Path) -> str:
    """Run one of the scripts beside the structure that they read, and return what it prints."""
    scripts = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(scripts) == 2
    assert len(scripts[number].splitlines()) <= 25
    shutil.copy(str(structure_file("alanine-dipeptide")), folder / "alanine-dipeptide.pdb")
    done = subprocess.run(
        [sys.executable, "-c", scripts[number]], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_newcomer_reads_in_this_order() -> None:
    """packaging/wheel_smoke.py finds the first script by its title, too."""
    titles = re.findall(r"^## (.*)$", README.read_text(), re.MULTILINE)
    assert titles == [
        "Install",
        "Fifteen lines",
        "A molecule of your own",
        "A protein of your own, a solvent of your own",
        "Is it right, and is it faster?",
        "Limits",
        "Flows, moves and where they come from",
        "Licence",
    ]


def test_one_molecule(tmp_path: Path) -> None:
    assert "accepted at 310" in run_script(0, tmp_path)
    assert (tmp_path / "out.dcd").stat().st_size > 1000 * 22 * 12


def test_in_water(tmp_path: Path) -> None:
    assert "BlockStatistics(tried=20" in run_script(1, tmp_path)
    lines = (tmp_path / "blocks.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["10", "10"], ["20", "20"]]
