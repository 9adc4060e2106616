"""GFN-xTB by tblite: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 2019, 15, 1652 (GFN2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Atoms, Calculator, ConvergenceError, installed_version
from .threads import OneThread

#: tblite's names of the methods.
METHODS = {"gfn2-xtb": "GFN2-xTB", "gfn1-xtb": "GFN1-xTB"}
#: nm and kJ/mol (CODATA 2018, as in tblite).
BOHR = 0.0529177210903
HARTREE = 2625.4996394798254
#: Elements that are no metals: of a metal the state of spin is not known from its charge.
_NONMETALS = frozenset(
    (1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32, 33, 34, 35, 36, 51, 52, 53, 54)
)


@dataclass(frozen=True)
class XtbPotential:
    """GFN2-xTB or GFN1-xTB of an isolated molecule, by tblite.

    Attributes
    ----------
    name : str
        A key of `METHODS`.
    """

    name: str

    @property
    def version(self) -> str:
        return installed_version("tblite", self.name, '"timewarp-openmm[potentials]"')

    @property
    def elements(self) -> frozenset[int]:
        return _NONMETALS

    def calculator(self, atoms: Atoms) -> Calculator:
        return _Calculator(METHODS[self.name], atoms)


class _Calculator:
    """Each energy is computed from the same guess: one that begins with the last density would
    depend, a little, on where the chain has been."""

    def __init__(self, method: str, atoms: Atoms) -> None:
        self._method, self._atoms = method, atoms
        self._tblite: Any = None
        self._one_thread = OneThread()

    def __call__(self, positions: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        # Loads the library, which `OneThread` must find.
        from tblite import interface as _  # noqa: F401
        from tblite.exceptions import TBLiteRuntimeError

        try:
            found = self._one_thread.call(lambda: self._singlepoint(positions / BOHR))
        except TBLiteRuntimeError as error:
            raise ConvergenceError(str(error).strip()) from error
        forces: NDArray[np.float64] = -found["gradient"] * (HARTREE / BOHR)
        return float(found["energy"]) * HARTREE, forces

    def _singlepoint(self, bohr: NDArray[np.float64]) -> Any:
        if self._tblite is None:
            self._tblite = self._start(bohr)
        self._tblite.update(bohr)
        return self._tblite.singlepoint()

    def _start(self, positions: NDArray[np.float64]) -> Any:
        from tblite.interface import Calculator as Tblite

        found = Tblite(
            self._method,
            np.array(self._atoms.numbers),
            positions,
            charge=float(self._atoms.charge),
            uhf=self._atoms.unpaired,
        )
        found.set("verbosity", 0)
        return found
