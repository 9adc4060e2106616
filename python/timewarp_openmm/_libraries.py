"""Loads the compiled plugin, after checking that it fits the installed openmm and torch."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

import openmm

from ._opencl import has_platform, provide_opencl

_PACKAGE = __package__ or "timewarp_openmm"
#: The platforms that have a library; that of Reference serves the CPU platform, too.
PLATFORMS = ("Reference", "OpenCL", "CUDA")


def _minor(full_version: str) -> str:
    """Return the minor release: 2.13.0+cpu, 2.13.1 and 2.13.0+cu130 have one ABI, that of 2.13."""
    return ".".join(full_version.split("+")[0].split(".")[:2])


def _installed(package: str, served: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise ImportError(
            f"timewarp-openmm needs {package} {served}, which is not installed; install it with: "
            f'pip install "{package}=={served.split(" or ")[-1]}.*"'
        ) from None


def _package_for(torch: str) -> str:
    """Return the name of the package that holds what was compiled for a release of torch."""
    return f"_torch_{_minor(torch).replace('.', '_')}"


def served_torch() -> list[str]:
    """Return the minor releases of torch that this installation has compiled libraries for."""
    folders = import_module(_PACKAGE).__path__
    found = [re.fullmatch(r"_torch_(\d+)_(\d+)", module.name) for module in iter_modules(folders)]
    return [f"{a}.{b}" for a, b in sorted((int(m[1]), int(m[2])) for m in found if m)]


def find_build() -> ModuleType:
    """Return the package with the libraries that fit the installed torch and openmm.

    C++ libraries of other versions may load and then crash, so this comes before loading. torch
    promises no ABI between its minor releases: each has libraries of its own, for CPU and CUDA
    builds. They serve one minor release of openmm.

    Returns
    -------
    module
        With the versions that it was built with, TORCH and OPENMM.

    Raises
    ------
    ImportError
        If nothing is compiled, or for other releases than those installed; the message names those
        that this installation serves.
    """
    there = served_torch()
    if not there:
        raise ImportError(
            "the compiled plugin is missing; install the package with: "
            "pip install --no-build-isolation ."
        )
    served = " or ".join(there)
    torch = _installed("torch", served)
    if _minor(torch) not in there:
        raise ImportError(_other("torch", served, torch))
    build = import_module(f".{_package_for(torch)}", _PACKAGE)
    openmm_version = _installed("openmm", _minor(build.OPENMM))
    if _minor(openmm_version) != _minor(build.OPENMM):
        raise ImportError(_other("openmm", _minor(build.OPENMM), openmm_version))
    return build


def _other(package: str, served: str, installed: str) -> str:
    return (
        f"this timewarp-openmm serves {package} {served}, but {package} {installed} is installed; "
        f'install another with: pip install "{package}=={served.split(" or ")[-1]}.*", or build '
        "timewarp-openmm for the one that is there with: "
        "pip install --no-build-isolation --no-deps --force-reinstall "
        "--no-binary timewarp-openmm timewarp-openmm"
    )


def _load_torch_libraries() -> None:
    """Load libtorch from where torch is, which need not be the folder this package is in.

    The plugin looks beside itself, and takes what is loaded already under the same name. Importing
    torch would do it too, but takes seconds.
    """
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / "lib"
    if has_platform("CUDA") and (folder / "libtorch_cuda.so").exists():
        # With all that its CUDA part needs, so that the flow can run on the GPU.
        import_module("torch")
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(folder / name))


@cache
def load_plugin() -> ModuleType:
    """Load the integrator's libraries into OpenMM and return the compiled module.

    They are loaded from this package's own folder: in OpenMM's plugin folder every
    ``import openmm`` would load libtorch, and a failure would go unseen. A platform's library is
    loaded if OpenMM has that platform; on a machine without a GPU it has no CUDA, and
    openmm.Platform.getPluginLoadFailures() says why.

    Raises
    ------
    ImportError
        See `find_build`.
    """
    build = find_build()
    _load_torch_libraries()
    plugin = import_module("._plugin", build.__name__)
    folder = Path(str(plugin.__file__)).parent
    provide_opencl()
    for name in PLATFORMS:
        library = folder / f"libTimewarpOpenMM{name}.so"
        if has_platform(name) and library.exists():
            openmm.Platform.loadPluginLibrary(str(library))
    return plugin
