"""Units and constants: the one place where a quantity becomes a number.

Everywhere else plain numbers mean nm, ps, K, kJ/mol and dalton.
"""

from __future__ import annotations

import math
from typing import Any

from openmm import unit

#: Boltzmann constant times Avogadro's number, kJ/mol/K (CODATA 2018, as in OpenMM).
GAS_CONSTANT = 8.31446261815324e-3

NANOMETER = unit.nanometer
PICOSECOND = unit.picosecond
KELVIN = unit.kelvin
KILOJOULE_PER_MOLE = unit.kilojoule_per_mole
DALTON = unit.dalton


def value_in(quantity: Any, target: unit.Unit) -> Any:
    """Return `quantity` as plain numbers in `target`; a plain number is taken to be in it already.

    Parameters
    ----------
    quantity : number, array or openmm.unit.Quantity
    target : openmm.unit.Unit

    Raises
    ------
    ValueError
        If the quantity has another dimension than `target`.

    Examples
    --------
    >>> from openmm import unit
    >>> value_in(25 * unit.angstrom, NANOMETER)
    2.5
    >>> value_in(2.5, NANOMETER)
    2.5
    """
    if not unit.is_quantity(quantity):
        return quantity
    try:
        return quantity.value_in_unit(target)
    except TypeError as error:
        raise ValueError(f"expected a quantity in {target}, got {quantity.unit}") from error


def thermal_energy(temperature: float) -> float:
    """Return kT in kJ/mol for a temperature in K.

    Raises
    ------
    ValueError
        If the temperature is not finite and positive.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be positive, got {temperature} K")
    return GAS_CONSTANT * temperature
