"""``timewarp-openmm ensemble``: the conformers of a molecule, with populations and error bars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field

from ..bounds import CHAINS, FRAMES, ITERATIONS, RMSD, Seed, Temperature, Workers
from .options import ARGUMENT, Options, OutputPath

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from rdkit import Chem

    from ..analysis.autocorrelation import SamplingQuality
    from ..analysis.torsions import Torsion
    from ..contract import ModelMetadata
    from ..ensemble.conformers import Conformers
    from ..ensemble.minima import Minima
    from ..ensemble.output import Row
    from ..ensemble.sampling import Samples
    from ..simulation.systems import MolecularSystem


class EnsembleOptions(Options):
    """What ``timewarp-openmm ensemble`` is told."""

    model: Annotated[Path, ARGUMENT] = Field(
        description="A model file (.pt), of the whole molecule."
    )
    pdb: Path = Field(description="PDB, mmCIF, SDF or MOL file of the molecule.")
    out: OutputPath = Field(
        description="Folder for the conformers: SDF, CSV, JSON and a page of pictures."
    )
    steps: Annotated[int, ITERATIONS] = Field(
        20_000, description="Metropolis-Hastings iterations of each chain."
    )
    chains: Annotated[int, CHAINS] = Field(4, description="From different basins.")
    frames: Annotated[int, FRAMES] = Field(
        1000, description="Samples that are minimised, of all chains together."
    )
    rmsd: Annotated[float, RMSD] = Field(
        0.05, description="Minima whose heavy atoms are closer are one conformer."
    )
    temperature: Temperature | None = Field(None, description="Default: the model's.")
    platform: str | None = Field(None, description="OpenMM platform; default: the fastest.")
    force_field: list[str] | None = Field(None, description="OpenMM files; default: the model's.")
    system: Path | None = Field(None, description="A System XML instead.")
    target: str | None = Field(None, description="A potential to sample instead (see `sample`).")
    seed: Seed = Field(1, description="Seed of everything.")
    workers: Workers | None = Field(None, description="Threads that minimise; default: all CPUs.")
    force: bool = Field(False, description="Replace the files that are there.")


@dataclass(frozen=True)
class _Subject:
    """What is sampled.

    Attributes
    ----------
    metadata : ModelMetadata
    molecule : MolecularSystem
    mol : rdkit.Chem.Mol
        The same with bond orders.
    torsions : list of Torsion
        About single bonds, but those that only exchange equivalent atoms.
    kelvin : float
    platform : str
    """

    metadata: ModelMetadata
    molecule: MolecularSystem
    mol: Chem.Mol
    torsions: list[Torsion]
    kelvin: float
    platform: str


def ensemble(options: EnsembleOptions) -> None:
    """Sample a molecule and list its conformers with populations, free energies and strain."""
    from ..files import refuse_existing
    from . import require_analysis

    require_analysis("ensemble")
    from ..ensemble.output import FILES
    from ..report.page import NUMBERS_FILE, PAGE_FILE

    for name in (*FILES, PAGE_FILE, NUMBERS_FILE):
        refuse_existing(options.out / name, options.force)
    subject = _read_subject(options)
    samples = _sample(options, subject)
    slowest, quality, warnings = _quality(subject, samples)
    minima, conformers = _group(options, subject, samples)
    text = _write(options, subject, samples, minima, conformers, (slowest, quality), warnings)
    typer.echo(text)
    for warning in warnings:
        typer.echo(f"timewarp-openmm: warning: {warning}", err=True)


def _read_subject(options: EnsembleOptions) -> _Subject:
    from ..analysis.torsions import proper_torsions, true_torsions
    from ..contract import read_metadata
    from ..molecule.bonding.by_orders import to_rdkit
    from ..molecule.graph import molecule_from_topology
    from ..potentials.registry import stated_force_field
    from ..simulation.langevin import default_platform
    from ..simulation.systems import load_molecule

    metadata = read_metadata(options.model)
    if metadata.context_atoms():
        raise ValueError(
            f"{options.model} moves a part of a molecule, and an ensemble is of a whole one; make "
            "a model of it with timewarp-openmm fit"
        )
    force_field = options.force_field
    if options.system is None and not force_field and options.target is None:
        force_field = stated_force_field(metadata.force_field)
    molecule = load_molecule(options.pdb, force_field, options.system, target=options.target)
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    if not atoms.bond_orders:
        raise ValueError(
            f"the bond orders of the molecule in {options.pdb} are not known, without which it has "
            "no conformers that could be written; give an SDF or MOL file of it"
        )
    return _Subject(
        metadata,
        molecule,
        to_rdkit(atoms),
        true_torsions(proper_torsions(atoms)),
        options.temperature or metadata.temperature,
        options.platform or default_platform(molecule.system.getNumParticles()),
    )


def _sample(options: EnsembleOptions, subject: _Subject) -> Samples:
    # Loads the compiled plugin, so it comes after all that can be wrong without it.
    from ..ensemble.sampling import sample_chains
    from ..molecule.matching import match_atoms
    from ..potentials.surrogates import own_surrogate
    from .progress import counting

    molecule = subject.molecule
    particles = match_atoms(options.model, molecule.topology, positions=molecule.positions)
    if len(particles) < molecule.system.getNumParticles():
        raise ValueError(
            f"{options.pdb} has more than the molecule of {options.model}; give a file of it alone"
        )
    surrogate = own_surrogate(options.model, subject.metadata, molecule.force_field)
    starts = _starts(options, subject, particles, surrogate)
    total = options.steps * options.chains
    with counting("sampling", float(total), "iterations") as show:
        return sample_chains(
            options.model,
            molecule.system,
            list(starts),
            options.steps,
            max(10, options.frames // options.chains),
            options.seed,
            particles,
            subject.platform,
            subject.kelvin,
            show,
            surrogate,
        )


def _starts(
    options: EnsembleOptions,
    subject: _Subject,
    particles: Sequence[int],
    surrogate: tuple[Path, int] | None,
) -> Sequence[NDArray[Any]]:
    from ..ensemble.sampling import find_chain_starts
    from .progress import counting

    with counting("finding basins to start in", 100.0, "%") as show:
        return find_chain_starts(
            options.model,
            subject.molecule,
            subject.torsions,
            options.chains,
            options.seed,
            particles,
            subject.platform,
            subject.kelvin,
            surrogate,
            lambda done, note: show(round(100 * done, 1), note),
        )


def _quality(subject: _Subject, samples: Samples) -> tuple[str, SamplingQuality, list[str]]:
    """Return the slowest torsion, how well it is sampled, and what a reader must know."""
    from ..ensemble.sampling import slowest_torsion, why_not_to_trust
    from ..simulation.chains import describe_stuck

    for rate in samples.acceptance.chains:
        stuck = describe_stuck(samples.iterations, round(rate * samples.iterations))
        if stuck is not None:
            raise ValueError(f"a chain has not left its start: {stuck}")
    torsions = [torsion.atoms for torsion in subject.torsions]
    slowest, quality = slowest_torsion(samples.frames, torsions)
    name = subject.torsions[slowest].name
    warning = why_not_to_trust(name, quality)
    return name, quality, [] if warning is None else [warning]


def _group(
    options: EnsembleOptions, subject: _Subject, samples: Samples
) -> tuple[Minima, Conformers]:
    from ..ensemble.conformers import find_conformers
    from ..ensemble.minima import find_minima
    from ..machine import usable_cpus
    from .progress import counting

    frames = samples.frames.reshape(-1, *samples.frames.shape[2:])
    with counting("minimising", float(len(frames)), "frames") as show:
        minima = find_minima(
            subject.molecule.system,
            frames,
            subject.platform,
            options.workers or usable_cpus(),
            show,
        )
    return minima, find_conformers(subject.mol, minima, options.rmsd)


def _write(
    options: EnsembleOptions,
    subject: _Subject,
    samples: Samples,
    minima: Minima,
    conformers: Conformers,
    slowest: tuple[str, SamplingQuality],
    warnings: Sequence[str],
) -> str:
    """Write the files and return what to print."""
    import numpy as np

    from ..ensemble.conformers import populations
    from ..ensemble.output import SDF_FILE, make_rows, table, write_ensemble
    from ..molecule.torsions import measure_torsions
    from ..units import thermal_energy

    name, quality = slowest
    labels = conformers.labels.reshape(samples.frames.shape[:2])
    count = len(conformers.leaders)
    shares = populations(list(labels), count, quality.tau, thermal_energy(subject.kelvin))
    shown = [torsion for torsion in subject.torsions if torsion.kind != "omega"]
    leaders = minima.positions[conformers.leaders]
    degrees = np.degrees(measure_torsions(leaders, [torsion.atoms for torsion in shown]))
    rows = make_rows(conformers, minima, shares, degrees.tolist())
    names = [torsion.name for torsion in shown]
    about = _about(options, subject, samples, name, quality)
    write_ensemble(options.out, subject.mol, rows, names, conformers, minima, about)
    page = _write_page(options, subject, rows, leaders, names, warnings)
    conformers_found = f"{count} conformer{'s' if count > 1 else ''}"
    return (
        f"{table(rows, names)}\n"
        f"{conformers_found} at {subject.kelvin:g} K in {options.out / SDF_FILE}, "
        f"pictures in {page}; "
        f"{samples.acceptance.mean:.1%} accepted, {quality.ess:.0f} effective samples of {name}, "
        f"R-hat {quality.rhat:.3f}"
    )


def _write_page(
    options: EnsembleOptions,
    subject: _Subject,
    rows: Sequence[Row],
    positions: NDArray[Any],
    torsions: Sequence[str],
    warnings: Sequence[str],
) -> Path:
    """Write the page of pictures and return its path."""
    from .. import __version__
    from ..molecule.graph import molecule_from_topology
    from ..report.conformers import ConformerSet, assess_conformers
    from ..report.page import write_report

    atoms = molecule_from_topology(subject.molecule.topology, subject.molecule.system)
    conformers = ConformerSet(atoms, subject.mol, rows, positions, torsions)
    title = f"Conformers of {options.pdb.name} at {subject.kelvin:g} K"
    findings, views = assess_conformers(title, conformers, warnings)
    made = f"timewarp-openmm {__version__}: {options.model.name}"
    return write_report(findings, views, options.out, made)


def _about(
    options: EnsembleOptions,
    subject: _Subject,
    samples: Samples,
    name: str,
    quality: SamplingQuality,
) -> dict[str, Any]:
    from datetime import UTC, datetime

    import openmm
    import rdkit

    from .. import __version__
    from ..files import sha256_of

    chains, frames = samples.frames.shape[:2]
    return {
        "model": options.model.name,
        "model_sha256": sha256_of(options.model),
        "force_field": list(subject.molecule.force_field),
        "temperature": subject.kelvin,
        "platform": subject.platform,
        "seed": options.seed,
        "chains": chains,
        "iterations": samples.iterations,
        "frames": chains * frames,
        "rmsd": options.rmsd,
        "acceptance": samples.acceptance.mean,
        "seconds_of_stepping": samples.seconds,
        "slowest_torsion": name,
        "effective_samples": quality.ess,
        "rhat": quality.rhat,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "timewarp-openmm": __version__,
            "openmm": openmm.version.version,
            "rdkit": rdkit.__version__,
        },
    }
