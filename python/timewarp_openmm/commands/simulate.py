"""``timewarp-openmm simulate``: molecular dynamics for training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..data.protocol import Protocol
    from ..data.systems import MolecularSystem


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
    platform: Annotated[str | None, typer.Option(help="OpenMM platform.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the whole run.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes of one thread each; default: the cores.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace the run that is there.")] = False,
) -> None:
    """Run molecular dynamics trajectories; the same command finishes an interrupted run."""
    from ..data.protocol import with_settings
    from ..data.simulate import simulate as run_simulation
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
    total = protocol.trajectories * protocol.frames
    with counting(f"simulating {protocol.molecule}", total, "frames") as report:
        run = run_simulation(molecule, protocol, out, workers, force, report=report)
    nanoseconds = protocol.trajectories * protocol.length / 1000
    typer.echo(
        f"{out}: {len(run['trajectories'])} trajectories, {nanoseconds:g} ns, "
        f"{run['dropped_starts']} starts dropped for their stereochemistry"
    )


def _choose(
    preset_name: str | None, pdb: Path | None, force_field: list[str] | None, system: Path | None
) -> tuple[MolecularSystem, Protocol]:
    """Return the molecule and the protocol that the options ask for."""
    from ..data.protocol import Protocol, preset
    from ..data.simulate import default_platform
    from ..data.systems import load_molecule, named_molecule

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
