"""An OpenMM System whose energy is a potential."""

from __future__ import annotations

import openmm
from openmm import app

from ..molecule.graph import Molecule
from ..units import DALTON
from .base import Atoms, Potential
from .force import PotentialSpec, potential_force

#: By which charges of a System may fail to add up to a whole number.
_CHARGE_TOLERANCE = 0.01


def create_system(
    potential: Potential, molecule: Molecule, charge: int, multiplicity: int = 1
) -> openmm.System:
    """Make a System of one isolated molecule whose energy is a potential.

    Parameters
    ----------
    potential : Potential
    molecule : Molecule
    charge : int
        See `total_charge`.
    multiplicity : int
        2 S + 1.

    Raises
    ------
    ValueError
        If the potential does not know an element, or charge and multiplicity do not go together.
    """
    numbers = tuple(app.Element.getBySymbol(e).atomic_number for e in molecule.elements)
    _check_elements(potential, molecule, numbers)
    electrons = sum(numbers) - charge
    if (electrons - multiplicity + 1) % 2 or multiplicity - 1 > electrons:
        raise ValueError(
            f"with the charge {charge:+d} the molecule has {electrons} electrons, which the "
            f"multiplicity {multiplicity} does not go with: it is a radical, or its charge or its "
            "hydrogens are wrong"
        )
    system = openmm.System()
    for mass in molecule.masses:
        system.addParticle(mass * DALTON)
    spec = PotentialSpec(potential.name, potential.version, Atoms(numbers, charge, multiplicity))
    system.addForce(potential_force(spec, potential))
    return system


def _check_elements(potential: Potential, molecule: Molecule, numbers: tuple[int, ...]) -> None:
    if potential.elements is None:
        return
    for index, number in enumerate(numbers):
        if number not in potential.elements:
            symbols = (app.Element.getByAtomicNumber(n).symbol for n in sorted(potential.elements))
            raise ValueError(
                f"{potential.name} does not know the element {molecule.elements[index]} of "
                f"{molecule.describe_atom(index)}; it knows {' '.join(symbols)}"
            )


def total_charge(molecule: Molecule, system: openmm.System | None = None) -> int:
    """Return the charge of a molecule by its formal charges, and by the charges of its System.

    Raises
    ------
    ValueError
        If neither is known, or they differ.
    """
    formal = sum(molecule.formal_charges) if molecule.formal_charges else None
    partial = None if system is None else _charge_of_system(system)
    if partial is not None and abs(partial - round(partial)) > _CHARGE_TOLERANCE:
        raise ValueError(
            f"the System's charges add up to {partial:.3f}, which is no whole number; the charge "
            "of the molecule cannot be told from them"
        )
    if formal is not None and partial is not None and round(partial) != formal:
        raise ValueError(
            f"by its bond orders the molecule has the charge {formal:+d}, and the System's charges "
            f"add up to {partial:+.3f}; make the System of this molecule"
        )
    if formal is not None:
        return formal
    if partial is not None:
        return round(partial)
    raise ValueError(
        "the charge of the molecule is not known; give an SDF or MOL file, which has bond orders"
    )


def _charge_of_system(system: openmm.System) -> float | None:
    for force in system.getForces():
        if isinstance(force, openmm.NonbondedForce):
            charges = [force.getParticleParameters(i)[0] for i in range(force.getNumParticles())]
            return float(sum(charge._value for charge in charges))
    return None
