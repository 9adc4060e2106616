"""``timewarp-openmm benchmark``: effective samples per second, beside molecular dynamics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field

from ..bounds import CHAINS, Minutes, Seed, Temperature
from .options import Options, OutputPath, SchedulerOption, chosen_workers

if TYPE_CHECKING:
    from ..benchmark.rates import ReferenceRates
    from ..benchmark.run import Replicate
    from ..benchmark.samplers import Recording, Thermostat
    from ..contract import ModelMetadata
    from ..molecule.graph import Molecule
    from ..simulation.systems import MolecularSystem
    from ..workers.base import Workers

#: Of speeds, beyond which machines are not taken for one kind.
_UNEQUAL = 1.2


class BenchmarkOptions(Options):
    """What ``timewarp-openmm benchmark`` is told."""

    model: Path = Field(description="A model file (.pt).")
    pdb: Path = Field(description="The molecule.")
    minutes: Minutes = Field(description="Stepping time of all methods and chains together.")
    out: OutputPath = Field(description="Folder for JSON, table and figure.")
    platform: list[str] | None = Field(None, description="OpenMM platform, once per platform.")
    chains: Annotated[int, CHAINS] = Field(4, description="Of each method, from different basins.")
    replica_exchange: bool = Field(False, description="Also temperature replica exchange.")
    reference: Path | None = Field(
        None, description="Crossings of long MD, from benchmarks/reference_rates.py."
    )
    temperature: Temperature | None = Field(None, description="Default: the model's.")
    seed: Seed = Field(1, description="Seed of everything.")
    force_field: list[str] | None = Field(None, description="OpenMM files; default: the model's.")
    system: Path | None = Field(None, description="A System XML instead.")
    scheduler: SchedulerOption = Field(
        None,
        description="Address of a dask scheduler, or its file: each chain of all methods is then "
        "run by one of its workers; default: by this process, in turns.",
    )
    force: bool = Field(False, description="Replace the benchmark that is there.")


@dataclass(frozen=True)
class Subject:
    """What is benchmarked, the same on every platform.

    Attributes
    ----------
    metadata : ModelMetadata
    molecule : MolecularSystem
    rates : ReferenceRates or None
        Crossings of long MD, where they are known.
    thermostat : Thermostat
    """

    metadata: ModelMetadata
    molecule: MolecularSystem
    rates: ReferenceRates | None
    thermostat: Thermostat


def benchmark(options: BenchmarkOptions) -> None:
    """Run Timewarp and molecular dynamics in turns and compare their effective samples."""
    from ..files import refuse_existing
    from . import require_analysis

    require_analysis("benchmark")
    from ..benchmark.output import JSON_FILE

    subject = _read_subject(options)
    platforms = options.platform or ["Reference"]
    folders = [options.out if len(platforms) == 1 else options.out / name for name in platforms]
    for folder in folders:
        refuse_existing(folder / JSON_FILE, options.force)
    with _workers(options) as workers:
        for name, folder in zip(platforms, folders, strict=True):
            _on_platform(options, subject, name, options.minutes / len(platforms), folder, workers)


@contextmanager
def _workers(options: BenchmarkOptions) -> Iterator[Workers | None]:
    """Yield a scheduler's workers, or None: all in turns in this process."""
    if options.scheduler is None:
        yield None
        return
    with chosen_workers("benchmark", None, options.scheduler) as workers:
        yield workers


def _read_subject(options: BenchmarkOptions) -> Subject:
    from ..benchmark.rates import read_reference, shipped_reference
    from ..benchmark.samplers import FRICTION, Thermostat
    from ..contract import read_metadata
    from ..potentials.registry import stated_force_field
    from ..simulation.systems import load_molecule

    metadata = read_metadata(options.model)
    force_field = options.force_field
    if options.system is None and not force_field:
        force_field = stated_force_field(metadata.force_field)
    molecule = load_molecule(options.pdb, force_field, options.system)
    kelvin = options.temperature or metadata.temperature
    names = [atom.name for atom in molecule.topology.atoms()]
    rates = (
        read_reference(options.reference)
        if options.reference is not None
        else shipped_reference(names, molecule.force_field, kelvin)
    )
    # Rates depend on the friction, so that a reference bounds MD at its own friction only.
    friction = FRICTION if rates is None else float(str(rates.protocol["friction"]))
    return Subject(metadata, molecule, rates, Thermostat(kelvin, friction))


def _on_platform(
    options: BenchmarkOptions,
    subject: Subject,
    platform: str,
    minutes: float,
    folder: Path,
    workers: Workers | None,
) -> None:
    from ..benchmark.outcome import conclude
    from ..benchmark.output import write_benchmark
    from ..molecule.graph import molecule_from_topology

    molecule = subject.molecule
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    recordings, machines = _record(options, subject, atoms, platform, minutes, workers)
    outcome = conclude(recordings, atoms, subject.rates, subject.metadata.provenance)
    for problem in outcome.problems:
        typer.echo(problem, err=True)
    heading = f"{molecule.name}, {platform} platform"
    conditions = {**_conditions(options, subject, platform, minutes), **machines}
    typer.echo(write_benchmark(folder, outcome, heading, conditions))


def _record(
    options: BenchmarkOptions,
    subject: Subject,
    atoms: Molecule,
    platform: str,
    minutes: float,
    workers: Workers | None,
) -> tuple[dict[str, list[Recording]], dict[str, Any]]:
    """Run all methods on a platform, and say on what machines."""
    from ..analysis.torsions import proper_torsions, true_torsions
    from ..benchmark.run import find_starts, gather_replicates, run_in_turns, run_replicates
    from ..benchmark.samplers import make_methods
    from ..simulation.systems import make_platform
    from .progress import counting

    rotatable = true_torsions(proper_torsions(atoms))
    openmm_platform, _ = make_platform(platform)
    with counting("finding basins to start in", 100.0, "%") as show:
        starts = find_starts(
            subject.molecule,
            rotatable,
            options.chains,
            subject.thermostat,
            openmm_platform,
            options.seed,
            lambda done, note: show(round(100 * done, 1), note),
            1 if workers is None else workers,
        )
    methods = make_methods(
        str(options.model),
        subject.molecule,
        options.system is None,
        platform,
        subject.thermostat,
        options.replica_exchange,
    )
    arguments = (methods, starts, 60 * minutes, options.seed)
    with counting(f"benchmark on {platform}", 100.0, "%") as show:

        def report(done: float, note: str) -> None:
            show(round(100 * done, 1), note)

        if workers is None:
            return run_in_turns(*arguments, report), _this_machine()
        replicates = run_replicates(*arguments, workers, report)
    _warn_of_speeds(replicates)
    return gather_replicates(replicates), {"machines": [_machine(r) for r in replicates]}


def _this_machine() -> dict[str, Any]:
    import os
    import platform as machine

    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "processor": machine.machine(),
    }


def _machine(replicate: Replicate) -> dict[str, Any]:
    names = ("host", "processor", "cores", "load")
    return {name: getattr(replicate, name) for name in names}


def _warn_of_speeds(replicates: Sequence[Replicate]) -> None:
    """Say so if chains ran on machines that differ."""
    from ..benchmark.run import speed_ratio

    ratio = speed_ratio(replicates)
    if ratio > _UNEQUAL:
        typer.echo(
            f"timewarp-openmm: warning: MD ran {ratio:.1f} times as fast on one worker as on "
            "another; rates in seconds are means over them, and their intervals hold that spread. "
            "For those of one machine use workers of one kind, of which none waits for another",
            err=True,
        )


def _conditions(
    options: BenchmarkOptions, subject: Subject, platform: str, minutes: float
) -> dict[str, Any]:
    """Return under what conditions the numbers were measured, for the JSON file."""
    import openmm

    from .. import __version__
    from ..benchmark.samplers import MD_INTERVAL, TIMEWARP_INTERVAL

    rates = subject.rates
    return {
        "model": options.model.name,
        "molecule": subject.molecule.name,
        "force_field": list(subject.molecule.force_field),
        "platform": platform,
        "temperature_K": subject.thermostat.temperature,
        "friction_per_ps": subject.thermostat.friction,
        "minutes": minutes,
        "chains": options.chains,
        "md_interval_ps": MD_INTERVAL,
        "timewarp_interval_iterations": TIMEWARP_INTERVAL,
        "seed": options.seed,
        "versions": {"timewarp_openmm": __version__, "openmm": openmm.__version__},
        "reference": None
        if rates is None
        else {"ns": rates.nanoseconds, "split": vars(rates.split)},
    }
