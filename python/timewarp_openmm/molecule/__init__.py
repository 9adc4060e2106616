"""What a molecule is: bond graph, stereochemistry, torsions, Z-matrix, and how two are matched."""

from .graph import Molecule, molecule_from_topology

__all__ = ["Molecule", "molecule_from_topology"]
