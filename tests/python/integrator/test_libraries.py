"""Loading the compiled plugin."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import openmm
import pytest
import torch
from packaging.requirements import Requirement
from reference_models import write_all

import timewarp_openmm
from timewarp_openmm import _libraries
from timewarp_openmm._libraries import find_build, load_plugin, served_torch


def test_the_package_may_lie_in_another_folder_than_torch_and_openmm(tmp_path: Path) -> None:
    """As after pip install --user, with torch installed for all."""
    compiled = Path(load_plugin().__file__).parent
    copy = tmp_path / "elsewhere" / "timewarp_openmm"
    shutil.copytree(
        Path(timewarp_openmm.__file__).parent, copy, ignore=shutil.ignore_patterns("pretrained")
    )
    shutil.copytree(compiled, copy / compiled.name, dirs_exist_ok=True)
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


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The versions of torch and openmm that seem to be there; tests change them."""
    versions = {"torch": torch.__version__, "openmm": openmm.Platform.getOpenMMVersion()}

    def version(package: str) -> str:
        if package not in versions:
            raise PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(_libraries, "version", version)
    return versions


def test_every_version_that_pip_may_install_is_one_that_a_build_serves(
    installed: dict[str, str],
) -> None:
    """Otherwise an upgrade that the requirements allow ends in an ImportError."""
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    required = [Requirement(r) for r in tomllib.loads(text)["project"]["dependencies"]]
    specifiers = {r.name: r.specifier for r in required}
    candidates = {
        "torch": ["2.12.1", "2.13.0", "2.13.1", "2.14.0"],
        "openmm": ["8.5.1", "8.6.0", "8.6.1", "8.7.0"],
    }
    for package, versions in candidates.items():
        allowed = list(specifiers[package].filter(versions))
        assert allowed
        for allowed_version in allowed:
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(installed, package, allowed_version)
                find_build()


@pytest.mark.parametrize(
    ("package", "other"),
    [("torch", "2.12.1"), ("torch", "2.99.0+cu130"), ("openmm", "8.5.1"), ("openmm", "8.7")],
)
def test_releases_that_it_was_not_built_for(
    installed: dict[str, str], package: str, other: str
) -> None:
    installed[package] = other
    served = "2.13" if package == "torch" else "8.6"
    with pytest.raises(ImportError, match=rf"serves {package} .*{served}.*{re.escape(other)} is"):
        find_build()


@pytest.mark.parametrize("package", ["torch", "openmm"])
def test_a_package_that_is_not_there(installed: dict[str, str], package: str) -> None:
    del installed[package]
    with pytest.raises(ImportError, match=rf'{package} .* not installed.*pip install "{package}=='):
        find_build()


def test_a_build_for_each_of_several_releases(
    installed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a wheel, which holds the libraries of two: each release finds its own."""
    for name in ("_torch_2_97", "_torch_2_101"):
        folder = tmp_path / name
        folder.mkdir()
        torch_version = name.removeprefix("_torch_").replace("_", ".")
        text = f'TORCH = "{torch_version}.0"\nOPENMM = "8.6.1"\n'
        (folder / "__init__.py").write_text(text)
    monkeypatch.setattr(timewarp_openmm, "__path__", [*timewarp_openmm.__path__, str(tmp_path)])
    for other in ("2.97.1", "2.101.0+cu140"):
        installed["torch"] = other
        build = find_build()
        # Not left for other tests.
        monkeypatch.delitem(sys.modules, build.__name__)
        assert other.startswith(build.TORCH.removesuffix(".0"))
    # In the order of versions, not of letters.
    assert served_torch()[-2:] == ["2.97", "2.101"]
    installed["torch"] = "2.98.0"
    with pytest.raises(ImportError, match=r"2\.97 or 2\.101, but torch 2\.98\.0"):
        find_build()


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
