"""Peptides of the tests, capped valine with two force fields: ``python make_peptides.py``.

Writes valine-peptide.pdb, in which three side chains of valine stand between others. Writes
NAME.xml, a System without cut-off and constraints, and valine-dipeptide.txt: the particles
of the side chain beyond CB, the bond that it turns about, and then positions / nm.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

FOLDER = Path(__file__).parent
STRUCTURE = FOLDER.parent.parent / "examples" / "molecules" / "valine-dipeptide.pdb"
FORCE_FIELDS = {
    "valine-dipeptide-amber": ("amber14-all.xml", "implicit/gbn2.xml"),
    "valine-dipeptide-cmap": ("amber19/protein.ff19SB.xml",),
}
#: Between an acetyl and an N-methyl cap.
PEPTIDE = {
    "VAL": "N[C@@H](C(C)C)C(=O)",
    "SER": "N[C@@H](CO)C(=O)",
    "CYS": "N[C@@H](CS)C(=O)",
}
SEQUENCE = ("VAL", "SER", "VAL", "CYS", "VAL")
BACKBONE = {"N", "H", "CA", "HA", "CB", "C", "O"}


def drop_unused_maps(system: openmm.System) -> None:
    """Keep the CMAP of this residue only; force fields have one for each amino acid."""
    for index, force in enumerate(system.getForces()):
        if isinstance(force, openmm.CMAPTorsionForce):
            kept = openmm.CMAPTorsionForce()
            for i in range(force.getNumTorsions()):
                number, *particles = force.getTorsionParameters(i)
                size, energies = force.getMapParameters(number)
                kept.addMap(size, energies)
                kept.addTorsion(i, *particles)
            system.addForce(kept)
            system.removeForce(index)
            return


def write_peptide() -> None:
    """Write the capped peptide; needs RDKit."""
    sys.path.insert(0, str(STRUCTURE.parent))
    from make_peptides import write_pdb

    smiles = "CC(=O)" + "".join(PEPTIDE[name] for name in SEQUENCE) + "NC"
    write_pdb(FOLDER / "valine-peptide.pdb", smiles, ("ACE", *SEQUENCE, "NME"))


def main() -> None:
    """Write the files beside this one."""
    write_peptide()
    pdb = app.PDBFile(str(STRUCTURE))
    atoms = {atom.name: atom.index for atom in pdb.topology.atoms() if atom.residue.name == "VAL"}
    moved = [index for name, index in atoms.items() if name not in BACKBONE]
    rows = np.asarray(pdb.positions.value_in_unit(unit.nanometer))
    lines = [
        " ".join(map(str, [len(moved), *moved])),
        f"{atoms['CA']} {atoms['CB']}",
        *(" ".join(f"{value:.5f}" for value in row) for row in rows),
    ]
    (FOLDER / "valine-dipeptide.txt").write_text("\n".join(lines) + "\n")
    for name, files in FORCE_FIELDS.items():
        system = app.ForceField(*files).createSystem(
            pdb.topology, nonbondedMethod=app.NoCutoff, removeCMMotion=False
        )
        drop_unused_maps(system)
        (FOLDER / f"{name}.xml").write_text(openmm.XmlSerializer.serialize(system))


if __name__ == "__main__":
    main()
