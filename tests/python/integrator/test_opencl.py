"""How the OpenCL platform is found, and what is said where it cannot be."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import openmm
import pytest

from timewarp_openmm import TimewarpMCMCIntegrator, _opencl, pretrained
from timewarp_openmm.simulation.systems import named_molecule


def test_intels_runtime_is_found() -> None:
    """The development requirements hold it, so the tests must not go without it unseen."""
    if _opencl.intel_runtime() is None:
        pytest.skip("intel-opencl-rt is not installed")
    code = "import openmm, timewarp_openmm.integrator; openmm.Platform.getPlatformByName('OpenCL')"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_happens_without_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_opencl, "intel_runtime", lambda: None)
    monkeypatch.setattr(_opencl, "has_platform", lambda name: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _opencl.provide_opencl()


def test_a_broken_runtime_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = (tmp_path / _opencl.LOADER_NAME, tmp_path / _opencl.RUNTIME_NAME)
    monkeypatch.setattr(_opencl, "intel_runtime", lambda: broken)
    monkeypatch.setattr(_opencl, "has_platform", lambda name: False)
    monkeypatch.setenv("OCL_ICD_FILENAMES", "")
    with pytest.warns(RuntimeWarning, match=r"libintlc.*pip install --force-reinstall"):
        _opencl.provide_opencl()


def test_the_flow_runs_on_the_cpu_without_cuda(platform: str) -> None:
    if platform == "CUDA":
        pytest.skip("on the GPU, where torch can")
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    system = named_molecule("alanine-dipeptide").system
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform))
    assert integrator.getModelDevice() == "cpu"
    del context
