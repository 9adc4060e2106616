"""What is installed, what works, and what is missing, as ``timewarp-openmm doctor`` says it."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version

#: Steps that a platform is tried with; the first ones compile.
_STEPS = 64
#: Platforms that this package has kernels for.
_PLATFORMS = ("Reference", "CPU", "OpenCL", "CUDA")
#: What makes a platform appear, where it is missing.
_REMEDIES = {
    "OpenCL": "pip install intel-opencl-rt intel-cmplr-lib-rt",
    "CUDA": 'pip install "timewarp-openmm[cuda13]" (or [cuda12]), on a machine with a GPU',
}
EXTRAS = ("analysis", "ligands", "potentials", "ani", "farm")


@dataclass(frozen=True)
class Finding:
    """One line of a diagnosis.

    Attributes
    ----------
    what : str
    good : bool
    text : str
        What was found, and the remedy where it is not good.
    needed : bool
        Without it nothing can be sampled.
    """

    what: str
    good: bool
    text: str
    needed: bool = False


def examine() -> list[Finding]:
    """Look at versions, the compiled plugin, platforms and extras; try each platform."""
    findings = [_machine(), _openmm()]
    if findings[-1].good:
        findings += [_torch(), _plugin()]
        if all(finding.good for finding in findings):
            findings += [_try_platform(name) for name in _PLATFORMS]
    return findings + [_extra(name) for name in EXTRAS]


def _machine() -> Finding:
    from .machine import usable_cpus

    text = (
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{usable_cpus()} CPUs"
    )
    return Finding("machine", sys.version_info >= (3, 11), text, needed=True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _openmm() -> Finding:
    found = _version("openmm")
    text = found or "not installed; pip install timewarp-openmm installs it"
    return Finding("OpenMM", found is not None, text, needed=True)


def _torch() -> Finding:
    found = _version("torch")
    if found is None:
        text = "not installed; pip install timewarp-openmm installs it"
        return Finding("torch", False, text, needed=True)
    import torch

    cuda = torch.cuda.is_available()
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    where = f"CUDA devices: {', '.join(devices)}" if cuda else "no CUDA device"
    return Finding("torch", True, f"{found}, {where}", needed=True)


def _plugin() -> Finding:
    from ._libraries import find_build, load_plugin, served_torch

    try:
        load_plugin()
    except (ImportError, OSError) as error:
        return Finding("plugin", False, str(error), needed=True)
    built = find_build()
    text = f"timewarp-openmm {_version('timewarp-openmm')}, built with torch {built.TORCH} and "
    serves = f"; serves torch {' and '.join(served_torch())}"
    return Finding("plugin", True, f"{text}OpenMM {built.OPENMM}{serves}", needed=True)


def _try_platform(name: str) -> Finding:
    from ._opencl import has_platform

    needed = name == "Reference"
    if not has_platform(name):
        remedy = f"; {_REMEDIES[name]}" if name in _REMEDIES else ""
        return Finding(name, False, f"not there{_failure(name)}{remedy}", needed)
    try:
        return Finding(name, True, _run_on(name), needed)
    except Exception as error:  # what a driver does is anybody's guess
        text = str(error).strip() or type(error).__name__
        return Finding(name, False, f"does not work: {text}", needed)


def _failure(name: str) -> str:
    """Return why OpenMM could not load a platform, if it says so."""
    import openmm

    library = f"libOpenMM{name}.so: "
    reasons = [
        failure.split(library, 1)[1]
        for failure in openmm.Platform.getPluginLoadFailures()
        if library in failure
    ]
    return f" ({reasons[0].strip()})" if reasons else ""


def _run_on(name: str) -> str:
    """Sample the bundled model for a moment."""
    import openmm

    from .bundled import pretrained
    from .integrator import TimewarpMCMCIntegrator
    from .simulation.systems import make_platform, named_molecule

    molecule = named_molecule("alanine-dipeptide")
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(molecule.system, integrator, *make_platform(name))
    context.setPositions(molecule.positions)
    integrator.step(_STEPS)
    began = time.perf_counter()
    integrator.step(_STEPS)
    rate = _STEPS / (time.perf_counter() - began)
    return (
        f"works: {rate:,.0f} iterations/s of alanine dipeptide, its flow on "
        f"{integrator.getModelDevice()}"
    )


def _extra(name: str) -> Finding:
    if name not in (metadata("timewarp-openmm").get_all("Provides-Extra") or []):
        return Finding(f"extra {name}", False, "unknown to what is installed; install it again")
    missing = missing_packages(name, requires("timewarp-openmm") or [])
    if not missing:
        return Finding(f"extra {name}", True, "complete")
    text = f'without {", ".join(missing)}; pip install "timewarp-openmm[{name}]"'
    return Finding(f"extra {name}", False, text)


def missing_packages(extra: str, requirements: Sequence[str]) -> list[str]:
    """Return which packages of an extra are not installed.

    Parameters
    ----------
    requirements : sequence of str
        Of the distribution, as importlib.metadata gives them.

    Examples
    --------
    >>> missing_packages("fast", ["numpy>=1; extra == 'fast'", "no-such-thing>=2; extra == 'fast'",
    ...                           "nor-this; extra == 'other'", "numpy"])
    ['no-such-thing']
    """
    marker = f"extra == {extra!r}".replace("'", '"')
    of_extra = [text for text in requirements if marker in text.replace("'", '"')]
    names = [_name_of(text) for text in of_extra]
    return sorted(name for name in names if _version(name) is None)


def _name_of(requirement: str) -> str:
    name = requirement.split(";")[0]
    for separator in " <>=!~[(":
        name = name.split(separator)[0]
    return name
