"""Which atom each shape coordinate belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from ...molecule.equivalent_atoms import equivalent_leaves
from ...molecule.graph import Molecule
from .conditioners import Place, Wiring
from .shape import ShapeChart

#: Slots of an atom's stiff coordinates: the bond, angle and torsion that place it.
BOND, ANGLE, TORSION = range(3)
#: Behind them, what is known of its rotatable torsion: cosine, sine, and where in its sector it is.
ROTATABLE_SLOTS = 3
#: Behind these, its auxiliary velocity.
VELOCITY_SLOTS = 3


@dataclass(frozen=True)
class CoordinatePlaces:
    """Where the coordinates of a `ShapeChart` belong.

    An atom has the bond length, angle and torsion of its own row of the Z-matrix. (After whitening
    they are mixtures, but each of what it was before above all, since the whitening is symmetric.)

    Attributes
    ----------
    rotatable : tuple of int, length R
        The atom that each rotatable torsion places.
    stiff : tuple of Place, length M
    num_stretches : int
        How many of these, the last, are stretches.
    velocities : tuple of int
        Atoms whose auxiliary velocities take part in the flow.
    """

    rotatable: tuple[int, ...]
    stiff: tuple[Place, ...]
    num_stretches: int
    velocities: tuple[int, ...]

    @property
    def known(self) -> tuple[Place, ...]:
        """Places of all shape features: of the rotatable torsions, and stiff coordinates."""
        return self._of_rotatable() + self.stiff

    def rotatable_wiring(self, kept: list[int], changed: list[int]) -> Wiring:
        """Return the wiring of a coupling of torsions; it is given cosines, then sines."""
        columns = [(self.rotatable[i], slot) for slot in range(2) for i in kept]
        return Wiring(tuple(columns), 2, tuple((self.rotatable[i], 0) for i in changed), 1)

    def stiff_wiring(self, kept: list[int], changed: list[int]) -> Wiring:
        """Return the wiring of a coupling of stiff coordinates, which is given others of them, the
        rotatable torsions and the velocities."""
        columns = tuple(self.stiff[i] for i in kept) + self._of_rotatable()
        first = TORSION + 1 + ROTATABLE_SLOTS
        columns += tuple((atom, first + axis) for atom in self.velocities for axis in range(3))
        slots = first + (VELOCITY_SLOTS if self.velocities else 0)
        return Wiring(columns, slots, tuple(self.stiff[i] for i in changed), TORSION + 1)

    def velocity_wiring(self) -> Wiring:
        """Return the wiring of a coupling of velocities, which is given all of the shape but its
        stretches, since these come last."""
        targets = tuple((atom, axis) for atom in self.velocities for axis in range(3))
        rest = self.stiff[: len(self.stiff) - self.num_stretches]
        return Wiring(
            self._of_rotatable() + rest, TORSION + 1 + ROTATABLE_SLOTS, targets, VELOCITY_SLOTS
        )

    def _of_rotatable(self) -> tuple[Place, ...]:
        slots = range(TORSION + 1, TORSION + 1 + ROTATABLE_SLOTS)
        return tuple((atom, slot) for slot in slots for atom in self.rotatable)


def coordinate_places(chart: ShapeChart, molecule: Molecule, velocities: bool) -> CoordinatePlaces:
    """Return the places of a chart's coordinates.

    Velocities of equivalent atoms stay out of the flow: a proposal's labels do not matter, and so
    the velocities that go with them must not either.
    """
    internal = chart.internal
    order = internal.order.tolist()
    bonds = [(atom, BOND) for atom in order[-internal.num_bonds :]]
    angles = [(atom, ANGLE) for atom in order[-internal.num_angles :]]
    placed = order[internal.num_given :]
    torsions = [(placed[i], TORSION) for i in chart.stiff_index.tolist()]
    raw = bonds + angles + torsions
    stiff = tuple(raw[i] for i in chart.raw_order.tolist())
    equivalent = {atom for group in equivalent_leaves(molecule) for atom in group}
    active = [i for i in range(molecule.num_atoms) if i not in equivalent] if velocities else []
    rotatable = tuple(placed[i] for i in chart.rotatable_index.tolist())
    return CoordinatePlaces(rotatable, stiff, chart.num_stretches, tuple(active))
