"""``timewarp-openmm benchmark``: effective samples per second, beside molecular dynamics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..benchmark.rates import ReferenceRates
    from ..contract import ModelMetadata
    from ..simulation.systems import MolecularSystem


def benchmark(
    model: Annotated[Path, typer.Option(help="A model file (.pt).")],
    pdb: Annotated[Path, typer.Option(help="The molecule.")],
    minutes: Annotated[
        float, typer.Option(help="Stepping time of all methods and chains together.", min=0.01)
    ],
    out: Annotated[Path, typer.Option(help="Folder for JSON, table and figure.")],
    platform: Annotated[
        list[str] | None, typer.Option(help="OpenMM platform, once per platform.")
    ] = None,
    chains: Annotated[int, typer.Option(help="Of each method, from different basins.", min=2)] = 4,
    replica_exchange: Annotated[
        bool, typer.Option(help="Also temperature replica exchange.")
    ] = False,
    reference: Annotated[
        Path | None,
        typer.Option(help="Crossings of long MD, from benchmarks/reference_rates.py."),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="K; default: the model's.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 1,
    force_field: Annotated[
        list[str] | None, typer.Option(help="OpenMM files; default: the model's.")
    ] = None,
    system: Annotated[Path | None, typer.Option(help="A System XML instead.")] = None,
    force: Annotated[bool, typer.Option(help="Replace the benchmark that is there.")] = False,
) -> None:
    """Run Timewarp and molecular dynamics in turns and compare their effective samples."""
    from ..contract import read_metadata
    from ..files import refuse_existing
    from ..simulation.systems import load_molecule
    from . import require_analysis

    metadata = read_metadata(model)
    if system is None and not force_field:
        force_field = metadata.force_field.split(" + ")
    molecule = load_molecule(pdb, force_field, system)
    require_analysis("benchmark")
    from ..benchmark.output import JSON_FILE
    from ..benchmark.rates import read_reference, shipped_reference

    kelvin = temperature or metadata.temperature
    names = [atom.name for atom in molecule.topology.atoms()]
    rates = (
        read_reference(reference)
        if reference is not None
        else shipped_reference(names, molecule.force_field, kelvin)
    )
    platforms = platform or ["Reference"]
    folders = [out if len(platforms) == 1 else out / name for name in platforms]
    for folder in folders:
        refuse_existing(folder / JSON_FILE, force)
    for name, folder in zip(platforms, folders, strict=True):
        options = (minutes / len(platforms), chains, replica_exchange, kelvin, seed)
        _on_platform(model, metadata, molecule, system is None, name, folder, rates, options)


def _on_platform(
    model: Path,
    metadata: ModelMetadata,
    molecule: MolecularSystem,
    from_force_field: bool,
    platform_name: str,
    folder: Path,
    rates: ReferenceRates | None,
    options: tuple[float, int, bool, float, int],
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

    minutes, chains, replica_exchange, kelvin, seed = options
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
        str(model), molecule, from_force_field, openmm_platform, thermostat, replica_exchange
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
        "model": model.name,
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
