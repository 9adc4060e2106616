"""Systems in which a fragment in place is hot, and nothing else boils or unfolds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openmm
from numpy.typing import NDArray

from ..molecule.in_place import Fragment
from .cut_system import cut_system

#: nm that the middle of a hot molecule may go for nothing, and kJ/mol/nm^2 beyond.
_TETHER, _TETHER_STIFFNESS = 0.1, 2000.0
#: kJ/mol/nm^2; at 650 K atoms stray by 0.1 nm, and a side chain turns every few picoseconds.
_TIE_STIFFNESS = 2000.0


def hot_system(
    system: openmm.System, positions: NDArray[np.float64], fragment: Fragment
) -> openmm.System:
    """Return a System in which all stands still but the fragment, without constraints.

    A whole molecule is kept from flying off: its middle stays near the one of `positions`.
    """
    hot = openmm.XmlSerializer.clone(system)
    for number in reversed(range(hot.getNumConstraints())):
        hot.removeConstraint(number)
    for i in set(range(hot.getNumParticles())) - set(fragment.moved):
        hot.setParticleMass(i, 0.0)
    if fragment.own_moved is None:
        hot.addForce(_tether(positions, fragment.moved))
    return hot


def hot_alone(
    system: openmm.System, positions: NDArray[np.float64], fragment: Fragment
) -> openmm.System:
    """Return the System of the atoms that a fragment's model knows, by themselves and in their
    order.

    Those that the fragment does not move, but the System does, are tied to `positions`, so that
    they give way and the molecule does not unfold.
    """
    hot = cut_system(system, fragment.known).system
    place = {atom: i for i, atom in enumerate(fragment.known)}
    for number in range(system.getNumConstraints()):
        a, b, length = system.getConstraintParameters(number)
        if a in place and b in place:
            hot.addConstraint(place[a], place[b], length)
    own = positions[list(fragment.known)]
    if fragment.own_moved is None:
        hot.addForce(_tether(own, range(len(own))))
    else:
        others = sorted(set(range(len(own))) - set(fragment.own_moved))
        hot.addForce(_ties(own, others))
    return hot


def _tether(positions: NDArray[np.float64], atoms: Sequence[int]) -> openmm.CustomCentroidBondForce:
    middle = positions[list(atoms)].mean(0)
    square = "+".join(
        f"({axis}1-({value!r}))^2" for axis, value in zip("xyz", map(float, middle), strict=True)
    )
    force = openmm.CustomCentroidBondForce(
        1, f"0.5*{_TETHER_STIFFNESS}*max(0, d-{_TETHER})^2; d=sqrt({square}+1e-12)"
    )
    force.addBond([force.addGroup(list(atoms), [1.0] * len(atoms))])
    return force


def _ties(positions: NDArray[np.float64], atoms: Sequence[int]) -> openmm.CustomExternalForce:
    force = openmm.CustomExternalForce(f"0.5*{_TIE_STIFFNESS}*((x-x0)^2+(y-y0)^2+(z-z0)^2)")
    for name in ("x0", "y0", "z0"):
        force.addPerParticleParameter(name)
    for atom in atoms:
        force.addParticle(atom, positions[atom])
    return force
