"""The command line ``timewarp-openmm``."""

from __future__ import annotations

import sys

import typer

from .commands.export import export
from .commands.sample import sample
from .commands.simulate import simulate
from .commands.train import train

app = typer.Typer(
    help="Boltzmann sampling in learned jumps: data, training, export and sampling.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (simulate, train, export, sample):
    app.command()(_command)


@app.callback()
def _group() -> None:
    """Boltzmann sampling in learned jumps: data, training, export and sampling."""


def main() -> None:
    """Run the command line: a user's mistake ends in one message and exit code 2."""
    try:
        app(repeat_option(sys.argv[1:], "--force-field"))
    except Exception as error:
        if not is_user_error(error):
            raise
        message = str(error) or type(error).__name__
        print(f"timewarp-openmm: error: {message}", file=sys.stderr)
        sys.exit(2)


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
    kinds = (ValueError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
    # ContractError and pydantic's ValidationError are ValueErrors; OpenMM is named by its class so
    # that it need not be imported here.
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, kinds) or "OpenMMException" in names


if __name__ == "__main__":
    main()
