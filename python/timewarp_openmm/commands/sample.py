"""``timewarp-openmm sample``: the OpenMM script of the README, from the command line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def sample(
    model: Annotated[Path, typer.Option(help="A model file (.pt).")],
    pdb: Annotated[Path, typer.Option(help="The molecule and its starting positions.")],
    steps: Annotated[int, typer.Option(help="Metropolis-Hastings iterations.", min=1)],
    out: Annotated[Path, typer.Option(help="Trajectory to write (DCD).")],
    platform: Annotated[str, typer.Option(help="OpenMM platform.")] = "Reference",
    interval: Annotated[int, typer.Option(help="Iterations between frames.", min=1)] = 10,
    temperature: Annotated[float | None, typer.Option(help="K; default: the model's.")] = None,
    subchain: Annotated[
        int,
        typer.Option(
            help="Proposals tested with a surrogate energy before OpenMM's own decides; 0: none.",
            min=0,
        ),
    ] = 0,
    seed: Annotated[int | None, typer.Option(help="Random number seed.")] = None,
    force_field: Annotated[
        list[str] | None, typer.Option(help="OpenMM files; default: the model's.")
    ] = None,
    system: Annotated[Path | None, typer.Option(help="A System XML instead.")] = None,
    force: Annotated[bool, typer.Option(help="Replace the trajectory that is there.")] = False,
) -> None:
    """Sample a molecule with a model and write a trajectory."""
    from ..contract import read_metadata
    from ..files import naming, refuse_existing
    from ..simulation.systems import load_molecule, make_platform

    refuse_existing(out, force)
    if system is None and not force_field:
        force_field = read_metadata(model).force_field.split(" + ")
    molecule = load_molecule(pdb, force_field, system)

    # Loads the compiled plugin, so it comes after all that can be wrong without it.
    from openmm import app

    from ..integrator import TimewarpMCMCIntegrator
    from .progress import counting

    integrator = TimewarpMCMCIntegrator(
        str(model), topology=molecule.topology, temperature=temperature
    )
    if subchain > 0:
        from ..energies import surrogate_energy

        energy = surrogate_energy(molecule.system, particles=integrator.getParticles())
        integrator.setSurrogate(energy, subchain)
    if seed is not None:
        integrator.setRandomNumberSeed(seed)
    simulation = app.Simulation(
        molecule.topology, molecule.system, integrator, *make_platform(platform)
    )
    simulation.context.setPositions(molecule.positions)
    began = time.monotonic()
    # Not a DCDReporter: one that cannot write to a full disk prints a traceback when it goes.
    with (
        naming(out),
        open(out, "wb") as handle,
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
        simulation.step(steps % interval)
    seconds = time.monotonic() - began
    typer.echo(
        f"{out}: {steps // interval} frames, acceptance {integrator.getAcceptanceRate():.2%}, "
        f"{steps / seconds:.0f} iterations/s"
    )
