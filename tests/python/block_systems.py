"""Systems of more than one part, and integrators that move the parts as blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
from chains import TEMPERATURE, make_platform, well_positions, well_system, well_topology
from openmm import app
from reference_models import save_model, spherical

from timewarp_openmm import TimewarpMCMCIntegrator

#: Coupled particles in wells; the models of `chains` are of four of them.
NUM_PARTICLES = 8


def two_block_integrator(models: dict[str, str], seed: int = 3) -> TimewarpMCMCIntegrator:
    """Return an integrator of one model on each half of `NUM_PARTICLES` particles in wells."""
    integrator = TimewarpMCMCIntegrator(temperature=TEMPERATURE)
    integrator.addBlock(models["lags"], [0, 1, 2, 3])
    integrator.addBlock(models["lags"], [7, 6, 5, 4], weight=2.0)
    integrator.setRandomNumberSeed(seed)
    return integrator


def wells_simulation(integrator: openmm.Integrator, platform: str) -> app.Simulation:
    """Return a Simulation of `NUM_PARTICLES` particles in wells."""
    simulation = app.Simulation(
        well_topology(NUM_PARTICLES),
        well_system(NUM_PARTICLES),
        integrator,
        *make_platform(platform),
    )
    simulation.context.setPositions(well_positions(NUM_PARTICLES))
    return simulation


def write_trimer(path: Path, elements: Sequence[str], context: bool = False) -> str:
    """Write a model of three atoms, the second and third bonded to the first, such as water.

    Parameters
    ----------
    context : bool
        Whether the first atom is a context atom.
    """
    module, metadata = spherical("trimer", context)
    known = metadata.molecule
    assert known is not None
    masses = tuple(app.Element.getBySymbol(e).mass._value for e in elements)
    molecule = replace(known, elements=tuple(elements), masses=masses)
    save_model(module, replace(metadata, molecule=molecule), path)
    return str(path)


def trimer_system(
    elements: Sequence[str], copies: int = 1, constraints: Sequence[tuple[int, int]] = ()
) -> openmm.System:
    """Return molecules of three atoms with bonds of 0.1 nm, some of whose distances are fixed."""
    system = openmm.System()
    bonds = openmm.HarmonicBondForce()
    for first in range(0, 3 * copies, 3):
        for element in elements:
            system.addParticle(app.Element.getBySymbol(element).mass)
        for other in (1, 2):
            bonds.addBond(first, first + other, 0.1, 1e5)
    for pair in constraints:
        system.addConstraint(*pair, 0.1)
    system.addForce(bonds)
    return system


def trimer_topology(elements: Sequence[str], copies: int = 1) -> app.Topology:
    """Return the Topology of `trimer_system`: residues MOL 1, MOL 2, ... of a chain A."""
    topology = app.Topology()
    chain = topology.addChain("A")
    for _ in range(copies):
        residue = topology.addResidue("MOL", chain)
        atoms = [
            topology.addAtom(f"{e}{i}", app.Element.getBySymbol(e), residue)
            for i, e in enumerate(elements)
        ]
        for other in atoms[1:]:
            topology.addBond(atoms[0], other)
    return topology


def trimer_positions(copies: int = 1) -> np.ndarray:
    """Return positions [3 copies, 3] / nm, the molecules 1 nm apart."""
    one = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [-0.02, 0.098, 0.0]])
    return np.concatenate([one + np.array([0.0, 0.0, i]) for i in range(copies)])
