"""Write a drug as a PDB file and a System XML with generic parameters.

Usage: python make_ligand.py NAME    (gemfibrozil or valproic-acid; needs rdkit)

The force field is generic, good enough to be a realistic landscape to sample, not for publication:

- bonds, angles, torsions, out-of-plane terms: MMFF94 (Halgren 1996) as RDKit assigns it, bonds and
  angles in their harmonic form, out-of-plane bending as a periodic improper torsion of the same
  curvature, no stretch-bend terms;
- partial charges: MMFF94's bond charge increments;
- Lennard-Jones: GAFF (Wang et al. 2004), by element and neighbours, hydroxyl hydrogen as in GAFF2
  (GAFF's has no size, and an oxygen could fall onto it); 1-4 pairs scaled as in Amber (1/2, 1/1.2);
- water: OBC implicit solvent (GBSAOBCForce) with mbondi2-like radii by element.
"""

import sys
from pathlib import Path

import mmff
import openmm
from openmm import app
from rdkit import Chem
from rdkit.Chem import AllChem

#: Residue name and SMILES.
LIGANDS = {
    "gemfibrozil": ("GEM", "Cc1ccc(C)c(OCCCC(C)(C)C(=O)O)c1"),
    "valproic-acid": ("VPA", "CCCC(CCC)C(=O)O"),
}
#: kJ/mol/rad^2; keeps flat what MMFF lets bend out of its plane.
SOFTEST_BEND = 10.0
#: GAFF r_min/2 / Angstrom and epsilon / (kcal/mol).
LENNARD_JONES = {
    "C sp3": (1.9080, 0.1094),
    "C sp2": (1.9080, 0.0860),
    "O carbonyl": (1.6612, 0.2100),
    "O hydroxyl": (1.7210, 0.2104),
    "O ether": (1.6837, 0.1700),
    "H aliphatic": (1.4870, 0.0157),
    "H next to O": (1.3870, 0.0157),
    "H aromatic": (1.4590, 0.0150),
    "H hydroxyl": (0.3019, 0.0047),
}
#: Intrinsic Born radius / nm and OBC screening factor.
BORN = {"H": (0.12, 0.85), "C": (0.17, 0.72), "O": (0.15, 0.85)}


def kind(atom):
    """Return the Lennard-Jones type of an RDKit atom."""
    if atom.GetSymbol() == "C":
        return "C sp3" if atom.GetTotalDegree() == 4 else "C sp2"
    if atom.GetSymbol() == "O":
        if atom.GetTotalDegree() == 1:
            return "O carbonyl"
        hydroxyl = any(n.GetSymbol() == "H" for n in atom.GetNeighbors())
        return "O hydroxyl" if hydroxyl else "O ether"
    carrier = atom.GetNeighbors()[0]
    if carrier.GetSymbol() == "O":
        return "H hydroxyl"
    if carrier.GetIsAromatic():
        return "H aromatic"
    beside_oxygen = any(n.GetSymbol() == "O" for n in carrier.GetNeighbors())
    return "H next to O" if beside_oxygen else "H aliphatic"


def make_system(molecule):
    properties = AllChem.MMFFGetMoleculeProperties(molecule)
    system = openmm.System()
    for atom in molecule.GetAtoms():
        system.addParticle(atom.GetMass())
    for force in (
        mmff.bonds(molecule, properties),
        mmff.angles(molecule, properties),
        mmff.torsions(molecule, properties, SOFTEST_BEND),
        nonbonded(molecule, properties),
        solvent(molecule, properties),
    ):
        system.addForce(force)
    return system


def nonbonded(molecule, properties):
    force = openmm.NonbondedForce()
    for atom in molecule.GetAtoms():
        radius, depth = LENNARD_JONES[kind(atom)]
        sigma = 2 * radius / 2 ** (1 / 6) / 10
        force.addParticle(properties.GetMMFFPartialCharge(atom.GetIdx()), sigma, depth * mmff.KCAL)
    force.createExceptionsFromBonds(mmff.bond_pairs(molecule), 1 / 1.2, 0.5)
    return force


def solvent(molecule, properties):
    force = openmm.GBSAOBCForce()
    for atom in molecule.GetAtoms():
        charge = properties.GetMMFFPartialCharge(atom.GetIdx())
        force.addParticle(charge, *BORN[atom.GetSymbol()])
    return force


def make_topology(molecule, residue_name):
    topology = app.Topology()
    residue = topology.addResidue(residue_name, topology.addChain("A"))
    counts = {}
    atoms = []
    for atom in molecule.GetAtoms():
        symbol = atom.GetSymbol()
        counts[symbol] = counts.get(symbol, 0) + 1
        element = app.Element.getBySymbol(symbol)
        atoms.append(topology.addAtom(f"{symbol}{counts[symbol]}", element, residue))
    for bond in molecule.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])
    return topology


def main():
    name = sys.argv[1]
    residue_name, smiles = LIGANDS[name]
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=7)
    AllChem.MMFFOptimizeMolecule(molecule)
    system, topology = make_system(molecule), make_topology(molecule, residue_name)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(molecule.GetConformer().GetPositions() / 10)
    openmm.LocalEnergyMinimizer.minimize(context)
    positions = context.getState(positions=True).getPositions()
    folder = Path(__file__).parent
    with open(folder / f"{name}.pdb", "w") as handle:
        app.PDBFile.writeFile(topology, positions, handle)
    (folder / f"{name}.system.xml").write_text(openmm.XmlSerializer.serialize(system))


if __name__ == "__main__":
    main()
