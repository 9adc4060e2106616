"""What is printed while trajectories are read: nothing that libraries say on their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from report_helpers import PDB, write

from timewarp_openmm.molecule.structure_files import load_structure

CODE = """
import sys
from report_helpers import TOPOLOGY
from timewarp_openmm.trajectories.frames import open_frames

for path in sys.argv[1:]:
    print(sum(len(piece) for piece in open_frames(path, TOPOLOGY).chunks(2)))
"""


def test_readers_print_nothing(tmp_path: Path) -> None:
    positions = load_structure(PDB)[1][None].repeat(3, axis=0)
    forms = ("dcd", "xtc", "trr", "h5", "pdb", "nc")
    paths = [write(positions, tmp_path / f"t.{form}") for form in forms]
    # To a file, and buffered: what C libraries print there is kept back until the process ends.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with open(tmp_path / "log", "w") as log:
        subprocess.run(
            [sys.executable, "-c", CODE, *map(str, paths)],
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
            env=environment,
            cwd=Path(__file__).parents[1],
        )
    assert (tmp_path / "log").read_text() == "3\n" * len(forms)
