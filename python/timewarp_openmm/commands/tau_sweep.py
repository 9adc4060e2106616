"""``timewarp-openmm tau-sweep``: acceptance and turned torsions as functions of the lag time."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import Field

from ..bounds import CHAINS, ITERATIONS, Seed
from ..seeds import shifted_seed
from .options import Options, OutputPath

if TYPE_CHECKING:
    from ..analysis.lag_sweep import LagResult
    from ..simulation.systems import MolecularSystem

#: ps of dynamics between the given structure and a chain's start.
_RELAXATION = 20.0


class TauSweepOptions(Options):
    """What ``timewarp-openmm tau-sweep`` is told."""

    model: Path = Field(description="A model file (.pt) of several lag times.")
    pdb: Path = Field(description="The molecule and its starting positions.")
    out: OutputPath = Field(description="Figure to write (PNG); numbers go beside it (JSON).")
    iterations: Annotated[int, ITERATIONS] = Field(1000, description="Of each chain.")
    chains: Annotated[int, CHAINS] = Field(4, description="For each lag, from different starts.")
    seed: Seed = Field(1, description="Random number seed.")
    platform: str = Field("Reference", description="OpenMM platform.")
    force_field: list[str] | None = Field(None, description="OpenMM files; default: the model's.")
    system: Path | None = Field(None, description="A System XML instead.")
    force: bool = Field(False, description="Replace the figure that is there.")


def tau_sweep(options: TauSweepOptions) -> None:
    """Run chains at each lag time of a model, and compare them."""
    from ..contract import read_metadata
    from ..files import refuse_existing, write_bytes_atomically
    from ..potentials.registry import stated_force_field
    from ..simulation.start_checks import check_start
    from ..simulation.systems import load_molecule

    numbers = options.out.with_suffix(".json")
    for path in (options.out, numbers):
        refuse_existing(path, options.force)
    metadata = read_metadata(options.model)
    force_field = options.force_field
    if options.system is None and not force_field:
        force_field = stated_force_field(metadata.force_field)
    molecule = load_molecule(options.pdb, force_field, options.system)
    check_start(molecule.topology, molecule.system, molecule.positions)

    from ..analysis.lag_sweep import plot_sweep
    from .progress import counting

    starts = [
        _relax(molecule, metadata.temperature, shifted_seed(options.seed, k), options.platform)
        for k in range(options.chains)
    ]
    results: list[LagResult] = []
    with counting("sweeping", len(metadata.lag_times), "lag times") as report:
        for place, lag in enumerate(metadata.lag_times):
            weights = [float(i == place) for i in range(len(metadata.lag_times))]
            results.append(_sweep_one(options, molecule, starts, lag, weights))
            report(place + 1)
    plot_sweep(results, options.out)
    entries = [_plain(asdict(result)) for result in results]
    write_bytes_atomically(numbers, (json.dumps(entries, indent=1) + "\n").encode())
    for result in results:
        typer.echo(
            f"lag {result.lag:g} ps: acceptance {result.acceptance:.1%} +- "
            f"{result.acceptance_error:.1%}, turns {result.turns:.3f} +- {result.turns_error:.3f} "
            f"per iteration, {result.iterations_per_second:.0f} iterations/s"
        )


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    # JSON has no infinity.
    return {name: value if math.isfinite(value) else str(value) for name, value in entry.items()}


def _relax(
    molecule: MolecularSystem, temperature: float, seed: int, platform: str
) -> NDArray[np.float64]:
    from ..simulation.langevin import Langevin

    return Langevin(temperature).relaxed(
        molecule.system, molecule.positions, _RELAXATION, platform, seed, minimise=True
    )


def _sweep_one(
    options: TauSweepOptions,
    molecule: MolecularSystem,
    starts: list[NDArray[np.float64]],
    lag: float,
    weights: list[float],
) -> LagResult:
    import openmm

    from ..analysis.lag_sweep import summarize_lag
    from ..molecule.graph import molecule_from_topology
    from ..molecule.matching import match_atoms
    from ..molecule.rotatable_torsions import rotatable_torsions
    from ..molecule.torsions import measure_torsions
    from ..simulation.chains import run_chains
    from ..simulation.langevin import get_positions

    quadruples = rotatable_torsions(molecule_from_topology(molecule.topology, molecule.system))
    frames = [[start] for start in starts]

    def observe(chain: int, _: openmm.Integrator, context: openmm.Context) -> None:
        frames[chain].append(get_positions(context))

    runs = run_chains(
        options.model,
        molecule.system,
        starts,
        options.iterations,
        options.seed,
        particles=match_atoms(options.model, molecule.topology, positions=molecule.positions),
        platform=options.platform,
        lag_weights=weights,
        observe=observe,
    )
    torsions = [measure_torsions(np.stack(chain), quadruples) for chain in frames]
    return summarize_lag(lag, runs, torsions)
