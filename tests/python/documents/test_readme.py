"""The README's script runs as it stands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from timewarp_openmm.simulation.systems import structure_file

README = Path(__file__).parents[3] / "README.md"


def test_readme_script(tmp_path: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(script.splitlines()) <= 25
    shutil.copy(str(structure_file("alanine-dipeptide")), tmp_path / "alanine-dipeptide.pdb")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "accepted at 310" in done.stdout
    assert (tmp_path / "out.dcd").stat().st_size > 1000 * 22 * 12
