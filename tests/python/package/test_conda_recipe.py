"""The conda recipe asks for what pyproject.toml asks for, and the build finds conda's folders."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from timewarp_openmm import __version__

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "packaging" / "conda" / "recipe.yaml"
#: Names of conda-forge, where they are others than those of PyPI.
CONDA_NAMES = {
    "torch": "pytorch",
    "tables": "pytables",
    "matplotlib": "matplotlib-base",
    # Its packages hold lightning-fabric, which conda-forge has not by itself.
    "lightning-fabric": "pytorch-lightning",
    "nlohmann-json": "nlohmann_json",
}
#: For the CUDA library alone, which the recipe does not build.
NOT_ASKED_FOR = ("nvidia-cuda-runtime", "nvidia-cuda-crt")


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    return yaml.safe_load(RECIPE.read_text())


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def bounds(requirements: list[str]) -> dict[str, str]:
    """Return the bounds by conda-forge's names: ``{"openmm": ">=8.6,<8.7"}``."""
    found = {}
    for requirement in requirements:
        name, bound = re.fullmatch(r"([\w-]+) *([^;]*?) *(?:;.*)?", requirement).groups()  # type: ignore[union-attr]
        if name not in NOT_ASKED_FOR:
            found[CONDA_NAMES.get(name, name)] = bound
    return found


def test_version_is_that_of_the_package(recipe: dict[str, Any]) -> None:
    assert recipe["schema_version"] == 1
    assert recipe["context"]["version"] == __version__
    assert recipe["source"]["path"].startswith("../../dist/timewarp_openmm-${{ version }}")


def test_everything_that_is_needed_to_run(recipe: dict[str, Any], project: dict[str, Any]) -> None:
    needed = bounds(project["project"]["dependencies"])
    asked = bounds(recipe["requirements"]["run"])
    assert asked.pop("python") == project["project"]["requires-python"]
    assert asked == needed


def test_everything_that_is_needed_to_build(
    recipe: dict[str, Any], project: dict[str, Any]
) -> None:
    needed = bounds(project["build-system"]["requires"])
    asked = bounds(recipe["requirements"]["host"])
    assert asked.pop("python") == project["project"]["requires-python"]
    assert asked.pop("pip") == ""
    assert asked == needed
    tools = recipe["requirements"]["build"]
    (minimum,) = re.findall(
        r"cmake_minimum_required\(VERSION (.+)\)", (ROOT / "CMakeLists.txt").read_text()
    )
    assert f"cmake >={minimum}" in tools
    assert {"${{ compiler('cxx') }}", "${{ stdlib('c') }}", "ninja"} <= set(tools)


def test_what_is_built_is_tried(recipe: dict[str, Any]) -> None:
    imported, run = recipe["tests"]
    assert "timewarp_openmm.integrator" in imported["python"]["imports"]
    assert run["script"] == ["timewarp-openmm doctor"]


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def package_folder(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.fixture
def conda(tmp_path: Path) -> Path:
    """An environment with headers and libraries in its own folders, as conda has them."""
    prefix = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    (packages,) = prefix.glob("lib/python*/site-packages")
    openmm, torch = package_folder("openmm"), package_folder("torch")
    link(packages / "openmm", openmm)
    for name in ("__init__.py", "lib"):
        link(packages / "torch" / name, torch / name)
    link(packages / "pybind11" / "__init__.py", package_folder("pybind11") / "__init__.py")
    for name in ("openmm", "torch", "pybind11"):
        metadata = Path(str(distribution(name).locate_file("."))).glob(f"{name}-*.dist-info")
        for folder in metadata:
            link(packages / folder.name, folder)
    wheels = openmm.parent / "OpenMM.libs"
    # torch's wheel has a pybind11 of its own, which conda's package leaves out.
    places = (package_folder("pybind11"), package_folder("nlohmann_json"), wheels, torch)
    for place in places:
        for header in (place / "include").iterdir():
            if not (prefix / "include" / header.name).exists():
                link(prefix / "include" / header.name, header)
    for library in (
        wheels / "lib" / "libOpenMM.so",
        wheels / "lib" / "plugins",
        torch / "lib" / "libtorch_cpu.so",
        torch / "lib" / "libc10.so",
    ):
        link(prefix / "lib" / library.name, library)
    link(prefix / "share/cmake/pybind11", package_folder("pybind11") / "share/cmake/pybind11")
    return prefix


def configure(prefix: Path, build: Path) -> subprocess.CompletedProcess[str]:
    tools = Path(sys.executable).parent
    command = [tools / "cmake", "-S", ROOT, "-B", build, "-G", "Ninja"]
    command += [f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}", f"-DPython_ROOT_DIR={prefix}"]
    command += [f"-DPython_EXECUTABLE={prefix / 'bin' / 'python'}"]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_build_finds_an_environment_of_conda(conda: Path, tmp_path: Path) -> None:
    done = configure(conda, tmp_path / "build")
    assert done.returncode == 0, done.stderr
    assert f"in {conda}\n" in done.stdout
    rules = (tmp_path / "build" / "build.ninja").read_text()
    assert f"{conda}/lib/libOpenMM.so" in rules
    assert f"{conda}/lib/libtorch_cpu.so" in rules
    assert "OpenMM.libs/lib/libOpenMM.so" not in rules
    assert f"-isystem {conda}/include" in rules
    assert "libTimewarpOpenMMOpenCL.so" in rules


def test_without_headers_it_says_so(conda: Path, tmp_path: Path) -> None:
    (conda / "include" / "OpenMM.h").unlink()
    done = configure(conda, tmp_path / "build")
    assert done.returncode != 0
    assert "has no headers beside it" in done.stderr
