"""Install the wheel of this Python into a bare environment, and do there what a user does first.

    make test-wheel

Nothing is compiled. README's fifteen lines run, a model is fitted to a small molecule, sampled, and
a report is made. The fifteen lines must take less than a minute, libraries that are read for the
first time included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: s, from the end of the installation to the first sampled frame.
SLOWEST = 60.0
#: So that pip takes a CPU build rather than gigabytes.
TORCH = "2.13.0"
STRUCTURES = ROOT / "python" / "timewarp_openmm" / "data" / "structures"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", type=Path, default=ROOT / "dist")
    parser.add_argument("--torch", default=TORCH, help="the release to try it with")
    parser.add_argument("--minutes", type=float, default=1.0, help="of the fit")
    arguments = parser.parse_args()
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    found = sorted(arguments.wheels.resolve().glob(f"timewarp_openmm-*-{tag}-*manylinux*.whl"))
    if len(found) != 1:
        sys.exit(f"{arguments.wheels} holds {len(found)} wheels for this Python; make wheels first")
    with tempfile.TemporaryDirectory() as folder:
        try_wheel(found[0], arguments.torch, arguments.minutes, Path(folder))


def try_wheel(wheel: Path, torch: str, minutes: float, folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    tools = folder / "env" / "bin"
    # Without a compiler, without the repository, and without what this shell has set.
    environment = {
        "PATH": str(tools),
        "HOME": str(folder),
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
    }

    def run(*command: object) -> float:
        print("$", *command, flush=True)
        start = time.monotonic()
        subprocess.run([str(part) for part in command], check=True, cwd=folder, env=environment)
        return time.monotonic() - start

    run(tools / "pip", "install", "--quiet", f"torch=={torch}")
    run(tools / "pip", "install", "--quiet", "--only-binary", ":all:", f"{wheel}[analysis]")
    shutil.copy(STRUCTURES / "alanine-dipeptide.pdb", folder)
    (folder / "first.py").write_text(fifteen_lines())
    first = run(tools / "python", "first.py")
    print(f"README's fifteen lines took {first:.1f} s")
    if first > SLOWEST:
        sys.exit(f"that is more than {SLOWEST:.0f} s")
    program = tools / "timewarp-openmm"
    run(program, "doctor")
    # Small enough for a minute on a busy machine.
    system = ("--force-field", "amber99sbildn.xml", "--force-field", "amber99_obc.xml")
    pdb = "alanine-dipeptide.pdb"
    run(program, "fit", pdb, *system, "--minutes", minutes, "--out", "own.pt")
    run(program, "sample", "--model", "own.pt", "--pdb", pdb, "--steps", 5000, "--out", "own.dcd")
    shown = ("--topology", pdb, "--traj", "own.dcd", "--out", "report")
    run(program, "analyze", *shown, *system)
    if not (folder / "report" / "index.html").is_file():
        sys.exit("there is no report")
    print(f"{wheel.name} works with torch {torch}")


def fifteen_lines() -> str:
    """Return README's first example."""
    part = (ROOT / "README.md").read_text().split("## Fifteen lines", 1)[1]
    return part.split("```python\n", 1)[1].split("```", 1)[0]


if __name__ == "__main__":
    main()
