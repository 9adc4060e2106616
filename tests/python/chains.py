"""Small systems whose chains are quick, and records of what a chain does.

``python chains.py SPECIFICATION.json`` goes on with a chain in a process of its own.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app
from reference_models import Affine, LagScaled, any_molecule, save_model

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.simulation.systems import make_platform as platform_and_properties
from timewarp_openmm.simulation.systems import named_molecule
from timewarp_openmm.units import GAS_CONSTANT

NUM_ATOMS = 4
STIFFNESS = 40.0  # kJ/mol/nm^2
TEMPERATURE = 300.0  # K


@dataclass(frozen=True)
class Chain:
    """What a process must know to make a Simulation.

    Attributes
    ----------
    molecule : str
        "wells" (4 coupled particles in anharmonic wells), "periodic wells" (their images attract
        too) or a named molecule.
    model : str
        Path of the model.
    platform : str
    batch_size, seed : int
    """

    molecule: str
    model: str
    platform: str
    batch_size: int
    seed: int = 1

    def integrator(self) -> TimewarpMCMCIntegrator:
        integrator = TimewarpMCMCIntegrator(self.model)
        integrator.setBatchSize(self.batch_size)
        integrator.setRandomNumberSeed(self.seed)
        return integrator

    def simulation(
        self, integrator: openmm.Integrator | None = None, system: openmm.System | None = None
    ) -> app.Simulation:
        """Return a Simulation at its starting positions; its integrator and System by default."""
        if "wells" in self.molecule:
            own_system = periodic_well_system() if "periodic" in self.molecule else well_system()
            topology, positions = well_topology(), well_positions()
        else:
            molecule = named_molecule(self.molecule)
            topology, own_system, positions = (
                molecule.topology,
                molecule.system,
                molecule.positions,
            )
        simulation = app.Simulation(
            topology,
            system or own_system,
            integrator or self.integrator(),
            *make_platform(self.platform),
        )
        simulation.context.setPositions(positions)
        return simulation


def make_platform(name: str) -> tuple[openmm.Platform, dict[str, str]]:
    """Return a platform, with one thread, so that it adds up energies in one order.

    Those of GPUs are in mixed precision.
    """
    platform, properties = platform_and_properties(name)
    if "Precision" in platform.getPropertyNames():
        properties["Precision"] = "mixed"
    return platform, properties


def well_system(num_atoms: int = NUM_ATOMS) -> openmm.System:
    """Return particles in wells k r^2/2 + q x^4 (group 0), coupled to the next one (group 1)."""
    system = openmm.System()
    wells = openmm.CustomExternalForce("scale*(0.5*k*(x^2+y^2+z^2)+200*x^4)")
    wells.addGlobalParameter("k", STIFFNESS)
    wells.addGlobalParameter("scale", 1.0)
    coupling = openmm.CustomBondForce("10*(r-length)^2")
    coupling.addPerBondParameter("length")
    coupling.setForceGroup(1)
    for i in range(num_atoms):
        system.addParticle(12.0 + i)
        wells.addParticle(i)
        if i > 0:
            coupling.addBond(i - 1, i, [0.4])
    system.addForce(wells)
    system.addForce(coupling)
    return system


def particles_in(well: str) -> openmm.System:
    """Return particles that do not feel each other in a well: an expression of x, y and z."""
    system = openmm.System()
    wells = openmm.CustomExternalForce(well)
    for i in range(NUM_ATOMS):
        system.addParticle(12.0 + i)
        wells.addParticle(i)
    system.addForce(wells)
    return system


def periodic_well_system() -> openmm.System:
    """Return the particles with a well at the origin and its periodic images, in a box of 2 nm."""
    system = particles_in(f"{STIFFNESS / 2}*periodicdistance(x,y,z,0,0,0)^2")
    system.setDefaultPeriodicBoxVectors(*(2.0 * np.eye(3)))
    return system


def well_topology(num_atoms: int = NUM_ATOMS) -> app.Topology:
    topology = app.Topology()
    chain = topology.addChain()
    for i in range(num_atoms):
        residue = topology.addResidue("CAR", chain)
        topology.addAtom(f"C{i}", app.Element.getBySymbol("C"), residue)
    return topology


def well_positions(num_atoms: int = NUM_ATOMS) -> NDArray[np.float64]:
    """Return positions [N, 3] / nm."""
    return np.array([[0.1 * (i % 4), 0.05 * (i % 3), -0.1] for i in range(num_atoms)])


def write_models(folder: Path) -> dict[str, str]:
    """Write models for the wells and return their paths.

    lags : local walks and independent draws; both are accepted and rejected.
    walk : a random walk that is accepted sometimes.
    rejecting : a walk so wide that hardly anything is accepted.
    """
    reference = well_positions().tolist()
    size = 6 * NUM_ATOMS
    metadata = any_molecule(size, reference_positions=reference)
    lags = any_molecule(
        size,
        reference_positions=reference,
        lag_times=[1.0, math.inf],
        lag_weights=[0.6, 0.4],
        auxiliary_velocities=False,
    )
    save_model(LagScaled(0.25), lags, folder / "lags.pt")
    save_model(Affine([0.1] * 3, 1.0, 0.6), metadata, folder / "walk.pt")
    save_model(Affine([0.6] * 3, 1.0, 0.6), metadata, folder / "rejecting.pt")
    return {name: str(folder / f"{name}.pt") for name in ("lags", "walk", "rejecting")}


def positions_of(context: openmm.Context) -> NDArray[np.float64]:
    """Return the positions [N, 3] / nm."""
    return np.array(context.getState(positions=True).getPositions(asNumpy=True)._value)


def velocities_of(context: openmm.Context) -> NDArray[np.float64]:
    """Return the velocities [N, 3] / nm/ps."""
    return np.array(context.getState(velocities=True).getVelocities(asNumpy=True)._value)


def record(simulation: app.Simulation, steps: int) -> NDArray[np.float64]:
    """Return positions and velocities [steps, 2, N, 3] after each of the next iterations."""
    frames = []
    for _ in range(steps):
        simulation.step(1)
        frames.append([positions_of(simulation.context), velocities_of(simulation.context)])
    return np.array(frames)


def counters_of(integrator: openmm.Integrator) -> list[int]:
    """Return proposed, accepted and non-finite counts."""
    member = TimewarpMCMCIntegrator.cast(integrator)
    return [member.getNumProposed(), member.getNumAccepted(), member.getNumNonFinite()]


def virial_temperature(
    simulation: app.Simulation, frames: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the temperature / K of frames [T, N, 3] and its standard error.

    Boltzmann's distribution of any potential that holds the particles has <x.dU/dx> = 3 N kT. The
    error is that of the means of 20 blocks.
    """
    values = []
    for frame in frames:
        simulation.context.setPositions(frame)
        forces = simulation.context.getState(forces=True).getForces(asNumpy=True)._value
        values.append(-float(np.sum(frame * forces)) / (frame.size * GAS_CONSTANT))
    blocks = np.array([block.mean() for block in np.array_split(values, 20)])
    return float(np.mean(values)), float(blocks.std(ddof=1) / math.sqrt(len(blocks)))


def resume(simulation: app.Simulation, file: str) -> None:
    """Load what Simulation.saveState (.xml) or Simulation.saveCheckpoint has written."""
    if file.endswith(".xml"):
        simulation.loadState(file)
    else:
        simulation.loadCheckpoint(file)


def specification(chain: Chain, file: Path, steps: int, out: Path) -> str:
    """Return what this module's command line takes."""
    return json.dumps({"chain": asdict(chain), "file": str(file), "steps": steps, "out": str(out)})


def main(text: str) -> None:
    """Go on from a saved state in this process and write what happens."""
    todo = json.loads(text)
    simulation = Chain(**todo["chain"]).simulation()
    resume(simulation, todo["file"])
    frames = record(simulation, todo["steps"])
    np.savez(todo["out"], frames=frames, counters=counters_of(simulation.integrator))


def bundled() -> str:
    """Return the path of the bundled model of alanine dipeptide."""
    return str(pretrained("alanine-dipeptide"))


if __name__ == "__main__":
    main(sys.argv[1])
