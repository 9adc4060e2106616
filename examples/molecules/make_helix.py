"""Write helix.pdb, a capped peptide of 18 residues as an alpha helix, with Amber's names.

Usage: python make_helix.py
"""

from pathlib import Path

import networkx as nx
import numpy as np
from openmm import app, unit

from timewarp_openmm.molecule.torsions import measure_torsions
from timewarp_openmm.simulation.capped_peptides import capped_peptide
from timewarp_openmm.simulation.langevin import Langevin

SEQUENCE = "ASLAEKLVAKNIDAFKTA"
NAMES = {
    "A": "ALA",
    "D": "ASP",
    "E": "GLU",
    "F": "PHE",
    "I": "ILE",
    "K": "LYS",
    "L": "LEU",
    "N": "ASN",
    "S": "SER",
    "T": "THR",
    "V": "VAL",
}
PHI, PSI = np.radians(-62.0), np.radians(-42.0)
FORCE_FIELD = ("amber14/protein.ff14SB.xml", "implicit/obc2.xml")


def backbone(topology):
    """Yield the atoms of phi and psi of each residue, with the angle that each shall have."""
    residues = [{atom.name: atom.index for atom in r.atoms()} for r in topology.residues()]
    for before, own, after in zip(residues, residues[1:], residues[2:], strict=False):
        yield (before["C"], own["N"], own["CA"], own["C"]), PHI
        yield (own["N"], own["CA"], own["C"], after["N"]), PSI


def turned(x, graph, atoms, target):
    """Return positions in which a torsion has a value / rad."""
    _, b, c, _ = atoms
    without = graph.copy()
    without.remove_edge(b, c)
    beyond = sorted(nx.node_connected_component(without, c))
    angle = target - measure_torsions(x[None], [atoms])[0, 0]
    axis = (x[c] - x[b]) / np.linalg.norm(x[c] - x[b])
    arm = x[beyond] - x[c]
    along = (arm @ axis)[:, None] * axis
    moved = x.copy()
    moved[beyond] = (
        x[c] + along + np.cos(angle) * (arm - along) + np.sin(angle) * np.cross(axis, arm)
    )
    return moved


def main():
    """Build, turn, relax, write."""
    molecule = capped_peptide([NAMES[letter] for letter in SEQUENCE], FORCE_FIELD)
    graph = nx.Graph((a.index, b.index) for a, b in molecule.topology.bonds())
    x = molecule.positions
    for atoms, target in backbone(molecule.topology):
        x = turned(x, graph, atoms, target)
    dynamics = Langevin(300.0, timestep=0.001)
    x = dynamics.relaxed(molecule.system, x, 5.0, "CPU", seed=1, minimise=True)
    torsions = [atoms for atoms, _ in backbone(molecule.topology)]
    print(np.degrees(measure_torsions(x[None], torsions)[0]).round())
    with open(Path(__file__).parent / "helix.pdb", "w") as handle:
        app.PDBFile.writeFile(molecule.topology, x * unit.nanometer, handle)


if __name__ == "__main__":
    main()
