"""Structures of several molecules, in which a fragment is moved in place."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import openmm
from generic_force_field import add_atoms, make_system
from openmm import app, unit
from rdkit import Chem
from rdkit.Chem import AllChem

from timewarp_openmm.molecule.structure_files import load_structure
from timewarp_openmm.simulation.systems import DynamicsOptions, MolecularSystem, build_system

MOLECULES = Path(__file__).parents[2] / "examples" / "molecules"
#: A ligand that turns about one bond, beside a molecule with bonds that turn, too.
LIGAND, OTHER = "FCCCl", "OCCO"
#: The smallest that turns, of which a flow learns enough in no time.
PEROXIDE = "OO"


@cache
def ligands(copies: int = 1, smiles: str = LIGAND) -> MolecularSystem:
    """Return copies of a ligand, LIG 1 and so on, with another molecule, OTH, after each.

    They lie in a row, 0.42 nm apart.
    """
    parts = [smiles, OTHER] * copies
    molecules, positions = [], []
    for number, part in enumerate(parts):
        mol = Chem.AddHs(Chem.MolFromSmiles(part))
        AllChem.EmbedMolecule(mol, randomSeed=7)
        own = mol.GetConformer().GetPositions() / 10
        molecules.append(mol)
        positions.append(own - own.mean(0) + [0.42 * number, 0.0, 0.0])
    together = molecules[0]
    for mol in molecules[1:]:
        together = Chem.CombineMols(together, mol)
    Chem.SanitizeMol(together)
    system = make_system(together)
    topology = _topology(molecules, ["LIG", "OTH"] * copies)
    start = _minimised(system, np.concatenate(positions))
    return MolecularSystem("ligands", topology, system, start, ("generic",))


@cache
def peptide_in_water(waters: int = 60) -> MolecularSystem:
    """Return capped valine in a box of rigid TIP3P, bonds to hydrogen constrained, by PME.

    The peptide lies around a corner of the box, and the middle of each water within it.
    """
    topology, positions = load_structure(MOLECULES / "valine-dipeptide.pdb")
    files = ("amber14-all.xml", "amber14/tip3p.xml")
    modeller = app.Modeller(topology, positions * unit.nanometer)
    modeller.addSolvent(app.ForceField(*files), numAdded=waters)
    system = build_system(modeller.topology, files, DynamicsOptions(cutoff=0.5))
    start = _minimised(system, _nanometers(modeller.positions))
    sides = box_sides(modeller.topology)
    # The middle of its CG1-CB bond.
    start = start - start[[10, 12]].mean(0)
    for residue in modeller.topology.residues():
        if residue.name == "HOH":
            own = [atom.index for atom in residue.atoms()]
            start[own] -= sides * np.floor(start[own].mean(0) / sides)
    return MolecularSystem("peptide", modeller.topology, system, start, files)


def box_sides(topology: app.Topology) -> np.ndarray:
    """Return the sides [3] / nm of a rectangular box."""
    return np.diag(topology.getPeriodicBoxVectors().value_in_unit(unit.nanometer))


def _topology(molecules: list[Chem.Mol], names: list[str]) -> app.Topology:
    topology = app.Topology()
    chain = topology.addChain("A")
    for number, (mol, name) in enumerate(zip(molecules, names, strict=True)):
        add_atoms(topology, topology.addResidue(name, chain, str(number + 1)), mol)
    return topology


def _minimised(system: openmm.System, positions: np.ndarray) -> np.ndarray:
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, maxIterations=200)
    return _nanometers(context.getState(positions=True).getPositions(asNumpy=True))


def _nanometers(positions: unit.Quantity) -> np.ndarray:
    return np.array(positions.value_in_unit(unit.nanometer), dtype=float)
