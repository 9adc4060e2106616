"""Chain overhead on the Reference platform: see chain_overhead.cpp, which this builds and runs.

make benchmark-overhead
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import openmm

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "python"))
from reference_models import write_all

from timewarp_openmm.data.systems import named_molecule


def main() -> None:
    """Run the program given as first argument with alanine dipeptide and the identity flow."""
    program, library = sys.argv[1:3]
    molecule = named_molecule("alanine-dipeptide")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_all(folder)
        (folder / "system.xml").write_text(openmm.XmlSerializer.serialize(molecule.system))
        lines = [" ".join(repr(float(value)) for value in row) for row in molecule.positions]
        (folder / "positions.txt").write_text("\n".join(lines))
        files = [folder / "system.xml", folder / "positions.txt", folder / "identity_22.pt"]
        subprocess.run([program, *map(str, files), library], check=True)


if __name__ == "__main__":
    main()
