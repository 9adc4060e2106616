"""``timewarp-openmm doctor`` says what works, and what is missing."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run
from conftest import PLATFORMS

from timewarp_openmm import _libraries, diagnosis

Doctor = Callable[[], tuple[int, dict[str, tuple[str, str]]]]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    def call() -> tuple[int, dict[str, tuple[str, str]]]:
        code, out, _ = run(["doctor"], monkeypatch, capsys)
        lines = [re.fullmatch(r"(ok|--)  (.+?)\s{2,}(.+)", line) for line in out.splitlines()]
        assert all(lines), out
        return code, {line[2]: (line[1], line[3]) for line in lines if line is not None}

    return call


def test_what_works_is_run(doctor: Doctor) -> None:
    code, found = doctor()
    assert code == 0
    for name in ("machine", "OpenMM", "torch", "plugin"):
        assert found[name][0] == "ok", found[name]
    for name in PLATFORMS:
        mark, text = found[name]
        assert mark == "ok", text
        assert re.match(r"works: [\d,]+ iterations/s of alanine dipeptide, its flow on ", text)


def test_a_plugin_for_other_versions(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise ImportError("timewarp-openmm was built with torch 2.13.0, but torch 3 is installed")

    monkeypatch.setattr(_libraries, "load_plugin", load)
    code, found = doctor()
    assert code == 1
    assert found["plugin"][0] == "--"
    assert "but torch 3 is installed" in found["plugin"][1]
    assert "Reference" not in found, "nothing to try"


def test_a_platform_that_is_missing_or_fails(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timewarp_openmm._opencl.has_platform", lambda name: name != "OpenCL")

    def fail(name: str) -> str:
        if name in ("CPU", "CUDA"):
            raise RuntimeError("the driver is too old")
        return "works"

    monkeypatch.setattr(diagnosis, "_run_on", fail)
    code, found = doctor()
    assert code == 0, "Reference is enough"
    assert found["OpenCL"][0] == "--"
    assert "pip install intel-opencl-rt" in found["OpenCL"][1]
    assert found["CPU"] == ("--", "does not work: the driver is too old")
    monkeypatch.setattr(diagnosis, "_run_on", lambda name: 1 / 0)
    code, found = doctor()
    assert code == 1
    assert found["Reference"][0] == "--"


def test_extras_that_are_missing(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_run_on", lambda name: "works")
    monkeypatch.setattr(
        diagnosis, "requires", lambda name: ["nothing-of-the-kind>=2; extra == 'analysis'"]
    )
    code, found = doctor()
    assert code == 0
    mark, text = found["extra analysis"]
    assert mark == "--"
    assert text == 'without nothing-of-the-kind; pip install "timewarp-openmm[analysis]"'


def test_every_extra_is_looked_at() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    # Those of a platform are told by the platform, and dev is for developers.
    others = {"cuda12", "cuda13", "dev"}
    assert set(diagnosis.EXTRAS) == set(project["optional-dependencies"]) - others
