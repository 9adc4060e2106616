"""Which bonds of a molecule's rings flip, as a cyclohexane's do."""

from __future__ import annotations

from .bonding import Bond, perceive
from .graph import Molecule
from .rings import bridged_rings, ring_bonds, smallest_rings

#: Smaller rings have no second shape to pucker to.
SMALLEST_PUCKERED_RING = 5
#: In rings from this size on, bonds from a planar to a tetrahedral atom flip in any case.
WIDE_RING = 7
#: A five- or six-membered ring with fewer tetrahedral atoms than this is flat.
TETRAHEDRAL_IF_PUCKERED = 3


def puckering_bonds(molecule: Molecule, largest: int) -> set[Bond]:
    """Return the bonds of rings of at most `largest` atoms that flip.

    Rings that share more than one bond (adamantane) hold each other, and flat rings do not flip.
    """
    bonding = perceive(molecule)
    held = bridged_rings(molecule)
    found: set[Bond] = set()
    for ring in smallest_rings(molecule):
        if not SMALLEST_PUCKERED_RING <= len(ring) <= largest or ring in held:
            continue
        tetrahedral = bonding.tetrahedral & set(ring)
        for bond in ring_bonds(molecule, ring) - bonding.rigid:
            flexible = len(ring) >= WIDE_RING or len(tetrahedral) >= TETRAHEDRAL_IF_PUCKERED
            if bond <= tetrahedral or (flexible and bond & tetrahedral):
                found.add(bond)
    return found
