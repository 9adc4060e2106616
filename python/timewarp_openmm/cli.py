"""The command line ``timewarp-openmm``."""

from __future__ import annotations

import sys
from errno import EDQUOT, EFBIG, EIO, ENOSPC, EROFS
from pathlib import Path
from typing import Annotated

import typer

from .commands.analyze import analyze
from .commands.benchmark import benchmark
from .commands.export import export
from .commands.fit import fit
from .commands.refine import refine
from .commands.sample import sample
from .commands.simulate import simulate
from .commands.tau_sweep import tau_sweep
from .commands.train import train

app = typer.Typer(
    help="Boltzmann sampling in learned jumps: data, training, export, sampling and analysis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (fit, simulate, train, refine, export, sample, tau_sweep, analyze, benchmark):
    app.command()(_command)


@app.command("import")
def import_published(
    checkpoint: Annotated[Path, typer.Argument(help="A published checkpoint (.pt).")],
    config: Annotated[Path, typer.Option(help="JSON file with its hyperparameters.")],
    topology: Annotated[Path, typer.Option(help="PDB file of the molecule.")],
    out: Annotated[Path, typer.Option(help="The model file to write.")],
    temperature: Annotated[float, typer.Option(help="K, of its training data.")] = 310.0,
    lag: Annotated[float, typer.Option(help="ps, of its training pairs.")] = 2.0,
    force_field: Annotated[str, typer.Option(help="Of its training data.")] = "",
    force: Annotated[bool, typer.Option(help="Replace the file that is there.")] = False,
) -> None:
    """Turn a published Timewarp checkpoint into a model that the integrator loads."""
    from .commands.import_published import import_command

    import_command(checkpoint, config, topology, out, temperature, lag, force_field, force)
    typer.echo(f"{out}: contract checked")


@app.callback()
def _group() -> None:
    """Boltzmann sampling in learned jumps: data, training, export, sampling and analysis."""


def main() -> None:
    """Run the command line: a user's mistake ends in one message and exit code 2."""
    try:
        app(repeat_option(sys.argv[1:], "--force-field"))
    except Exception as error:
        if not is_user_error(error):
            raise
        print(f"timewarp-openmm: error: {describe_error(error)}", file=sys.stderr)
        sys.exit(2)


def describe_error(error: Exception) -> str:
    """Return an error's message; the operating system's are put as ``what: which file``."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return str(error) or type(error).__name__


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
    kinds = (
        ValueError,
        FileNotFoundError,
        FileExistsError,
        IsADirectoryError,
        NotADirectoryError,
        PermissionError,
    )
    # The errors of a full disk have no class of their own.
    full = isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT, EFBIG, EROFS, EIO)
    # ContractError and pydantic's ValidationError are ValueErrors; OpenMM is named by its class so
    # that it need not be imported here.
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, kinds) or full or "OpenMMException" in names


if __name__ == "__main__":
    main()
