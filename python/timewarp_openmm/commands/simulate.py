"""``timewarp-openmm simulate``: molecular dynamics for training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field

from ..bounds import (
    BASINS,
    CONFORMERS,
    EQUILIBRATION,
    FRAME_INTERVAL,
    FRICTION,
    LENGTH,
    TIMESTEP,
    TRAJECTORIES,
    Minutes,
    Seed,
    Temperature,
)
from .options import (
    Options,
    OutputPath,
    SchedulerOption,
    WorkersOption,
    chosen_workers,
    scheduler_field,
    workers_field,
)

if TYPE_CHECKING:
    from ..simulation.explore import Basins
    from ..simulation.protocol import Protocol
    from ..simulation.systems import MolecularSystem
    from ..workers.base import Workers


class SimulateOptions(Options):
    """What ``timewarp-openmm simulate`` is told."""

    out: OutputPath = Field(description="Folder for the trajectories and run.json.")
    preset: str | None = Field(
        None, description="ala2-report (the published protocol) or ala2 (48 ns)."
    )
    pdb: Path | None = Field(None, description="A molecule of your own, as PDB, mmCIF, SDF or MOL.")
    force_field: list[str] | None = Field(
        None, description="OpenMM force field file; once per file."
    )
    system: Path | None = Field(None, description="A System XML instead.")
    trajectories: Annotated[int, TRAJECTORIES] | None = Field(None, description="How many.")
    length: Annotated[float, LENGTH] | None = Field(None, description="Of each trajectory.")
    interval: Annotated[float, FRAME_INTERVAL] | None = Field(None, description="Between frames.")
    equilibration: Annotated[float, EQUILIBRATION] | None = Field(
        None, description="Before the first frame."
    )
    temperature: Temperature | None = Field(None, description="Of the thermostat.")
    friction: Annotated[float, FRICTION] | None = Field(None, description="Of the thermostat.")
    timestep: Annotated[float, TIMESTEP] | None = Field(None, description="Of the integration.")
    starts: str | None = Field(None, description="given, or basins (driven along phi and psi).")
    explore: bool = Field(
        False, description="Find the basins with hot walkers, and start in each of them."
    )
    explore_length: Annotated[float, LENGTH] = Field(150.0, description="Of each hot walker.")
    explore_conformers: Annotated[int, CONFORMERS] = Field(
        0, description="RDKit conformers to explore from as well, where bond orders are known."
    )
    explore_temperature: list[Temperature] | None = Field(
        None, description="Of the walkers' ladder; once per rung."
    )
    explore_minutes: Minutes | None = Field(
        None, description="Wall time after which the walkers stop."
    )
    max_basins: Annotated[int, BASINS] = Field(
        16, description="The lowest so many basins are kept."
    )
    platform: str | None = Field(None, description="OpenMM platform.")
    seed: Seed | None = Field(None, description="Seed of the whole run.")
    workers: WorkersOption = workers_field()
    scheduler: SchedulerOption = scheduler_field()
    force: bool = Field(False, description="Replace the run that is there.")

    def protocol_settings(self) -> dict[str, Any]:
        """Return the options that are settings of a `Protocol`, None where not given."""
        names = (
            "trajectories",
            "length",
            "interval",
            "equilibration",
            "temperature",
            "friction",
            "timestep",
            "starts",
            "platform",
            "seed",
        )
        return {name: getattr(self, name) for name in names}


def simulate(options: SimulateOptions) -> None:
    """Run molecular dynamics trajectories; the same command finishes an interrupted run.

    A greater --length makes the trajectories of a finished run longer.
    """
    with chosen_workers("simulate", options.workers, options.scheduler) as workers:
        _simulate(options, workers)


def _simulate(options: SimulateOptions, workers: Workers) -> None:
    from ..simulation.protocol import with_settings
    from ..simulation.run import simulate as run_simulation
    from .progress import counting

    molecule, protocol = _choose(options)
    protocol = with_settings(protocol, **options.protocol_settings())
    positions = None
    if options.explore:
        basins = _explore(molecule, protocol, options, workers)
        positions = basins.positions
        trajectories = options.trajectories or 4 * len(basins)
        protocol = with_settings(protocol, starts="explored", trajectories=trajectories)
    total = protocol.trajectories * protocol.frames
    with counting(f"simulating {protocol.molecule}", total, "frames") as report:
        run = run_simulation(
            molecule,
            protocol,
            options.out,
            workers,
            options.force,
            report=report,
            starts=positions,
        )
    nanoseconds = protocol.trajectories * protocol.length / 1000
    typer.echo(
        f"{options.out}: {len(run['trajectories'])} trajectories, {nanoseconds:g} ns, "
        f"{run['dropped_starts']} starts dropped for their stereochemistry"
    )


def _explore(
    molecule: MolecularSystem, protocol: Protocol, options: SimulateOptions, workers: Workers
) -> Basins:
    from ..simulation.explore import ExploreSettings, describe_found, load_or_find_basins
    from .progress import counting

    if options.starts is not None:
        raise ValueError("--explore finds the starts; leave out --starts")
    settings = ExploreSettings(
        length=options.explore_length,
        temperatures=tuple(options.explore_temperature or ExploreSettings.temperatures),
        max_minutes=options.explore_minutes,
        max_basins=options.max_basins,
        conformers=options.explore_conformers,
    )
    with counting(f"exploring {protocol.molecule}", 100.0, "%") as show:

        def report(done: float, note: str) -> None:
            show(round(100 * done, 1), note)

        basins = load_or_find_basins(
            options.out, molecule, settings, protocol.seed, workers, report, options.force
        )
    typer.echo(
        f"{options.out}: {len(basins)} basins kept of "
        f"{describe_found(basins.found, basins.images)}, {basins.dropped} "
        "conformations dropped for their stereochemistry"
    )
    return basins


def _choose(options: SimulateOptions) -> tuple[MolecularSystem, Protocol]:
    """Return the molecule and the protocol that the options ask for."""
    from ..simulation.langevin import default_platform
    from ..simulation.protocol import Protocol, preset
    from ..simulation.systems import load_molecule, named_molecule

    if (options.preset is None) == (options.pdb is None):
        raise ValueError("give either --preset (ala2-report, ala2) or --pdb")
    if options.pdb is None:
        assert options.preset is not None
        if options.force_field or options.system:
            raise ValueError("--force-field and --system go with --pdb; a preset has its own")
        settings = preset(options.preset)
        molecule = named_molecule(settings["molecule"])
    else:
        molecule = load_molecule(options.pdb, options.force_field, options.system)
        settings = {"molecule": molecule.name}
    platform = default_platform(molecule.system.getNumParticles())
    return molecule, Protocol(force_field=molecule.force_field, platform=platform, **settings)
