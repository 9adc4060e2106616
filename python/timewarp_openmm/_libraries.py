"""Loads the compiled plugin, after checking that it fits the installed openmm and torch."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import openmm

from ._opencl import has_platform, provide_opencl

#: The platforms that have a library; that of Reference serves the CPU platform, too.
PLATFORMS = ("Reference", "OpenCL", "CUDA")


def _public(full_version: str) -> str:
    """Drop the local part: 2.13.0+cpu and 2.13.0+cu130 have one ABI."""
    return full_version.split("+")[0]


def check_versions(built_torch: str, built_openmm: str) -> None:
    """Raise ImportError if the plugin was built for another torch or openmm than is installed.

    C++ libraries of other versions may load and then crash, so this comes before loading. A build
    serves one release of torch (2.13.0, whose CPU and CUDA builds have one ABI), since torch
    promises none between its releases, and one minor version of openmm (8.6). pyproject.toml asks
    for the same versions.
    """
    for package, built, digits in (("torch", built_torch, 3), ("openmm", built_openmm, 2)):
        try:
            installed = version(package)
        except PackageNotFoundError:
            raise ImportError(
                f"timewarp-openmm needs {package} {_public(built)}, which is not installed; "
                f"install it with: pip install {package}=={_public(built)}"
            ) from None
        wanted = _public(built).split(".")[:digits]
        if _public(installed).split(".")[:digits] != wanted:
            raise ImportError(
                f"timewarp-openmm was built with {package} {built}, but {package} {installed} is "
                f"installed; install {package}=={_public(built)} or build timewarp-openmm again "
                "with: pip install --no-build-isolation --force-reinstall --no-deps timewarp-openmm"
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
        If the package was not built, or was built for other versions.
    """
    package = __package__ or "timewarp_openmm"
    try:
        built = import_module("._build_versions", package)
    except ImportError as error:
        raise ImportError(
            "the compiled plugin is missing; install the package with: "
            "pip install --no-build-isolation ."
        ) from error
    check_versions(built.TORCH, built.OPENMM)
    _load_torch_libraries()
    plugin = import_module("._plugin", package)
    folder = Path(str(plugin.__file__)).parent
    provide_opencl()
    for name in PLATFORMS:
        library = folder / f"libTimewarpOpenMM{name}.so"
        if has_platform(name) and library.exists():
            openmm.Platform.loadPluginLibrary(str(library))
    return plugin
