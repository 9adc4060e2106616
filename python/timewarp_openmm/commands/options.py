"""Options of a command as one validated object, which its command line is made from.

A command is a model of its options and a function of that model::

    class ExportOptions(Options):
        run: Annotated[Path, ARGUMENT] = Field(description="Folder of a training run.")
        out: OutputPath = Field(description="The model file, such as ala2.pt.")
        force: bool = Field(False, description="Replace the file that is there.")

    def export(options: ExportOptions) -> None: ...

`as_command` turns the two into what typer takes. A field's bounds (see `bounds`) and its checks
stand in its type, so that they hold for every command that has such an option, and say the same.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin

import typer
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from ..bounds import WORKERS, Bounds
from ..files import check_output_path, check_utf8
from . import require_farm

if TYPE_CHECKING:
    from ..workers.base import Workers

#: Marks a field that is given by its place instead of its name.
ARGUMENT = "argument"


class Options(BaseModel):
    """The options of a command; each field is one, described by its `description`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*")
    @classmethod
    def _check_file_names(cls, value: Any) -> Any:
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, Path | str):
                check_utf8(entry)
        return value


def _checked_output(path: Path) -> Path:
    try:
        check_output_path(path)
    except OSError as error:
        raise ValueError(f"cannot be written: {error.strerror}: {path}") from error
    return path


#: A file or a folder that the command writes.
OutputPath = Annotated[Path, AfterValidator(_checked_output)]

_WORKERS_TEXT = "Processes of one thread each; default: the CPUs it may use."
_SCHEDULER_TEXT = (
    "Address of a dask scheduler, or its file, whose workers are used instead of processes of this "
    "machine."
)


def _with(option: str, text: str) -> str:
    return f"With {option}, {text[0].lower()}{text[1:]}" if option else text


def workers_field(option: str = "") -> Any:
    """Return the field of ``--workers``, which may go with another option only."""
    return Field(None, description=_with(option, _WORKERS_TEXT))


def scheduler_field(option: str = "") -> Any:
    """Return the field of ``--scheduler``, which may go with another option only."""
    return Field(None, description=_with(option, _SCHEDULER_TEXT))


#: Types of these two fields.
WorkersOption = Annotated[int, WORKERS] | None
SchedulerOption = str | None


@contextmanager
def chosen_workers(
    command: str, workers: int | None, scheduler: str | None, most: int | None = None
) -> Iterator[Workers]:
    """Open the workers that ``--workers`` and ``--scheduler`` ask for.

    Parameters
    ----------
    most : int, optional
        Processes of this machine that there is work for.

    Raises
    ------
    ValueError
        If both are given, or dask is needed and not installed.
    ConnectionError
        If no scheduler answers.
    """
    from ..machine import usable_cpus
    from ..workers.opening import open_workers

    if scheduler is not None:
        require_farm(f"{command} --scheduler")
        if workers is not None:
            raise ValueError(
                "--workers are processes of this machine, and --scheduler has workers of its own; "
                "leave out one of the two"
            )
    count = workers or usable_cpus()
    with open_workers(scheduler, count if most is None else min(most, count)) as opened:
        if opened.is_empty():
            typer.echo(f"{scheduler} has no workers yet, which are waited for", err=True)
        yield opened


T = TypeVar("T", bound=Options)


def as_command(options: type[T], run: Callable[[T], None]) -> Callable[..., None]:
    """Return the function of a typer command that validates `options` and calls `run`.

    Raises
    ------
    ValueError
        When called with a value that is out of bounds: naming each such option, its bounds and
        its value.
    """

    def command(**values: Any) -> None:
        run(validated(options, values))

    parameters = [_parameter(name, field) for name, field in options.model_fields.items()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__name__, command.__doc__ = run.__name__, run.__doc__
    return command


def validated(options: type[T], values: dict[str, Any]) -> T:
    """Return the options of these values, by the fields' names; see `as_command`."""
    # What was not given has its default; a list option that was not given is empty.
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return options.model_validate(given)
    except ValidationError as error:
        raise ValueError("; ".join(_describe(options, item) for item in error.errors())) from error


def _describe(options: type[Options], item: Any) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return message
    name = str(item["loc"][0])
    field = options.model_fields[name]
    if str(item["type"]).startswith(("int_", "float_")):
        kind = "a whole number" if str(item["type"]).startswith("int_") else "a number"
        message = " ".join(["must be", kind, *map(str, _bounds(field))]) + f", got {item['input']}"
    return f"{name.upper() if ARGUMENT in field.metadata else option_name(name)} {message}"


def option_name(field: str) -> str:
    """Return the option of a field.

    Examples
    --------
    >>> option_name("force_field")
    '--force-field'
    """
    return "--" + field.replace("_", "-")


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    bounds = "".join(f" ({entry})" for entry in _bounds(field))
    text = (field.description or "").removesuffix(".") + bounds + "."
    annotation, number = _plain(field.annotation)
    if ARGUMENT in field.metadata:
        kind: Any = typer.Argument(help=text, metavar=number)
    else:
        kind = typer.Option(help=text, metavar=number)
    default = inspect.Parameter.empty if field.is_required() else field.default
    if number is not None and not field.is_required() and default is not None:
        default = str(default)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, kind],
    )


def _bounds(field: FieldInfo) -> list[Bounds]:
    """Return the bounds on a field or within its type."""
    found = [entry for entry in field.metadata if isinstance(entry, Bounds)]

    def visit(annotation: Any) -> None:
        if get_origin(annotation) is Annotated:
            found.extend(entry for entry in get_args(annotation) if isinstance(entry, Bounds))
        for argument in get_args(annotation):
            visit(argument)

    visit(field.annotation)
    return found


def _plain(annotation: Any) -> tuple[Any, str | None]:
    """Return a type as typer wants it, and how to call its values if they are numbers.

    Numbers come as text: typer's own parser has other words for them, and knows no NaN.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (int, float):
        return str, "INTEGER" if annotation is int else "NUMBER"
    if origin is Annotated:
        return _plain(arguments[0])
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        plain, number = _plain(inner)
        return plain | None, number
    if origin is list:
        plain, number = _plain(arguments[0])
        return list[plain], number  # type: ignore[valid-type]
    return annotation, None
