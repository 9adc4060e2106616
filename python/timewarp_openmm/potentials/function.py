"""A function of the user's as a potential.

::

    def spring(positions, atoms):
        return 50.0 * float((positions**2).sum()), -100.0 * positions

takes positions [N, 3] / nm and `Atoms`, and returns kJ/mol and kJ/mol/nm. It has a name,
``package.module:spring`` or ``file.py:spring``, since worker processes and later sessions must find
it again.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Atoms, Calculator, ConvergenceError

#: Minimising uses threads, of which a function of the user's need know nothing.
_one_at_a_time = threading.RLock()
#: See the module's own text.
Function = Callable[[NDArray[np.float64], Atoms], tuple[Any, Any]]


@dataclass(frozen=True)
class FunctionPotential:
    """A function that computes energy and forces.

    Attributes
    ----------
    name : str
        ``module:function``, or ``file.py:function`` with the whole path.
    """

    name: str

    @staticmethod
    def of(function: Function) -> FunctionPotential:
        """Return the potential of a function of a module.

        Raises
        ------
        ValueError
            If it is not found by its name, as those within other functions are not.
        """
        module = sys.modules.get(getattr(function, "__module__", ""), None)
        name = getattr(function, "__qualname__", repr(function))
        if module is None or getattr(module, name, None) is not function:
            raise ValueError(
                f"worker processes and later sessions cannot find {name}; define the function at "
                "the top of a module or file"
            )
        # A script is its file; under its name, other processes have another __main__.
        file = getattr(module, "__file__", None)
        if module.__name__ == "__main__" and file is not None:
            return FunctionPotential(f"{Path(file).resolve()}:{name}")
        return FunctionPotential(f"{module.__name__}:{name}")

    @property
    def version(self) -> str:
        """The SHA-256 of the function's file: with other code it is another potential."""
        file = _module_of(self.name).__file__
        content = b"" if file is None else Path(file).read_bytes()
        return f"SHA-256 {hashlib.sha256(content).hexdigest()}"

    @property
    def elements(self) -> None:
        return None

    def calculator(self, atoms: Atoms) -> Calculator:
        return partial(_checked, find_function(self.name), self.name, atoms)


def _checked(
    function: Function, name: str, atoms: Atoms, positions: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    with _one_at_a_time:
        energy, forces = function(positions, atoms)
    found = np.asarray(forces, dtype=float)
    if found.shape != positions.shape:
        raise ValueError(
            f"{name} returned forces of shape {list(found.shape)}; they must have one row of three "
            f"for each of {len(positions)} atoms"
        )
    if not np.isfinite(float(energy)):
        raise ConvergenceError(f"{name} returned the energy {float(energy)}")
    return float(energy), found


def is_function_name(name: str) -> bool:
    """Tell ``module:function`` and ``file.py:function`` from other names.

    Examples
    --------
    >>> is_function_name("my_model.py:energy"), is_function_name("openmmml:ani2x")
    (True, False)
    """
    place, separator, function = name.rpartition(":")
    return bool(place and separator) and function.isidentifier() and place != "openmmml"


def find_function(name: str) -> Function:
    """Import the function of this name.

    Raises
    ------
    ValueError
        If there is no such file, module or function, or importing it fails.
    """
    function = getattr(_module_of(name), name.rpartition(":")[2], None)
    if not callable(function):
        raise ValueError(f"there is no function {name}")
    return function  # type: ignore[no-any-return]


@cache
def _module_of(name: str) -> ModuleType:
    place = name.rpartition(":")[0]
    try:
        return _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # whatever the user's code raises
        raise ValueError(
            f"cannot import {place}, where the potential {name} is: {type(error).__name__}: {error}"
        ) from error


def _load_file(path: Path) -> ModuleType:
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    spec = importlib.util.spec_from_file_location(f"timewarp_potential_{digest}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
