"""Potentials by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .ani import NAME, AniPotential
from .base import Potential
from .function import Function, FunctionPotential, find_function, is_function_name
from .openmmml import PREFIX, OpenMMMLPotential
from .xtb import METHODS, XtbPotential

_NAMES = (*METHODS, NAME)
#: Functions that this session was told of by the user: what a file names is not run.
_named_functions: set[str] = set()


def is_potential(name: str) -> bool:
    """Tell the name of a potential from that of a force field's file.

    Examples
    --------
    >>> is_potential("gfn2-xtb"), is_potential("mine.py:energy"), is_potential("amber14-all.xml")
    (True, True, False)
    """
    return name in _NAMES or name.startswith(PREFIX) or is_function_name(name)


def find_potential(name: str | Function) -> Potential:
    """Return a potential that the user names.

    Parameters
    ----------
    name : str or callable
        ``gfn2-xtb``, ``gfn1-xtb``, ``ani1x``, ``openmmml:NAME``, ``module:function``,
        ``file.py:function``, or a function itself (see `function`).

    Raises
    ------
    ValueError
        If there is none of this name, or what it needs is not installed.
    """
    if not isinstance(name, str):
        potential: Potential = FunctionPotential.of(name)
        _named_functions.add(potential.name)
    elif is_function_name(name):
        place, _, function = name.rpartition(":")
        path = f"{Path(place).resolve()}:{function}" if place.endswith(".py") else name
        find_function(path)
        potential = FunctionPotential(path)
        _named_functions.add(path)
    else:
        potential = _find(name)
    # Asked for here, so that a package that is missing is named before anything begins.
    _ = potential.version
    return potential


def stored_potential(name: str, trusted: bool) -> Potential:
    """Return a potential that a file names, or with `trusted` another process of this session.

    Raises
    ------
    ValueError
        If it is a function that the user has not named: loading a file runs no code.
    """
    if not is_function_name(name):
        return _find(name)
    if not trusted and name not in _named_functions:
        raise ValueError(
            f"the file was made with the function {name}, which is only run if you name it; "
            f"give it as --target {name}"
        )
    return FunctionPotential(name)


def stated_force_field(names: Sequence[str]) -> list[str]:
    """Return the force field that a model states, to be used where the user names none.

    Raises
    ------
    ValueError
        If it is a function: sampling somebody's model runs no code of theirs.
    """
    for name in names:
        if is_function_name(name):
            raise ValueError(
                f"the model was made for the function {name}, which is only run if you name it; "
                "give it with its path as --target or --force-field"
            )
    return list(names)


def _find(name: str) -> Potential:
    if name in METHODS:
        return XtbPotential(name)
    if name == NAME:
        return AniPotential()
    if name.startswith(PREFIX):
        return OpenMMMLPotential(name)
    raise ValueError(
        f"there is no potential {name!r}; there are {', '.join(_NAMES)}, {PREFIX}NAME, "
        "module:function and file.py:function"
    )


def short_name(potential: Potential) -> str:
    """Return the name of a potential for models and reports, without the folders of this machine.

    Examples
    --------
    >>> short_name(FunctionPotential("/home/me/mine.py:energy"))
    'mine.py:energy'
    """
    return Path(potential.name).name if is_function_name(potential.name) else potential.name
