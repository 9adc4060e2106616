"""The command line ``timewarp-openmm``."""

from __future__ import annotations

import sys

import typer

from .commands.simulate import simulate

app = typer.Typer(
    help="Boltzmann sampling in learned jumps: data, training, export and sampling.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(simulate)


@app.callback()
def _group() -> None:
    """Boltzmann sampling in learned jumps: data, training, export and sampling."""


def main() -> None:
    """Run the command line: a user's mistake ends in one message and exit code 2."""
    try:
        app()
    except Exception as error:
        if not is_user_error(error):
            raise
        message = str(error) or type(error).__name__
        print(f"timewarp-openmm: error: {message}", file=sys.stderr)
        sys.exit(2)


def is_user_error(error: BaseException) -> bool:
    """Tell a mistake in the input, whose message suffices, from a defect of the program."""
    kinds = (ValueError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
    # ContractError and pydantic's ValidationError are ValueErrors; OpenMM is named by its class so
    # that it need not be imported here.
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, kinds) or "OpenMMException" in names


if __name__ == "__main__":
    main()
