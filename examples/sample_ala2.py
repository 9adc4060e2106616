"""Sample alanine dipeptide with learned jumps: an ordinary OpenMM script with one line changed."""

from openmm import app

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.simulation.systems import named_molecule

molecule = named_molecule("alanine-dipeptide")

integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
integrator.setRandomNumberSeed(1)
simulation = app.Simulation(molecule.topology, molecule.system, integrator)
simulation.context.setPositions(molecule.positions)
simulation.reporters.append(app.DCDReporter("ala2.dcd", 10))
simulation.step(10000)
print(f"accepted {integrator.getAcceptanceRate():.1%} of {integrator.getNumProposed()} proposals")
