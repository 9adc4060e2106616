"""A potential as a force of OpenMM, and how many of its energies have not converged."""

from __future__ import annotations

import json
import math
import os
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from ..units import NANOMETER
from .base import Atoms, Calculator, ConvergenceError, Potential
from .registry import stored_potential

#: Energies that may fail to converge, as a share of all; and as a number, in the first ones.
MOST_FAILURES = 0.01
_FIRST_ENERGIES = 1000


@dataclass(frozen=True)
class PotentialSpec:
    """What a `PotentialForce` is made from, as it stands in files.

    Attributes
    ----------
    potential, version : str
        Of the `Potential`.
    atoms : Atoms
    """

    potential: str
    version: str
    atoms: Atoms


class PotentialEnergy:
    """What OpenMM's PythonForce calls: it counts energies, and those that do not converge.

    The state of an energy that does not converge has the energy NaN, which every chain rejects.
    Where it happens too often, the potential is not fit for the molecule.
    """

    def __init__(self, spec: PotentialSpec, potential: Potential) -> None:
        self._spec, self._potential = spec, potential
        self._threads = threading.local()
        self.energies, self.failures = 0, 0

    def __reduce__(self) -> tuple[Any, ...]:
        # OpenMM pickles it when a System is copied within this process.
        return PotentialEnergy, (self._spec, self._potential)

    def __call__(self, state: openmm.State) -> tuple[float, NDArray[np.float64]]:
        positions = state.getPositions(asNumpy=True).value_in_unit(NANOMETER)
        self.energies += 1
        try:
            return self._calculator()(np.asarray(positions, dtype=float))
        except ConvergenceError as error:
            self._count_failure(np.asarray(positions), error)
            return math.nan, np.full(positions.shape, math.nan)

    def _calculator(self) -> Calculator:
        # Contexts of several threads share a System.
        if not hasattr(self._threads, "calculator"):
            self._threads.calculator = self._potential.calculator(self._spec.atoms)
        found: Calculator = self._threads.calculator
        return found

    def _count_failure(self, positions: NDArray[np.float64], error: ConvergenceError) -> None:
        self.failures += 1
        if self.failures <= MOST_FAILURES * max(self.energies, _FIRST_ENERGIES):
            return
        path = write_structure(self._spec, positions)
        raise ValueError(
            f"{self.failures} of {self.energies} energies of {self._spec.potential} have not "
            f"converged, the last one of the structure in {path} ({error}); look whether that is "
            "the molecule you mean, or choose another potential"
        )


def write_structure(spec: PotentialSpec, positions: NDArray[np.float64]) -> Path:
    """Write a structure [N, 3] / nm as an XYZ file of a new name here, or where files may be."""
    lines = [str(len(positions)), f"charge={spec.atoms.charge} {spec.potential}"]
    for number, row in zip(spec.atoms.numbers, 10 * positions, strict=True):
        symbol = app.Element.getByAtomicNumber(number).symbol
        lines.append(f"{symbol:2} {row[0]:14.8f} {row[1]:14.8f} {row[2]:14.8f}")
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        try:
            handle, name = tempfile.mkstemp(".xyz", "not-converged-", folder)
        except OSError:
            continue
        with os.fdopen(handle, "w") as file:
            file.write("\n".join([*lines, ""]))
        return Path(name)
    raise OSError("no folder to write a structure to that has not converged")


def potential_force(spec: PotentialSpec, potential: Potential) -> openmm.PythonForce:
    """Return the force, which carries its description as its name."""
    force = openmm.PythonForce(PotentialEnergy(spec, potential))
    force.setName(json.dumps(asdict(spec)))
    return force


def spec_of(force: openmm.Force) -> PotentialSpec | None:
    """Return what a force was made from by `potential_force`; None for any other."""
    if not isinstance(force, openmm.PythonForce):
        return None
    try:
        return read_spec(force.getName())
    except (ValueError, TypeError, KeyError):
        return None


def read_spec(text: str) -> PotentialSpec:
    """Return the spec that a force's name describes."""
    content = json.loads(text)
    atoms = content["atoms"]
    numbers = tuple(int(number) for number in atoms["numbers"])
    return PotentialSpec(
        str(content["potential"]),
        str(content["version"]),
        Atoms(numbers, int(atoms["charge"]), int(atoms["multiplicity"])),
    )


def force_of_spec(spec: PotentialSpec, trusted: bool) -> openmm.PythonForce:
    """Return the force that a spec describes, as `stored_potential` finds its potential.

    Raises
    ------
    ValueError
        If it was made with another version.
    """
    potential = stored_potential(spec.potential, trusted)
    if potential.version != spec.version:
        raise ValueError(
            f"the file was made with {spec.potential} of {spec.version}, here it is "
            f"{potential.version}; use that version, or make the file anew"
        )
    return potential_force(spec, potential)
