"""Chain overhead on a platform: see chain_overhead.cpp, which this runs.

make benchmark-overhead
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import openmm

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "python"))
from reference_models import write_all

from timewarp_openmm import pretrained
from timewarp_openmm._opencl import intel_runtime
from timewarp_openmm.simulation.systems import named_molecule


def environment() -> dict[str, str]:
    """Return the environment in which a C++ program finds Intel's OpenCL runtime."""
    found = intel_runtime()
    if found is None:
        return dict(os.environ)
    loader, runtime = found
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(loader.parent),
        "OCL_ICD_FILENAMES": str(runtime),
    }


def main() -> None:
    """Run the program with alanine dipeptide, the identity flow and the bundled one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path, help="folder of the program and the libraries")
    parser.add_argument("--platform", default="Reference", help="Reference, OpenCL or CUDA")
    parser.add_argument("--precision", default="-", help="single, mixed or double; - for Reference")
    parser.add_argument("--iterations", type=int, default=3000, help="of each turn")
    arguments = parser.parse_args()
    libraries = [arguments.build / f"libTimewarpOpenMM{arguments.platform}.so"]
    if arguments.platform != "Reference":
        plugins = Path(openmm.version.openmm_library_path) / "plugins"
        libraries.insert(0, plugins / f"libOpenMM{arguments.platform}.so")
    molecule = named_molecule("alanine-dipeptide")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_all(folder)
        (folder / "system.xml").write_text(openmm.XmlSerializer.serialize(molecule.system))
        lines = [" ".join(repr(float(value)) for value in row) for row in molecule.positions]
        (folder / "positions.txt").write_text("\n".join(lines))
        files = [folder / "system.xml", folder / "positions.txt", folder / "identity_22.pt"]
        command = [arguments.build / "chain_overhead", *files, pretrained("alanine-dipeptide")]
        command += [arguments.iterations, arguments.platform, arguments.precision, *libraries]
        subprocess.run([str(word) for word in command], check=True, env=environment())


if __name__ == "__main__":
    main()
