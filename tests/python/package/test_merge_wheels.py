"""One wheel out of those that were built with one release of torch each."""

from __future__ import annotations

import importlib.util
import re
import zipfile
from collections.abc import Callable
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from wheel.wheelfile import WheelFile

SCRIPT = Path(__file__).parents[3] / "packaging" / "merge_wheels.py"
NAME = "timewarp_openmm-0.1.0-cp311-cp311-linux_x86_64.whl"
INFO = "timewarp_openmm-0.1.0.dist-info"
METADATA = "Metadata-Version: 2.1\nName: timewarp-openmm\nVersion: 0.1.0\nRequires-Dist: {torch}\n"


def load_merge() -> Callable[..., Path]:
    spec = importlib.util.spec_from_file_location("merge_wheels", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    merge: Callable[..., Path] = module.merge_wheels
    return merge


merge_wheels = load_merge()


def make_wheel(
    folder: Path,
    release: str,
    name: str = NAME,
    module: str = "version = 1\n",
    torch: str = "torch==2.13.0",
) -> Path:
    """Write a wheel with a module, and a library for one release of torch."""
    folder.mkdir()
    path = folder / name
    compiled = f"timewarp_openmm/_torch_{release.replace('.', '_')}"
    with WheelFile(path, "w") as wheel:
        wheel.writestr("timewarp_openmm/__init__.py", module)
        wheel.writestr(f"{compiled}/__init__.py", f'TORCH = "{release}.0"\n')
        wheel.writestr(f"{compiled}/libTimewarpOpenMM.so", f"built with {release}")
        wheel.writestr(f"{INFO}/METADATA", METADATA.format(torch=torch))
        wheel.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\n")
    return path


def test_both_libraries_and_what_they_ask_for(tmp_path: Path) -> None:
    wheels = [make_wheel(tmp_path / release, release) for release in ("2.14", "2.13")]
    merged = merge_wheels(wheels, tmp_path / "out")
    assert merged.name == NAME
    # Each file is checked against the list of files while it is read.
    with WheelFile(merged) as wheel:
        contents = {name: wheel.read(name) for name in wheel.namelist()}
    for release in ("2_13", "2_14"):
        library = contents[f"timewarp_openmm/_torch_{release}/libTimewarpOpenMM.so"]
        assert library.decode() == f"built with {release.replace('_', '.')}"
    with zipfile.ZipFile(merged) as archive:
        info = PathDistribution(zipfile.Path(archive, f"{INFO}/"))
        assert info.requires == ["torch<2.15,>=2.13"]


def test_one_alone_serves_its_own_release(tmp_path: Path) -> None:
    merged = merge_wheels([make_wheel(tmp_path / "a", "2.13")], tmp_path / "out")
    with zipfile.ZipFile(merged) as archive:
        assert b"Requires-Dist: torch<2.14,>=2.13" in archive.read(f"{INFO}/METADATA")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"release": "2.13"}, "for the releases of torch {(2, 13)}, not for another one"),
        ({"release": "2.15"}, "there are releases of torch between"),
        ({"release": "2.14", "name": NAME.replace("311", "312")}, "wheels of different kinds"),
        ({"release": "2.14", "module": "version = 2\n"}, "timewarp_openmm/__init__.py of"),
        ({"release": "2.14", "torch": "torch==2.14.0"}, "METADATA of"),
    ],
    ids=[
        "the same release",
        "not neighbours",
        "another Python",
        "another module",
        "asks for other",
    ],
)
def test_wheels_that_do_not_belong_together(
    tmp_path: Path, second: dict[str, str], message: str
) -> None:
    first = make_wheel(tmp_path / "first", "2.13")
    other = make_wheel(tmp_path / "second", **second)
    with pytest.raises(ValueError, match=re.escape(message)):
        merge_wheels([first, other], tmp_path / "out")
    assert not (tmp_path / "out" / NAME).exists()
