"""Write helix.pdb, a capped peptide of 18 residues as an alpha helix, with Amber's names.

Usage: python make_helix.py
"""

from pathlib import Path

from openmm import app, unit

from timewarp_openmm.library import BUNDLED_FORCE_FIELD
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
HELIX = (-62.0, -42.0)  # phi and psi / degrees


def main():
    """Build, relax, write."""
    names = [NAMES[letter] for letter in SEQUENCE]
    molecule = capped_peptide(names, BUNDLED_FORCE_FIELD, backbone=HELIX)
    dynamics = Langevin(300.0, timestep=0.001)
    x = dynamics.relaxed(molecule.system, molecule.positions, 5.0, "CPU", seed=1)
    with open(Path(__file__).parent / "helix.pdb", "w") as handle:
        app.PDBFile.writeFile(molecule.topology, x * unit.nanometer, handle)


if __name__ == "__main__":
    main()
