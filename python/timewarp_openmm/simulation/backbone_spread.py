"""Spreading a residue's backbone over all of its conformations, so that a model sees them.

A side chain's distribution given the backbone is the same whatever potential of phi and psi is
added, because that is a constant given the backbone. So the data of a conditional model may come
from a System in which most of the free energy of phi and psi is taken away, and then they cover
conformations that are rare in a capped residue and common in proteins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from .capped_peptides import capped_peptide
from .langevin import Langevin
from .systems import MolecularSystem, make_platform

#: Points of the map along either torsion.
SIZE = 24
#: kJ/mol; what is higher is left alone.
CEILING = 25.0
#: Of the free energy, that is taken away.
SHARE = 0.75
#: Metadynamics (Barducci, Bussi and Parrinello 2008): rad, kJ/mol, time steps.
_WIDTH, _HEIGHT, _INTERVAL, _BIAS_FACTOR = 0.3, 1.5, 200, 12.0
_TIMESTEP = 0.001


def backbone_free_energy(
    force_field: Sequence[str], temperature: float, picoseconds: float, seed: int
) -> NDArray[np.float64]:
    """Return the free energy of phi and psi of capped alanine [SIZE, SIZE] / kJ/mol.

    Element [j, i] is that of psi = 2 pi j / SIZE and phi = 2 pi i / SIZE; the lowest is 0.

    Parameters
    ----------
    picoseconds : float
        Of metadynamics.
    """
    molecule = capped_peptide(["ALA"], force_field)
    system = openmm.XmlSerializer.clone(molecule.system)
    variables = []
    for atoms in backbone_torsions(molecule.topology):
        torsion = openmm.CustomTorsionForce("theta")
        torsion.addTorsion(*atoms)
        variables.append(
            app.BiasVariable(torsion, -np.pi, np.pi, _WIDTH, periodic=True, gridWidth=SIZE + 1)
        )
    metadynamics = app.Metadynamics(
        system, variables, temperature, _BIAS_FACTOR, _HEIGHT, _INTERVAL
    )
    integrator = Langevin(temperature, timestep=_TIMESTEP).integrator(seed)
    platform = make_platform("Reference")
    simulation = app.Simulation(molecule.topology, system, integrator, *platform)
    simulation.context.setPositions(molecule.positions)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(temperature, seed)
    metadynamics.step(simulation, round(picoseconds / _TIMESTEP))
    free = np.asarray(metadynamics.getFreeEnergy()._value)[:-1, :-1]
    # From -pi to 0 as the first angle.
    free = np.roll(free, (SIZE // 2, SIZE // 2), axis=(0, 1))
    lowest: NDArray[np.float64] = free - free.min()
    return lowest


def backbone_torsions(topology: app.Topology) -> list[tuple[int, int, int, int]]:
    """Return the atoms of phi and of psi of the residue between two caps."""
    names = [
        (("C", 0), ("N", 1), ("CA", 1), ("C", 1)),
        (("N", 1), ("CA", 1), ("C", 1), ("N", 2)),
    ]
    atoms = {(atom.name, atom.residue.index): atom.index for atom in topology.atoms()}
    return [(atoms[a], atoms[b], atoms[c], atoms[d]) for a, b, c, d in names]


def with_spread_backbone(
    molecule: MolecularSystem, free_energy: NDArray[np.float64]
) -> MolecularSystem:
    """Return a capped residue from whose potential most of a free energy of phi and psi is taken.

    Parameters
    ----------
    free_energy : array [SIZE, SIZE], kJ/mol
        As `backbone_free_energy` returns it.
    """
    force = openmm.CMAPTorsionForce()
    force.addMap(SIZE, (-SHARE * np.minimum(free_energy, CEILING)).ravel().tolist())
    phi, psi = backbone_torsions(molecule.topology)
    force.addTorsion(0, *phi, *psi)
    system = openmm.XmlSerializer.clone(molecule.system)
    system.addForce(force)
    return MolecularSystem(
        molecule.name, molecule.topology, system, molecule.positions, molecule.force_field
    )
