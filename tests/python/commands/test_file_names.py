"""File names that are not UTF-8, which file systems allow and libraries do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from timewarp_openmm import TimewarpMCMCIntegrator, cli, pretrained
from timewarp_openmm.commands.options import validated

NAME = b"\xff\xfename"


def odd(folder: Path, suffix: str, content: bytes) -> Path:
    path = Path(os.fsdecode(os.fsencode(folder) + b"/" + NAME + suffix.encode()))
    path.write_bytes(content)
    return path


def test_model_under_a_name_that_is_no_text(tmp_path: Path) -> None:
    model = Path(pretrained("alanine-dipeptide"))
    path = odd(tmp_path, ".pt", model.read_bytes())
    for name in (path, str(path), os.fsencode(path)):
        with pytest.raises(ValueError, match=r"xff.*is not UTF-8.*rename"):
            TimewarpMCMCIntegrator(name)
    readable = tmp_path / "é model.pt"
    readable.symlink_to(path)
    assert TimewarpMCMCIntegrator(readable).getModelPath() == str(readable)
    assert TimewarpMCMCIntegrator(os.fsencode(readable)).getModelPath() == str(readable)


PATH_OPTIONS = [
    (command, field)
    for command, (options, _) in cli.COMMANDS.items()
    for field, info in options.model_fields.items()
    if "Path" in str(info.annotation) or field == "force_field"
]


@pytest.mark.parametrize(("command", "field"), PATH_OPTIONS)
def test_every_option_says_which_file(command: str, field: str) -> None:
    options, _ = cli.COMMANDS[command]
    name = os.fsdecode(NAME)
    several = "list" in str(options.model_fields[field].annotation)
    with pytest.raises(ValueError, match=rf"(?i){field.replace('_', '.')} .*xff.*is not UTF-8"):
        validated(options, {field: [name] if several else name})


def test_command_says_which_file_and_writes_nothing(tmp_path: Path) -> None:
    program = "import sys; from timewarp_openmm.cli import main; main()"
    command = ["sample", "--model", "m.pt", "--pdb", "s.pdb", "--steps", "10", "--out", NAME]
    result = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, cwd=tmp_path
    )
    errors = result.stderr.decode()
    assert result.returncode == 2, errors
    assert "xff" in errors
    assert "is not UTF-8" in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())
