"""``timewarp-openmm benchmark``: effective samples per second, beside molecular dynamics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from ..bounds import CHAINS, Minutes, Seed, Temperature
from .options import Options, OutputPath

if TYPE_CHECKING:
    from ..benchmark.rates import ReferenceRates
    from ..contract import ModelMetadata
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


def benchmark(options: BenchmarkOptions) -> None:
    """Run Timewarp and molecular dynamics in turns and compare their effective samples."""
    from ..contract import read_metadata
    from ..files import refuse_existing
    from ..simulation.systems import load_molecule
    from . import require_analysis

    metadata = read_metadata(options.model)
    force_field = options.force_field
    if options.system is None and not force_field:
        force_field = metadata.force_field.split(" + ")
    molecule = load_molecule(options.pdb, force_field, options.system)
    require_analysis("benchmark")
    from ..benchmark.output import JSON_FILE
    from ..benchmark.rates import read_reference, shipped_reference

    kelvin = options.temperature or metadata.temperature
    names = [atom.name for atom in molecule.topology.atoms()]
    rates = (
        read_reference(options.reference)
        if options.reference is not None
        else shipped_reference(names, molecule.force_field, kelvin)
    )
    platforms = options.platform or ["Reference"]
    folders = [options.out if len(platforms) == 1 else options.out / name for name in platforms]
    for folder in folders:
        refuse_existing(folder / JSON_FILE, options.force)
    for name, folder in zip(platforms, folders, strict=True):
        _on_platform(
            options,
            options.minutes / len(platforms),
            metadata,
            molecule,
            name,
            folder,
            rates,
            kelvin,
        )


def _on_platform(
    options: BenchmarkOptions,
    minutes: float,
    metadata: ModelMetadata,
    molecule: MolecularSystem,
    platform_name: str,
    folder: Path,
    rates: ReferenceRates | None,
    kelvin: float,
) -> None:
    import os
    import platform as machine

    import openmm

    from .. import __version__
    from ..analysis.tica import fit_slow_coordinates
    from ..analysis.torsions import proper_torsions, true_rotors
    from ..benchmark import measure, output
    from ..benchmark.run import find_starts, run_in_turns
    from ..benchmark.samplers import (
        FRICTION,
        MD_INTERVAL,
        TIMEWARP_INTERVAL,
        Thermostat,
        make_methods,
    )
    from ..molecule.graph import molecule_from_topology
    from ..simulation.systems import make_platform
    from ..trajectories.frames import reader_topology
    from .progress import counting

    chains, seed = options.chains, options.seed
    openmm_platform, _ = make_platform(platform_name)
    # Rates depend on the friction, so that a reference bounds MD at its own friction only.
    friction = FRICTION if rates is None else float(str(rates.protocol["friction"]))
    thermostat = Thermostat(kelvin, friction)
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    rotors = true_rotors(proper_torsions(atoms))
    topology = reader_topology(atoms)
    with counting("finding basins to start in", 100.0, "%") as show:
        starts = find_starts(
            molecule, rotors, chains, thermostat, openmm_platform, seed,
            lambda done, note: show(round(100 * done, 1), note),
        )  # fmt: skip
    methods = make_methods(
        str(options.model),
        molecule,
        options.system is None,
        openmm_platform,
        thermostat,
        options.replica_exchange,
    )
    with counting(f"benchmark on {platform_name}", 100.0, "%") as show:
        recordings = run_in_turns(
            methods, starts, 60 * minutes, seed,
            lambda done, note: show(round(100 * done, 1), note),
        )  # fmt: skip
    angles = {k: measure.chain_torsions(r, rotors, topology) for k, r in recordings.items()}
    split = None if rates is None else rates.split
    try:
        slow = fit_slow_coordinates(angles["MD 1 fs"], lag=25)
    except ValueError as error:
        typer.echo(f"no slow coordinates: {error}", err=True)
        slow = None
    results = [
        measure.measure(name, recordings[name], angles[name], rotors, slow, split)
        for name in recordings
    ]
    known = None if rates is None else rates.crossings
    comparisons = [measure.compare(results[0], other, known) for other in results[1:]]
    cost = measure.model_cost(metadata.provenance)
    breaks = [
        b
        for c in comparisons
        if cost and (b := measure.break_even(sum(cost.values()), c)) is not None
    ]
    heading = f"{molecule.name}, {platform_name} platform"
    conditions = {
        "model": options.model.name,
        "molecule": molecule.name,
        "force_field": list(molecule.force_field),
        "platform": platform_name,
        "temperature_K": kelvin,
        "friction_per_ps": friction,
        "minutes": minutes,
        "chains": chains,
        "md_interval_ps": MD_INTERVAL,
        "timewarp_interval_iterations": TIMEWARP_INTERVAL,
        "seed": seed,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "processor": machine.machine(),
        "versions": {"timewarp_openmm": __version__, "openmm": openmm.__version__},
        "reference": None if rates is None else {"ns": rates.nanoseconds, "split": vars(split)},
    }
    table = output.write_benchmark(folder, results, comparisons, breaks, cost, heading, conditions)
    typer.echo(table)
