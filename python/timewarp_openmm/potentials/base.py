"""What a potential is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

#: Positions [N, 3] / nm to the energy / kJ/mol and the forces [N, 3] / kJ/mol/nm. A function of the
#: positions alone: what it has computed before must not matter, or no chain with it is exact.
Calculator = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


class ConvergenceError(ValueError):
    """The energy of one structure cannot be computed; that of others can."""


@dataclass(frozen=True)
class Atoms:
    """What a potential is told of a molecule beside its positions.

    Attributes
    ----------
    numbers : tuple of int, length N
        Atomic numbers.
    charge : int
        Of the whole molecule, in elementary charges.
    multiplicity : int
        2 S + 1.
    """

    numbers: tuple[int, ...]
    charge: int = 0
    multiplicity: int = 1

    @property
    def unpaired(self) -> int:
        """Return the number of unpaired electrons."""
        return self.multiplicity - 1


class Potential(Protocol):
    """A potential.

    Attributes
    ----------
    name : str
        By which `registry.find_potential` finds it again.
    version : str
        Of all that its energies depend on: the package, or the file of a function.
    elements : frozenset of int, optional
        Atomic numbers that it knows; None where it does not say.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def elements(self) -> frozenset[int] | None: ...

    def calculator(self, atoms: Atoms) -> Calculator:
        """Return a new calculator, to be used by one thread."""


def installed_version(package: str, potential: str, install: str) -> str:
    """Return ``package 1.2.3``.

    Raises
    ------
    ValueError
        If it is not installed: naming the potential that needs it and what to install.
    """
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError as error:
        raise ValueError(
            f"the potential {potential} needs {package}, which is not installed; install it with "
            f"pip install {install}"
        ) from error
