"""Make the bundled library: the side chains of all residues for Amber 14.

    python benchmarks/make_library.py --work WORK [--minutes 20] [--workers 2] [--out DIR]

builds in WORK/amber14, where an interrupted run goes on and one with more minutes goes on with a
finished library, and copies it to DIR, by default the folder of the package, if it takes no more
than 8 MB. Then prints what ``benchmarks/transfer.py`` and the cards are asked for: acceptance in
the capped residues, as the fits have measured it.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from timewarp_openmm.commands.library import BuildDisplay
from timewarp_openmm.library import BUNDLED_FORCE_FIELD, LIBRARY_FILE, open_library
from timewarp_openmm.simulation.capped_peptides import SIDE_CHAINS
from timewarp_openmm.workflows.library import LibrarySettings, build_library

PACKAGE = Path(__file__).parent.parent / "python" / "timewarp_openmm" / "pretrained" / "amber14"
MOST_BYTES = 8_000_000


def main() -> None:
    """Build, check the size, copy, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0, help="for each residue")
    parser.add_argument("--residues", nargs="+", default=list(SIDE_CHAINS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=PACKAGE)
    arguments = parser.parse_args()
    built = arguments.work / "amber14"
    settings = LibrarySettings(
        "amber14",
        BUNDLED_FORCE_FIELD,
        residues=tuple(arguments.residues),
        minutes=arguments.minutes,
        workers=arguments.workers,
    )
    with BuildDisplay(arguments.minutes) as display:
        build_library(built, settings, display)
    library = open_library(built)
    files = [built / LIBRARY_FILE, *(Path(entry.model) for entry in library.entries)]
    files += [path.with_suffix(".md") for path in files[1:]]
    size = sum(path.stat().st_size for path in files)
    if size > MOST_BYTES:
        raise SystemExit(f"{built} takes {size / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:g} MB")
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    for path in files:
        shutil.copy(path, arguments.out)
    for entry in library.entries:
        print(f"{entry.residue}: {entry.acceptance:.1%} +- {entry.error:.1%}")
    print(f"{size / 1e6:.1f} MB in {arguments.out}")


if __name__ == "__main__":
    main()
