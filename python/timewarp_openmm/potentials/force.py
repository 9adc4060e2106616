"""A potential as a force of OpenMM, and how many of its energies have not converged."""

from __future__ import annotations

import json
import math
import os
import tempfile
import threading
from collections.abc import Sequence
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
#: Distance of an atom's nearest neighbour, in sums of covalent radii, in anything like a molecule.
_NEAREST = (0.6, 1.6)


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

    A state whose energy does not converge has an infinite one, which every chain rejects and which
    a minimiser steps back from; its forces are NaN, on which no dynamics can go on. Where it
    happens too often, the potential is not fit for the molecule. Structures with atoms that collide
    or have come off, as proposals and a minimiser's trials may have, say nothing of that.
    """

    def __init__(self, spec: PotentialSpec, potential: Potential) -> None:
        self._spec, self._potential = spec, potential
        self._threads = threading.local()
        self.energies, self.failures = 0, 0

    def __reduce__(self) -> tuple[Any, ...]:
        # OpenMM pickles it when a System is copied within this process.
        return PotentialEnergy, (self._spec, self._potential)

    def __call__(self, state: openmm.State) -> tuple[float, NDArray[np.float64]]:
        positions = np.asarray(state.getPositions(asNumpy=True).value_in_unit(NANOMETER), float)
        if not np.isfinite(positions).all():
            raise ValueError(
                f"{self._spec.potential} was asked for an energy of positions that are not finite; "
                "start from another structure, or use a shorter time step"
            )
        self.energies += 1
        try:
            return self._calculator()(positions)
        except ConvergenceError as error:
            self._count_failure(positions, error)
            return math.inf, np.full(positions.shape, math.nan)

    def _calculator(self) -> Calculator:
        # Contexts of several threads share a System.
        if not hasattr(self._threads, "calculator"):
            self._threads.calculator = self._potential.calculator(self._spec.atoms)
        found: Calculator = self._threads.calculator
        return found

    def _count_failure(self, positions: NDArray[np.float64], error: ConvergenceError) -> None:
        if not is_like_a_molecule(self._spec.atoms.numbers, positions):
            return
        self.failures += 1
        if self.failures <= MOST_FAILURES * max(self.energies, _FIRST_ENERGIES):
            return
        path = write_structure(self._spec, positions)
        raise ValueError(
            f"{self.failures} of {self.energies} energies of {self._spec.potential} have not "
            f"converged, the last one of the structure in {path} ({error}); look whether that is "
            "the molecule you mean, or choose another potential"
        )


def is_like_a_molecule(numbers: Sequence[int], positions: NDArray[np.float64]) -> bool:
    """Tell whether no atom collides with another, and none has come off all others."""
    # Seldom asked for, and RDKit takes a while to load.
    from rdkit.Chem import GetPeriodicTable

    radii = np.array([0.1 * GetPeriodicTable().GetRcovalent(number) for number in numbers])
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    shares = distances / (radii[:, None] + radii[None])
    np.fill_diagonal(shares, np.inf)
    nearest = shares.min(axis=1)
    return bool((nearest > _NEAREST[0]).all() and (nearest < _NEAREST[1]).all())


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
