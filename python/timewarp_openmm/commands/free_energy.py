"""``timewarp-openmm free-energy``: configurational free energies of a molecule and its basins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field

from ..bounds import (
    CHAINS,
    DRAWS,
    FRAMES,
    ITERATIONS,
    RESAMPLES,
    STEP_INTERVAL,
    Seed,
    Temperature,
    Workers,
)
from .options import Options, OutputPath

if TYPE_CHECKING:
    from ..analysis.basins import Membership
    from ..analysis.configurational import FreeEnergies
    from ..analysis.configurational_samples import Sampled
    from ..flows.independent_model import IndependentModel
    from ..simulation.systems import MolecularSystem


class FreeEnergyOptions(Options):
    """What ``timewarp-openmm free-energy`` is told."""

    model: Path = Field(description="A model file (.pt) of the whole molecule, of lag time inf.")
    pdb: Path = Field(description="PDB, mmCIF, SDF or MOL file of the molecule.")
    force_field: list[str] | None = Field(
        None, description="OpenMM files of the System; default: the model's."
    )
    system: Path | None = Field(None, description="A System XML instead.")
    force_field2: list[str] | None = Field(
        None, description="OpenMM files of a second System, whose difference is wanted, too."
    )
    system2: Path | None = Field(None, description="A System XML instead.")
    model2: Path | None = Field(
        None, description="A model of the second System; default: the first one serves both."
    )
    basin: list[str] | None = Field(
        None,
        description="Ranges of torsions in degrees: phi:0:137, or with a name and several ranges "
        "alpha=phi:-180:0,psi:-120:45; once per basin.",
    )
    reference: Path | None = Field(
        None, description="MD whose metastable states are the basins: a trajectory or a folder."
    )
    state_lag: Annotated[int, FRAMES] = Field(10, description="Frames of the reference.")
    draws: Annotated[int, DRAWS] = Field(20_000, description="Of each model.")
    chains: Annotated[int, CHAINS] = Field(4, description="Of each System.")
    iterations: Annotated[int, ITERATIONS] = Field(
        5_000, description="Of each chain, a tenth of which is left out."
    )
    interval: Annotated[int, STEP_INTERVAL] = Field(1, description="Iterations between frames.")
    resamples: Annotated[int, RESAMPLES] = Field(100, description="Of the bootstrap of all errors.")
    temperature: Temperature | None = Field(None, description="Default: the model's.")
    platform: str = Field("Reference", description="OpenMM platform.")
    workers: Workers = Field(1, description="Processes that compute energies.")
    seed: Seed = Field(1, description="Random number seed.")
    out: OutputPath | None = Field(None, description="JSON file with every number.")
    force: bool = Field(False, description="Replace the file that is there.")


@dataclass(frozen=True)
class _Subject:
    """What free energies are asked of."""

    models: list[IndependentModel]
    molecules: list[MolecularSystem]
    membership: Membership
    basins: list[str]
    temperature: float


def free_energy(options: FreeEnergyOptions) -> None:
    """Compute the configurational free energy of a molecule, of its basins, and of a change of its
    System."""
    from ..files import refuse_existing
    from . import require_analysis

    require_analysis("free-energy")
    if options.out is not None:
        refuse_existing(options.out, options.force)
    subject = _subject(options)

    from ..analysis.configurational import free_energies
    from ..analysis.free_energy_doubts import doubts

    sampled = _sample(options, subject)
    typer.echo("estimating", err=True)
    found = free_energies(sampled.draws, sampled.chains, options.resamples, options.seed)
    messages = doubts(found)
    _print_tables(options, subject, sampled, found)
    for message in messages:
        typer.echo(f"warning: {message}", err=True)
    if options.out is not None:
        _write(options.out, _record(options, subject, sampled, found, messages))
        typer.echo(f"{options.out}: every number")


def _subject(options: FreeEnergyOptions) -> _Subject:
    """Open all files, and refuse what has no free energy."""
    from ..contract import read_metadata
    from ..potentials.registry import stated_force_field

    if options.model2 is not None and not (options.system2 or options.force_field2):
        raise ValueError("--model2 is of a second System: give --system2 or --force-field2")
    metadata = read_metadata(options.model)
    force_field = options.force_field
    if options.system is None and not force_field:
        force_field = stated_force_field(metadata.force_field)
    molecules = [_load(options.pdb, force_field, options.system)]
    if options.system2 is not None or options.force_field2:
        molecules.append(_load(options.pdb, options.force_field2, options.system2))
    membership, basins = _basins(options, molecules[0])

    # Load torch and the compiled plugin, so they come after all that can be wrong without them.
    from ..flows.independent_model import open_independent_model

    models = [
        open_independent_model(path, molecules[0].topology, molecules[0].positions)
        for path in (options.model, options.model2)
        if path is not None
    ]
    for model in models:
        model.check_normalised()
    return _Subject(
        models, molecules, membership, basins, options.temperature or metadata.temperature
    )


def _load(pdb: Path, force_field: list[str] | None, xml: Path | None) -> MolecularSystem:
    from ..simulation.systems import load_molecule, load_system_xml

    # Chains can do with constraints, an absolute free energy cannot.
    if xml is not None and (count := load_system_xml(xml).getNumConstraints()) > 0:
        raise ValueError(
            f"{xml} has {count} constraints: a length that is kept has no integral, so its Z is in "
            "other units and of other coordinates than the model's density; make the System with "
            "constraints=None and rigidWater=False"
        )
    return load_molecule(pdb, force_field, xml)


def _basins(options: FreeEnergyOptions, molecule: MolecularSystem) -> tuple[Membership, list[str]]:
    """Return what tells basins apart, and their names."""
    from ..analysis.basins import membership_of, membership_of_states, parse_basin
    from ..analysis.states import find_states
    from ..analysis.torsions import proper_torsions, true_torsions
    from ..molecule.graph import molecule_from_topology

    if options.reference is None:
        torsions = proper_torsions(molecule_from_topology(molecule.topology))
        basins = [parse_basin(text, torsions) for text in options.basin or []]
        return membership_of(basins), [basin.name for basin in basins]
    if options.basin:
        raise ValueError("give either --basin or --reference")

    from ..report.gather import open_fitting
    from ..report.survey import Subject, survey
    from ..trajectories.frames import expand_trajectories, reader_topology

    graph = molecule_from_topology(molecule.topology)
    subject = Subject.of(graph, reader_topology(graph), molecule.positions)
    readers, problems = open_fitting(expand_trajectories([options.reference]), subject)
    if problems:
        raise ValueError("; ".join(problems))
    frames = survey("reference", subject, readers)
    rotatable = true_torsions(subject.torsions)
    columns = [subject.torsions.index(torsion) for torsion in rotatable]
    states = find_states(
        [part[:, columns] for part in frames.torsions()],
        [torsion.name for torsion in rotatable],
        max(1, options.state_lag // frames.stride),
    )
    return membership_of_states(states, rotatable), states.names


def _sample(options: FreeEnergyOptions, subject: _Subject) -> Sampled:
    from ..analysis.configurational_samples import Plan, collect

    plan = Plan(
        options.draws,
        options.chains,
        options.iterations,
        options.interval,
        subject.temperature,
        options.platform,
        options.workers,
        options.seed,
    )
    systems = [molecule.system for molecule in subject.molecules]
    return collect(
        subject.models,
        systems,
        subject.membership,
        plan,
        lambda what: typer.echo(what, err=True),
    )


def _print_tables(
    options: FreeEnergyOptions, subject: _Subject, sampled: Sampled, found: FreeEnergies
) -> None:
    from ..units import thermal_energy

    kT = thermal_energy(subject.temperature)
    atoms = subject.molecules[0].system.getNumParticles()
    typer.echo(
        f"\n{subject.molecules[0].name}, {subject.temperature:g} K, kT = {kT:.4f} kJ/mol. "
        f"F = -kT ln(Z / nm^{3 * atoms - 3}), without place and orientation"
    )
    for number, (molecule, system, run) in enumerate(
        zip(subject.molecules, found.systems, sampled.runs, strict=True), start=1
    ):
        typer.echo(
            f"\nSystem {number}: {' '.join(molecule.force_field)}\n"
            f"  effective draws {system.kish:.0f} of {sampled.draws.size} "
            f"({system.kish_share:.1%}), acceptance {run.acceptance.mean:.1%}, effective samples "
            f"of the chains {system.effective:.0f}, overlap {system.overlap:.2f}"
        )
        _print_rows(
            ("F", "importance weighting", system.weighting),
            ("F", "BAR, draws and chains", system.bar),
            *((("F", "MBAR, all samples", system.mbar),) if found.difference else ()),
            kT=kT,
        )
        if subject.basins:
            _print_basins(subject.basins, system.basins, kT)
    if found.difference is not None:
        typer.echo(
            "\nDifference, System 2 less System 1\n"
            f"  overlap of the two chains {found.difference.overlap:.2f}"
        )
        _print_rows(
            ("dF", "importance weighting", found.difference.weighting),
            ("dF", "BAR between the chains", found.difference.chains),
            ("dF", "BAR, through the flow", found.difference.through_flow),
            ("dF", "MBAR, all samples", found.difference.mbar),
            kT=kT,
        )


def _print_rows(*rows: tuple[str, str, Any], kT: float) -> None:
    typer.echo(f"  {'':<26}{'kJ/mol':>12}{'+-':>9}{'kT':>12}{'+-':>9}")
    for symbol, method, estimate in rows:
        value, error = estimate.value, estimate.error
        typer.echo(
            f"  {symbol + ', ' + method:<26}{kT * value:>12.3f}{kT * error:>9.3f}"
            f"{value:>12.3f}{error:>9.3f}"
        )


def _print_basins(names: Sequence[str], basins: Sequence[Any], kT: float) -> None:
    width = max(5, *(len(name) for name in names))
    typer.echo(
        f"  {'basin':<{width}}{'share':>10}{'+-':>9}{'counted':>10}{'+-':>9}"
        f"{'F / kJ/mol':>13}{'+-':>8}{'to the first':>14}{'+-':>8}"
    )
    for name, basin in zip(names, basins, strict=True):
        whole, relative = basin.free_energy, basin.relative
        typer.echo(
            f"  {name:<{width}}{basin.population.value:>10.4f}{basin.population.error:>9.4f}"
            f"{basin.counted.value:>10.4f}{basin.counted.error:>9.4f}"
            f"{kT * whole.value:>13.3f}{kT * whole.error:>8.3f}"
            f"{kT * relative.value:>14.3f}{kT * relative.error:>8.3f}"
        )


def _record(
    options: FreeEnergyOptions,
    subject: _Subject,
    sampled: Sampled,
    found: FreeEnergies,
    messages: Sequence[str],
) -> dict[str, Any]:
    """Return every number, energies in kT and kJ/mol, and what is needed to get them again."""
    from hashlib import sha256
    from importlib.metadata import version

    import openmm

    from .. import __version__
    from ..files import sha256_of
    from ..potentials.serialization import serialize_system
    from ..units import thermal_energy

    kT = thermal_energy(subject.temperature)
    atoms = subject.molecules[0].system.getNumParticles()
    systems = [
        {
            "force_field": list(molecule.force_field),
            "system_sha256": sha256(serialize_system(molecule.system).encode()).hexdigest(),
            "free_energy": {
                "importance_weighting": _energy(system.weighting, kT),
                "bar": _energy(system.bar, kT),
                "mbar": _energy(system.mbar, kT),
            },
            "effective_draws": system.kish,
            "effective_share": system.kish_share,
            "overlap": system.overlap,
            "effective_chain_samples": system.effective,
            "rhat": system.rhat,
            "acceptance": list(run.acceptance.chains),
            "basins": {
                name: {
                    "population": asdict(basin.population),
                    "counted": asdict(basin.counted),
                    "free_energy": _energy(basin.free_energy, kT),
                    "relative_to_the_first": _energy(basin.relative, kT),
                }
                for name, basin in zip(subject.basins, system.basins, strict=True)
            },
        }
        for molecule, system, run in zip(
            subject.molecules, found.systems, sampled.runs, strict=True
        )
    ]
    difference = found.difference
    return {
        "molecule": subject.molecules[0].name,
        "temperature_K": subject.temperature,
        "kT_kJ_mol": kT,
        "unit_of_Z": f"nm^{3 * atoms - 3}",
        "systems": systems,
        "difference": None
        if difference is None
        else {
            "importance_weighting": _energy(difference.weighting, kT),
            "bar_between_chains": _energy(difference.chains, kT),
            "bar_through_flow": _energy(difference.through_flow, kT),
            "mbar": _energy(difference.mbar, kT),
            "overlap": difference.overlap,
        },
        "overlap_matrix": found.overlap,
        "warnings": list(messages),
        "draws": sampled.draws.size,
        "impossible_draws": sampled.impossible,
        "chain_frames": [chain.size for chain in sampled.chains],
        "options": options.model_dump(mode="json", exclude={"out", "force"}),
        "models": {model.path.name: sha256_of(model.path) for model in subject.models},
        "versions": {
            "timewarp-openmm": __version__,
            "openmm": openmm.version.version,
            "pymbar": version("pymbar"),
        },
    }


def _energy(estimate: Any, kT: float) -> dict[str, float]:
    return {
        "kT": estimate.value,
        "kT_error": estimate.error,
        "kJ_mol": kT * estimate.value,
        "kJ_mol_error": kT * estimate.error,
    }


def _write(path: Path, record: dict[str, Any]) -> None:
    from ..analysis.numbers import plain
    from ..files import write_bytes_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, (json.dumps(plain(record), indent=1) + "\n").encode())
