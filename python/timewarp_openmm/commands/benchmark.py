"""``timewarp-openmm benchmark``: effective samples per second, beside molecular dynamics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field

from ..bounds import CHAINS, Minutes, Seed, Temperature
from .options import Options, OutputPath

if TYPE_CHECKING:
    from ..benchmark.rates import ReferenceRates
    from ..benchmark.samplers import Recording, Thermostat
    from ..contract import ModelMetadata
    from ..molecule.graph import Molecule
    from ..simulation.systems import MolecularSystem


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
    for name, folder in zip(platforms, folders, strict=True):
        _on_platform(options, subject, name, options.minutes / len(platforms), folder)


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
    options: BenchmarkOptions, subject: Subject, platform: str, minutes: float, folder: Path
) -> None:
    from ..benchmark.outcome import conclude
    from ..benchmark.output import write_benchmark
    from ..molecule.graph import molecule_from_topology

    molecule = subject.molecule
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    recordings = _record(options, subject, atoms, platform, minutes)
    outcome = conclude(recordings, atoms, subject.rates, subject.metadata.provenance)
    for problem in outcome.problems:
        typer.echo(problem, err=True)
    heading = f"{molecule.name}, {platform} platform"
    conditions = _conditions(options, subject, platform, minutes)
    typer.echo(write_benchmark(folder, outcome, heading, conditions))


def _record(
    options: BenchmarkOptions, subject: Subject, atoms: Molecule, platform: str, minutes: float
) -> dict[str, list[Recording]]:
    """Run all methods on a platform."""
    from ..analysis.torsions import proper_torsions, true_torsions
    from ..benchmark.run import find_starts, run_in_turns
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
        )
    methods = make_methods(
        str(options.model),
        subject.molecule,
        options.system is None,
        openmm_platform,
        subject.thermostat,
        options.replica_exchange,
    )
    with counting(f"benchmark on {platform}", 100.0, "%") as show:
        return run_in_turns(
            methods,
            starts,
            60 * minutes,
            options.seed,
            lambda done, note: show(round(100 * done, 1), note),
        )


def _conditions(
    options: BenchmarkOptions, subject: Subject, platform: str, minutes: float
) -> dict[str, Any]:
    """Return under what conditions the numbers were measured, for the JSON file."""
    import os
    import platform as machine

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
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "processor": machine.machine(),
        "versions": {"timewarp_openmm": __version__, "openmm": openmm.__version__},
        "reference": None
        if rates is None
        else {"ns": rates.nanoseconds, "split": vars(rates.split)},
    }
