"""The command line ``timewarp-openmm``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import typer

from .commands.analyze import AnalyzeOptions, analyze
from .commands.benchmark import BenchmarkOptions, benchmark
from .commands.blocks import BlocksOptions, blocks
from .commands.doctor import DoctorOptions, doctor
from .commands.ensemble import EnsembleOptions, ensemble
from .commands.export import ExportOptions, export
from .commands.fit import FitOptions, fit
from .commands.free_energy import FreeEnergyOptions, free_energy
from .commands.import_published import ImportOptions, import_published
from .commands.library import BuildOptions, MergeOptions, build, merge
from .commands.ligand import LigandOptions, ligand
from .commands.options import Options, as_command
from .commands.peptide import PeptideOptions, peptide
from .commands.refine import RefineOptions, refine
from .commands.sample import SampleOptions, sample
from .commands.simulate import SimulateOptions, simulate
from .commands.tau_sweep import TauSweepOptions, tau_sweep
from .commands.train import TrainOptions, train

app = typer.Typer(
    help="Boltzmann sampling in learned jumps: data, training, export, sampling and analysis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
#: The commands by name: the options of each, and what it does with them.
COMMANDS: dict[str, tuple[type[Options], Callable[[Any], None]]] = {
    "ligand": (LigandOptions, ligand),
    "fit": (FitOptions, fit),
    "peptide": (PeptideOptions, peptide),
    "simulate": (SimulateOptions, simulate),
    "train": (TrainOptions, train),
    "refine": (RefineOptions, refine),
    "export": (ExportOptions, export),
    "blocks": (BlocksOptions, blocks),
    "sample": (SampleOptions, sample),
    "ensemble": (EnsembleOptions, ensemble),
    "tau-sweep": (TauSweepOptions, tau_sweep),
    "analyze": (AnalyzeOptions, analyze),
    "free-energy": (FreeEnergyOptions, free_energy),
    "benchmark": (BenchmarkOptions, benchmark),
    "import": (ImportOptions, import_published),
    "doctor": (DoctorOptions, doctor),
}
for _name, (_options, _run) in COMMANDS.items():
    app.command(_name)(as_command(_options, _run))
_library = typer.Typer(help="Models of all residues.", no_args_is_help=True)
_library.command("build")(as_command(BuildOptions, build))
_library.command("merge")(as_command(MergeOptions, merge))
app.add_typer(_library, name="library")


@app.callback()
def _group() -> None:
    """Boltzmann sampling in learned jumps: data, training, export, sampling and analysis."""


def main() -> None:
    """Run the command line: a user's mistake ends in one message and exit code 2."""
    code: str | int | None = 0
    problem: Exception | None = None
    try:
        app(_with_repeated_options(sys.argv[1:]))
    except SystemExit as stop:
        code = stop.code
    except Exception as error:
        if not is_user_error(error):
            raise
        code, problem = 2, error
    if (lost := _lost_output(problem)) is not None:
        code, problem = 2, lost
    if problem is not None:
        with suppress(OSError):
            message = f"timewarp-openmm: error: {describe_error(problem)}"
            print(message, file=sys.stderr, flush=True)
    sys.exit(code)


def _lost_output(problem: Exception | None) -> OSError | None:
    """Return why standard output could not be written, if so; the system's error has no name."""
    try:
        nameless = isinstance(problem, OSError) and problem.errno and not problem.filename
        print(end="\n" if nameless else "", flush=True)
    except OSError as error:
        # What is left of it would be written, and fail, once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OSError(error.errno, error.strerror, "standard output")
    return None


def describe_error(error: Exception) -> str:
    """Return an error's message; the operating system's are put as ``what: which file``."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}".rstrip(": ")
    return str(error) or type(error).__name__


def _with_repeated_options(arguments: list[str]) -> list[str]:
    for option in ("--force-field", "--force-field2", "--residue"):
        arguments = repeat_option(arguments, option)
    return arguments


def repeat_option(arguments: list[str], option: str) -> list[str]:
    """Let one `option` take several values, as OpenMM's ForceField takes several files.

    Examples
    --------
    >>> repeat_option(["--force-field", "a.xml", "b.xml", "--seed", "1"], "--force-field")
    ['--force-field', 'a.xml', '--force-field', 'b.xml', '--seed', '1']
    """
    expanded: list[str] = []
    values = 0
    for argument in arguments:
        if argument.startswith("-"):
            # 0 outside the option, otherwise 1 + the number of its values so far.
            values = int(argument == option)
        elif values:
            if values > 1:
                expanded.append(option)
            values += 1
        expanded.append(argument)
    return expanded


def is_user_error(error: BaseException) -> bool:
    """Tell a mistake in the input, whose message suffices, from a defect of the program."""
    # All that the operating system refuses is an OSError: files, names, links, disks.
    kinds = (ValueError, OSError, MemoryError)
    # ContractError and pydantic's ValidationError are ValueErrors; OpenMM is named by its class so
    # that it need not be imported here.
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, kinds) or "OpenMMException" in names


if __name__ == "__main__":
    main()
