"""Loading the compiled plugin."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import openmm
import pytest
import torch
from reference_models import write_all

import timewarp_openmm
from timewarp_openmm._libraries import load_plugin


def test_the_package_may_lie_in_another_folder_than_torch_and_openmm(tmp_path: Path) -> None:
    """As after pip install --user, with torch installed for all."""
    installed = Path(load_plugin().__file__).parent
    copy = tmp_path / "elsewhere" / "timewarp_openmm"
    shutil.copytree(
        Path(timewarp_openmm.__file__).parent, copy, ignore=shutil.ignore_patterns("pretrained")
    )
    for pattern in ("*.so", "_build_versions.py"):
        for file in installed.glob(pattern):
            shutil.copy(file, copy)
    code = (
        "import timewarp_openmm as t; "
        f"t.TimewarpMCMCIntegrator({str(tmp_path / 'identity_4.pt')!r}); print(t.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(copy.parent)}
    environment.pop("LD_LIBRARY_PATH", None)
    # An editable install's finder comes before PYTHONPATH; -S leaves it out, with site-packages.
    packages = [path for path in sys.path if path.endswith("site-packages")]
    code = f"import sys; sys.path += {packages!r}; {code}"
    write_all(tmp_path)
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(copy.parent))


def symbols(library: Path, which: str) -> set[str]:
    """Return the names of a library's dynamic symbols, defined or undefined."""
    listed = subprocess.run(
        ["nm", "-D", f"--{which}-only", str(library)], check=True, capture_output=True, text=True
    ).stdout
    return {line.split()[-1].split("@")[0] for line in listed.splitlines()}


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm, of binutils")
def test_cuda_stays_in_the_cuda_library() -> None:
    """All else loads without CUDA; the CUDA library needs this project's, OpenMM's and the driver.

    The linker does not look for what it lacks, since there is no driver where it is built.
    """
    folder = Path(load_plugin().__file__).parent
    for library in folder.glob("*.so"):
        if not library.name.startswith("libTimewarpOpenMMCUDA"):
            assert not any(
                re.match(r"cu[A-Z]|cuda[A-Z]|_ZN3c104cuda|_ZN2at4cuda", name)
                for name in symbols(library, "undefined")
            ), library.name
    openmm_folder = Path(openmm.version.openmm_library_path)
    libraries = [openmm_folder / "libOpenMM.so", openmm_folder / "plugins" / "libOpenMMCUDA.so"]
    libraries.append(folder / "libTimewarpOpenMM.so")
    cuda = folder / "libTimewarpOpenMMCUDA.so"
    if not cuda.exists() or not libraries[1].exists():
        pytest.skip("the CUDA library is not built, or OpenMM's is not installed")
    defined = set().union(*(symbols(library, "defined") for library in libraries))
    lacking = symbols(cuda, "undefined") - defined
    assert not [name for name in lacking if "OpenMM" in name or "Timewarp" in name]
    assert not [name for name in lacking if name.startswith("cuda")], "only the driver's functions"
    assert not [name for name in lacking if re.match(r"_ZN3c104cuda|_ZN2at4cuda", name)]


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm, of binutils")
def test_graphs_need_only_the_functions_of_cuda_graphs() -> None:
    """Their library is loaded when it is asked for; then torch's CUDA library must define these."""
    folder = Path(load_plugin().__file__).parent
    library = folder / "libTimewarpOpenMMCUDAGraphs.so"
    if not library.exists():
        pytest.skip("the CUDA library is not built")
    torch_folder = Path(torch.__file__).parent / "lib"
    defined = symbols(library, "defined").union(
        *(symbols(torch_folder / f"lib{name}.so", "defined") for name in ("torch_cpu", "c10"))
    )
    cuda = {name for name in symbols(library, "undefined") if re.search("cuda|CUDA", name)}
    lacking = cuda - defined
    assert lacking
    assert all(name.startswith("_ZN2at4cuda9CUDAGraph") for name in lacking), lacking
    assert "createTimewarpGraphRecorder" in defined
