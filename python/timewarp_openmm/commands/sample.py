"""``timewarp-openmm sample``: the OpenMM script of the README, from the command line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from ..bounds import STEP_INTERVAL, STEPS, SUBCHAIN, Seed, Temperature
from .options import Options, OutputPath

if TYPE_CHECKING:
    from ..integrator import TimewarpMCMCIntegrator


class SampleOptions(Options):
    """What ``timewarp-openmm sample`` is told."""

    model: Path = Field(description="A model file (.pt).")
    pdb: Path = Field(description="The molecule and its starting positions.")
    steps: Annotated[int, STEPS] = Field(description="Metropolis-Hastings iterations.")
    out: OutputPath = Field(description="Trajectory to write (DCD).")
    platform: str = Field("Reference", description="OpenMM platform.")
    interval: Annotated[int, STEP_INTERVAL] = Field(10, description="Iterations between frames.")
    temperature: Temperature | None = Field(None, description="Default: the model's.")
    subchain: Annotated[int, SUBCHAIN] = Field(
        0,
        description="Proposals tested with a surrogate energy before OpenMM's own decides; "
        "0: none.",
    )
    seed: Seed | None = Field(None, description="Random number seed.")
    force_field: list[str] | None = Field(None, description="OpenMM files; default: the model's.")
    system: Path | None = Field(None, description="A System XML instead.")
    force: bool = Field(False, description="Replace the trajectory that is there.")


def sample(options: SampleOptions) -> None:
    """Sample a molecule with a model and write a trajectory."""
    from ..contract import read_metadata
    from ..files import open_exclusively, refuse_existing
    from ..seeds import shifted_seed
    from ..simulation.systems import load_molecule, make_platform

    out = options.out
    refuse_existing(out, options.force)
    force_field = options.force_field
    if options.system is None and not force_field:
        force_field = read_metadata(options.model).force_field
    molecule = load_molecule(options.pdb, force_field, options.system)

    # Loads the compiled plugin, so it comes after all that can be wrong without it.
    from openmm import app

    from ..integrator import TimewarpMCMCIntegrator
    from .progress import counting

    integrator = TimewarpMCMCIntegrator(
        str(options.model),
        topology=molecule.topology,
        temperature=options.temperature,
        positions=molecule.positions,
    )
    if options.subchain > 0:
        from ..energies import surrogate_energy

        energy = surrogate_energy(molecule.system, particles=integrator.getParticles())
        integrator.setSurrogate(energy, options.subchain)
    if options.seed is not None:
        integrator.setRandomNumberSeed(shifted_seed(options.seed, 0))
    simulation = app.Simulation(
        molecule.topology, molecule.system, integrator, *make_platform(options.platform)
    )
    simulation.context.setPositions(molecule.positions)
    steps, interval = options.steps, options.interval
    began, stuck = time.monotonic(), False
    # Not a DCDReporter: one that cannot write to a full disk prints a traceback when it goes.
    with (
        open_exclusively(out) as handle,
        counting("sampling", steps, "iterations") as report,
    ):
        lag = integrator.getStepSize()
        trajectory = app.DCDFile(handle, molecule.topology, lag, interval, interval)
        for _ in range(steps // interval):
            simulation.step(interval)
            state = simulation.context.getState(positions=True)
            trajectory.writeModel(
                state.getPositions(), periodicBoxVectors=state.getPeriodicBoxVectors()
            )
            report(simulation.currentStep)
            stuck = stuck or _warn_if_stuck(integrator, simulation.currentStep)
        simulation.step(steps % interval)
        stuck = stuck or _warn_if_stuck(integrator, simulation.currentStep)
    seconds = time.monotonic() - began
    typer.echo(
        f"{out}: {steps // interval} frames, acceptance {integrator.getAcceptanceRate():.2%}, "
        f"{steps / seconds:.0f} iterations/s"
    )


def _warn_if_stuck(integrator: TimewarpMCMCIntegrator, iterations: int) -> bool:
    """Warn, once, of a chain that has accepted nothing in a thousand tries."""
    from ..simulation.chains import describe_stuck

    message = describe_stuck(iterations, integrator.getNumAccepted())
    if message is not None:
        typer.echo(f"timewarp-openmm: warning: {message}", err=True)
    return message is not None
