"""``timewarp-openmm simulate``: molecular dynamics for training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..simulation.explore import Basins, ExploreSettings
    from ..simulation.protocol import Protocol
    from ..simulation.systems import MolecularSystem


def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the trajectories and run.json.")],
    preset: Annotated[
        str | None, typer.Option(help="ala2-report (the published protocol) or ala2 (48 ns).")
    ] = None,
    pdb: Annotated[Path | None, typer.Option(help="A molecule of your own.")] = None,
    force_field: Annotated[
        list[str] | None, typer.Option(help="OpenMM force field file; once per file.")
    ] = None,
    system: Annotated[Path | None, typer.Option(help="A System XML instead.")] = None,
    trajectories: Annotated[int | None, typer.Option(help="How many.")] = None,
    length: Annotated[float | None, typer.Option(help="ps of each trajectory.")] = None,
    interval: Annotated[float | None, typer.Option(help="ps between frames.")] = None,
    equilibration: Annotated[float | None, typer.Option(help="ps before the first frame.")] = None,
    temperature: Annotated[float | None, typer.Option(help="K.")] = None,
    friction: Annotated[float | None, typer.Option(help="1/ps.")] = None,
    timestep: Annotated[float | None, typer.Option(help="ps.")] = None,
    starts: Annotated[
        str | None, typer.Option(help="given, or basins (driven along phi and psi).")
    ] = None,
    explore: Annotated[
        bool, typer.Option(help="Find the basins with hot walkers, and start in each of them.")
    ] = False,
    explore_length: Annotated[float, typer.Option(help="ps of each hot walker.")] = 150.0,
    explore_temperature: Annotated[
        list[float] | None, typer.Option(help="K of the walkers' ladder; once per rung.")
    ] = None,
    explore_minutes: Annotated[
        float | None, typer.Option(help="Wall time after which the walkers stop.")
    ] = None,
    max_basins: Annotated[int, typer.Option(help="The lowest so many basins are kept.")] = 16,
    platform: Annotated[str | None, typer.Option(help="OpenMM platform.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the whole run.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes of one thread each; default: the CPUs it may use.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace the run that is there.")] = False,
) -> None:
    """Run molecular dynamics trajectories; the same command finishes an interrupted run."""
    from ..simulation.explore import ExploreSettings
    from ..simulation.protocol import with_settings
    from ..simulation.run import simulate as run_simulation
    from .progress import counting

    molecule, protocol = _choose(preset, pdb, force_field, system)
    protocol = with_settings(
        protocol,
        trajectories=trajectories,
        length=length,
        interval=interval,
        equilibration=equilibration,
        temperature=temperature,
        friction=friction,
        timestep=timestep,
        starts=starts,
        platform=platform,
        seed=seed,
    )
    positions = None
    if explore:
        if starts is not None:
            raise ValueError("--explore finds the starts; leave out --starts")
        settings = ExploreSettings(
            length=explore_length,
            temperatures=tuple(explore_temperature or ExploreSettings.temperatures),
            max_minutes=explore_minutes,
            max_basins=max_basins,
        )
        basins = _explore(molecule, protocol, settings, out, workers, force)
        positions = basins.positions
        protocol = with_settings(
            protocol, starts="explored", trajectories=trajectories or 4 * len(basins)
        )
    total = protocol.trajectories * protocol.frames
    with counting(f"simulating {protocol.molecule}", total, "frames") as report:
        run = run_simulation(
            molecule, protocol, out, workers, force, report=report, starts=positions
        )
    nanoseconds = protocol.trajectories * protocol.length / 1000
    typer.echo(
        f"{out}: {len(run['trajectories'])} trajectories, {nanoseconds:g} ns, "
        f"{run['dropped_starts']} starts dropped for their stereochemistry"
    )


def _explore(
    molecule: MolecularSystem,
    protocol: Protocol,
    settings: ExploreSettings,
    out: Path,
    workers: int | None,
    force: bool,
) -> Basins:
    from ..machine import usable_cpus
    from ..simulation.explore import load_or_find_basins
    from .progress import counting

    with counting(f"exploring {protocol.molecule}", 100.0, "%") as show:

        def report(done: float, note: str) -> None:
            show(round(100 * done, 1), note)

        basins = load_or_find_basins(
            out, molecule, settings, protocol.seed, workers or usable_cpus(), report, force
        )
    typer.echo(
        f"{out}: {len(basins)} basins kept of {basins.found}, {basins.dropped} conformations "
        "dropped for their stereochemistry"
    )
    return basins


def _choose(
    preset_name: str | None, pdb: Path | None, force_field: list[str] | None, system: Path | None
) -> tuple[MolecularSystem, Protocol]:
    """Return the molecule and the protocol that the options ask for."""
    from ..simulation.langevin import default_platform
    from ..simulation.protocol import Protocol, preset
    from ..simulation.systems import load_molecule, named_molecule

    if (preset_name is None) == (pdb is None):
        raise ValueError("give either --preset (ala2-report, ala2) or --pdb")
    if pdb is None:
        assert preset_name is not None
        if force_field or system:
            raise ValueError("--force-field and --system go with --pdb; a preset has its own")
        settings = preset(preset_name)
        molecule = named_molecule(settings["molecule"])
    else:
        molecule = load_molecule(pdb, force_field, system)
        settings = {"molecule": molecule.name}
    platform = default_platform(molecule.system.getNumParticles())
    return molecule, Protocol(force_field=molecule.force_field, platform=platform, **settings)
