"""Numbers and paths on command lines: out of bounds, they are one message at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_args

import pytest
import typer
import typer.main
from command_line import run
from pydantic import Field

from timewarp_openmm.bounds import Bounds
from timewarp_openmm.cli import COMMANDS
from timewarp_openmm.commands.options import ARGUMENT, Options, as_command, option_name, validated
from timewarp_openmm.simulation.systems import structure_file

PDB = str(structure_file("alanine-dipeptide"))
FIELDS = {command: options.model_fields for command, (options, _) in COMMANDS.items()}


def is_number(annotation: object) -> bool:
    """Tell numbers, several numbers and optional ones from the rest."""
    inner = [a for a in get_args(annotation) if a is not type(None)]
    return is_number(inner[0]) if inner else annotation in (int, float)


#: Required options, with inputs that are missing: what has passed its bounds ends at once, too.
GIVEN = {
    "model": "{tmp}/missing.pt",
    "pdb": PDB,
    "steps": "1",
    "out": "{tmp}/out",
    "topology": "{tmp}/missing.pdb",
    "traj": "{tmp}/missing.dcd",
    "config": "{tmp}/missing.yaml",
    "minutes": "1",
    "library": "{tmp}/missing-library",
}
ARGUMENTS = {
    name: f"{{tmp}}/missing-{name}"
    for name in ("structure", "run", "checkpoint", "model", "source")
}
ARGUMENTS["config"] = "{tmp}/missing.yaml"


def numeric_options() -> list[tuple[str, str]]:
    """Return every option that takes a number: command and name, such as ``--seed``."""
    return [
        (command, option_name(name))
        for command, fields in FIELDS.items()
        for name, field in fields.items()
        if is_number(field.annotation)
    ]


def command_line(command: str, option: str, value: str, folder: Path) -> list[str]:
    words = [command]
    for name, field in FIELDS[command].items():
        if ARGUMENT in field.metadata:
            words.append(ARGUMENTS[name])
        elif field.is_required() and option_name(name) != option:
            words += [option_name(name), GIVEN[name]]
    if command == "simulate":
        words += ["--pdb", "{tmp}/missing.pdb"]
    if command == "sample":
        words += ["--model", GIVEN["model"], "--pdb", GIVEN["pdb"]]
    return [*(word.format(tmp=folder) for word in words), option, value]


def test_there_are_numeric_options() -> None:
    found = numeric_options()
    assert len(found) > 30
    assert {("fit", "--minutes"), ("simulate", "--explore-temperature")} <= set(found)
    assert ("analyze", "--pdb-frame") in found


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "1e308", str(2**40), "text", "0"])
@pytest.mark.parametrize(("command", "option"), numeric_options())
def test_numbers_out_of_range_are_named(
    command: str,
    option: str,
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, error = run(command_line(command, option, value, tmp_path), monkeypatch, capsys)
    assert code == 2
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
    # 0 is a number that some options may have; then it is the missing input that is named.
    if value == "0" and option not in error:
        assert "missing" in error
        return
    assert error.startswith(f"timewarp-openmm: error: {option} must be ")
    assert re.search(r" (from|above) .* (to|at most) .*, got ", error)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--timestep 1e-18", "--timestep must be from 1e-05 to 0.02 ps, got 1e-18"),
        ("--length 1e300", "--length must be above 0 and at most 1e+09 ps, got 1e+300"),
        ("--trajectories 1000000000", "--trajectories must be from 1 to 10000, got 1000000000"),
        ("--seed 4294967296", "--seed must be from 0 to 2147483647, got 4294967296"),
        ("--length 1e9 --interval 0.001", "frames of a trajectory must be from 1 to 100000000"),
        ("--seed -1 --workers 0", "--seed must be from 0 to 2147483647, got -1; --workers must be"),
        ("--explore --explore-length 1e9", "frames of a walker must be from 1 to 100000000"),
    ],
)
def test_simulations_that_would_never_end(
    options: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["simulate", "--preset", "ala2", "--out", str(tmp_path / "o"), *options.split()]
    code, _, error = run(words, monkeypatch, capsys)
    assert code == 2
    assert message in error
    assert not (tmp_path / "o").exists()


OUTPUTS = [
    (command, option_name(name))
    for command, fields in FIELDS.items()
    for name in fields
    if name in ("out", "work")
]


@pytest.mark.parametrize(("command", "option"), OUTPUTS)
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{tmp}/loop", "Too many levels of symbolic links: {tmp}/loop"),
        ("{tmp}/loop/inside", "Too many levels of symbolic links: {tmp}/loop/inside"),
        ("{tmp}/" + 300 * "n", "File name too long: {tmp}/nnn"),
        # Short enough itself, but not for the unfinished file beside it.
        ("{tmp}/" + 250 * "n", "File name too long: {tmp}/"),
        ("{tmp}/" + 5000 * "n/", "File name too long: {tmp}/n/n"),
        ("{tmp}/file/inside", "Not a directory: {tmp}/file/inside"),
    ],
)
def test_outputs_that_cannot_be_written_are_named(
    command: str,
    option: str,
    place: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    words = command_line(command, option, place.format(tmp=tmp_path), tmp_path)
    code, _, error = run(words, monkeypatch, capsys)
    assert code == 2
    assert option in error
    assert message.format(tmp=tmp_path) in error
    assert "Traceback" not in error


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", ["--help", "simulate --help", "sample --steps 0"])
def test_standard_output_that_is_full(arguments: str) -> None:
    code = "from timewarp_openmm.cli import main; main()"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments.split()], stdout=full, stderr=subprocess.PIPE
        )
    error = done.stderr.decode()
    assert done.returncode == 2
    assert "Traceback" not in error
    assert "Exception ignored" not in error
    if "--help" in arguments:
        assert error == "timewarp-openmm: error: No space left on device: standard output\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_log_that_is_full_does_not_stop_the_work() -> None:
    code = (
        "from timewarp_openmm.commands.progress import counting\n"
        "import sys\n"
        "with counting('working', 3) as report:\n"
        "    for done in range(4): report(done)\n"
        "print('done', file=sys.stderr)\n"
        "sys.stdout = None\n"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE)
    assert done.stderr.decode().startswith("done\n")


class Toy(Options):
    """Options of a command that does nothing."""

    first: Annotated[Path, ARGUMENT] = Field(description="A file.")
    counts: list[Annotated[int, Bounds(1, 3)]] | None = Field(None, description="Numbers.")
    share: Annotated[float, Bounds(0, 1, open_below=True)] = Field(0.5, description="A share.")


def test_a_command_is_made_from_its_options() -> None:
    seen: list[Toy] = []
    toy = typer.Typer()
    toy.command()(as_command(Toy, seen.append))
    command = typer.main.get_command(toy)
    command.main(["a", "--counts", "1", "--counts", "3"], standalone_mode=False)
    assert seen == [Toy(first=Path("a"), counts=[1, 3])]
    with pytest.raises(ValueError, match=r"^--counts must be from 1 to 3, got 4; --share must be"):
        command.main(["a", "--counts", "4", "--share", "nan"], standalone_mode=False)
    with pytest.raises(ValueError, match="frozen"):
        seen[0].share = 0.1
    texts = {parameter.name: getattr(parameter, "help", "") for parameter in command.params}
    assert texts["share"] == "A share (above 0 and at most 1)."
    assert option_name("force_field") == "--force-field"
    assert validated(Toy, {"first": "b"}).counts is None
