"""Finds Intel's OpenCL runtime from PyPI, which runs OpenMM's GPU kernels on the CPU."""

from __future__ import annotations

import ctypes
import os
import warnings
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import openmm

#: The distribution on PyPI, and what of it is needed: the loader that OpenMM is linked with, and
#: the runtime.
RUNTIME = "intel-opencl-rt"
LOADER_NAME = "libOpenCL.so.1"
RUNTIME_NAME = "libintelocl.so"
#: What the loader needs of intel-cmplr-lib-rt, which lies beside it, each after what it needs
#: itself. It does not look there, but takes what is loaded already.
NEEDED_NAMES = ("libintlc.so.5", "libirng.so", "libimf.so", "libsvml.so")


def intel_runtime() -> tuple[Path, Path] | None:
    """Return the paths of the loader and of the runtime, or None if it is not installed."""
    try:
        listed = files(RUNTIME) or []
    except PackageNotFoundError:
        return None
    found = {file.name: Path(str(file.locate())).resolve() for file in listed}
    loader, runtime = found.get(LOADER_NAME), found.get(RUNTIME_NAME)
    if loader is None or runtime is None or not loader.exists() or not runtime.exists():
        return None
    return loader, runtime


def has_platform(name: str) -> bool:
    """Return whether OpenMM has a platform of this name."""
    platform = openmm.Platform
    return name in (platform.getPlatform(i).getName() for i in range(platform.getNumPlatforms()))


def provide_opencl() -> None:
    """Give OpenMM its OpenCL platform, by Intel's runtime, if it has none yet.

    OpenMM could not load it when it was imported, because pip installs the runtime where the
    system does not look. The variables OCL_ICD_VENDORS and OCL_ICD_FILENAMES, where set, are left
    as they are. If the runtime is installed but cannot be used, a warning says why; the other
    platforms are there all the same.
    """
    runtime = intel_runtime()
    plugin = Path(openmm.version.openmm_library_path) / "plugins" / "libOpenMMOpenCL.so"
    if has_platform("OpenCL") or runtime is None or not plugin.exists():
        return
    loader, implementation = runtime
    if "OCL_ICD_VENDORS" not in os.environ:
        os.environ.setdefault("OCL_ICD_FILENAMES", str(implementation))
    reason = f"it does not show up in {LOADER_NAME}"
    try:
        for name in NEEDED_NAMES:
            ctypes.CDLL(str(loader.parent / name))
        ctypes.CDLL(str(loader))
        openmm.Platform.loadPluginLibrary(str(plugin))
    except (OSError, openmm.OpenMMException) as error:
        reason = str(error)
    if not has_platform("OpenCL"):
        warnings.warn(
            f"{RUNTIME} is installed, but OpenMM has no platform OpenCL with it: {reason}; install "
            f"it anew with: pip install --force-reinstall {RUNTIME} intel-cmplr-lib-rt, or remove "
            f"it with: pip uninstall {RUNTIME}",
            RuntimeWarning,
            stacklevel=2,
        )
