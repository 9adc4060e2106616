"""``timewarp-openmm sample --chains K``: chains from different basins, on many processes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..analysis.torsions import Torsion
    from ..contract import ModelMetadata
    from ..farm.chains import Progress
    from ..farm.files import ChainFiles, Layout
    from ..farm.pieces import ChainTask
    from ..farm.quality import Target
    from ..farm.record import FarmRecord
    from ..integrator import TimewarpMCMCIntegrator
    from ..simulation.systems import MolecularSystem
    from ..workers.base import Workers
    from .sample import SampleOptions

_Ended = Literal["interrupted", "all steps", "target reached"]


@dataclass(frozen=True)
class _Subject:
    """What is sampled.

    Attributes
    ----------
    surrogate : (Path, int), optional
        The model's own, and the length of subchains that it was measured with.
    """

    model: Path
    metadata: ModelMetadata
    molecule: MolecularSystem
    torsions: list[Torsion]
    kelvin: float
    platform: str
    seed: int
    surrogate: tuple[Path, int] | None


def sample_chains(options: SampleOptions, model: Path) -> None:
    """Run the chains and write a folder with a trajectory of each and ``chains.json``."""
    from . import require_analysis

    require_analysis("sample --chains")
    from ..farm.record import LOCK_FILE, find_record, remove_chains
    from ..files import exclusive_lock

    subject = _read_subject(options, model)
    identity = _identity(options, subject)
    iterations = _frames(options) * options.interval
    find_record(options.out, identity, iterations, options.force)
    options.out.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(options.out / LOCK_FILE):
        if options.force:
            remove_chains(options.out)
        # Another process may have gone on with them meanwhile.
        there = find_record(options.out, identity, iterations, force=False)
        _run(options, subject, identity, there)


def _frames(options: SampleOptions) -> int:
    frames = options.steps // options.interval
    if frames < 1:
        raise ValueError(
            f"--steps {options.steps} are fewer than --interval {options.interval}, so that no "
            "frame would be kept"
        )
    return frames


def _read_subject(options: SampleOptions, model: Path) -> _Subject:
    from ..analysis.torsions import proper_torsions, true_torsions
    from ..molecule.graph import molecule_from_topology
    from ..potentials.surrogates import own_surrogate
    from .sample_model import load_sampled

    molecule, metadata = load_sampled(options, model)
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    torsions = true_torsions(proper_torsions(atoms))
    if not torsions:
        raise ValueError(
            "the molecule has no torsion about a single bond, by which chains could be compared; "
            "leave out --chains"
        )
    return _Subject(
        model,
        metadata,
        molecule,
        torsions,
        options.temperature or metadata.temperature,
        options.platform or "Reference",
        _seed(options),
        own_surrogate(model, metadata, molecule.force_field),
    )


def _seed(options: SampleOptions) -> int:
    """Return the seed that was given, that of the chains which are there, or a new one."""
    from ..farm.files import REMEDY
    from ..farm.record import RECORD_FILE, FarmRecord
    from ..stored import read_document_if_any

    if options.seed is not None:
        return options.seed
    there = read_document_if_any(options.out / RECORD_FILE, FarmRecord, REMEDY)
    if there is not None and not options.force:
        return int(there["identity"]["seed"])
    return 1 + secrets.randbelow(2**31 - 1)


def _identity(options: SampleOptions, subject: _Subject) -> dict[str, Any]:
    from ..files import sha256_of
    from ..simulation.identity import content_of

    return {
        "model": sha256_of(subject.model),
        **content_of(subject.molecule),
        "temperature": subject.kelvin,
        "platform": subject.platform,
        "chains": options.chains,
        "interval": options.interval,
        "subchain": options.subchain,
        "surrogate": sha256_of(subject.surrogate[0]) if subject.surrogate else None,
        "seed": subject.seed,
    }


def _run(
    options: SampleOptions, subject: _Subject, identity: dict[str, Any], there: FarmRecord | None
) -> None:
    from ..farm.chains import Progress, run_chains
    from ..farm.files import ChainFiles
    from ..farm.quality import Target
    from .options import chosen_workers
    from .progress import counting

    count, frames = _count(options), _frames(options)
    target = Target(options.until_rhat, options.until_ess)
    began = time.monotonic() - (there["seconds"] if there else 0.0)
    if there is None:
        # Before there is anything to go on with, it is said what it will be of.
        _record(options, subject, identity, [], "interrupted", Progress(0, 0.0, None), began)
    with chosen_workers("sample", options.workers, options.scheduler, count) as workers:
        tasks, layout = _make_tasks(options, subject, workers)
        files = [ChainFiles(options.out, number, layout) for number in range(count)]
        iterations = float(frames * count * options.interval)
        with counting("sampling", iterations, "iterations") as show:

            def report(progress: Progress) -> None:
                show(progress.frames * options.interval, _note(progress, subject.torsions))
                _record(options, subject, identity, files, "interrupted", progress, began)

            progress = run_chains(workers, tasks, files, frames, target, report)
            show(progress.frames * options.interval, _note(progress, subject.torsions))
    quality = progress.slowest[1] if progress.slowest else None
    ended: _Ended = "target reached" if target.is_met(quality) else "all steps"
    _record(options, subject, identity, files, ended, progress, began)
    _tell(options, subject, files, progress, target)


def _count(options: SampleOptions) -> int:
    assert options.chains is not None
    return options.chains


def _make_tasks(
    options: SampleOptions, subject: _Subject, workers: Workers
) -> tuple[list[ChainTask], Layout]:
    import mdtraj
    import openmm

    from ..farm.files import Layout
    from ..farm.pieces import ChainTask
    from ..potentials.serialization import serialize_system
    from ..simulation.standing import new_key
    from ..trajectories.residue_labels import residue_labels

    molecule = subject.molecule
    integrator = _make_integrator(options, subject)
    system = serialize_system(molecule.system)
    tasks = []
    for number, start in enumerate(_starts(options, subject, workers)):
        integrator.setRandomNumberSeed(_seed_of(subject, number))
        xml = openmm.XmlSerializer.serialize(integrator)
        tasks.append(ChainTask(new_key(), system, xml, start, subject.platform, options.interval))
    layout = Layout(
        mdtraj.Topology.from_openmm(molecule.topology),
        residue_labels(molecule.topology),
        options.interval * integrator.getStepSize().value_in_unit(openmm.unit.picosecond),
        [torsion.atoms for torsion in subject.torsions],
    )
    return tasks, layout


def _seed_of(subject: _Subject, number: int) -> int:
    from ..seeds import shifted_seed

    return shifted_seed(subject.seed, number)


def _make_integrator(options: SampleOptions, subject: _Subject) -> TimewarpMCMCIntegrator:
    """Return the integrator of all chains but for their seeds, with its model within."""
    # Loads the compiled plugin, so it comes after all that can be wrong without it.
    from ..integrator import TimewarpMCMCIntegrator
    from .sample_model import set_surrogate

    integrator = TimewarpMCMCIntegrator(
        str(subject.model),
        topology=subject.molecule.topology,
        temperature=subject.kelvin,
        positions=subject.molecule.positions,
    )
    set_surrogate(options, subject.model, subject.metadata, subject.molecule, integrator)
    # Workers need not see this machine's files.
    integrator.setEmbedModel(True)
    return integrator


def _starts(options: SampleOptions, subject: _Subject, workers: Workers) -> NDArray[np.float64]:
    """Return where the chains begin [C, N, 3] / nm, in different basins; found once."""
    import numpy as np

    from ..ensemble.sampling import find_chain_starts
    from ..farm.files import REMEDY
    from ..farm.record import STARTS_FILE
    from ..molecule.matching import match_atoms
    from ..stored import read_arrays, write_arrays
    from .progress import counting

    path, molecule = options.out / STARTS_FILE, subject.molecule
    if path.exists():
        return np.asarray(read_arrays(path, {"positions": "float C N 3"}, REMEDY)["positions"])
    with counting("finding basins to start in", 100.0, "%") as show:
        found = find_chain_starts(
            subject.model,
            molecule,
            subject.torsions,
            _count(options),
            subject.seed,
            match_atoms(subject.model, molecule.topology, positions=molecule.positions),
            subject.platform,
            subject.kelvin,
            subject.surrogate,
            lambda done, note: show(round(100 * done, 1), note),
            workers,
        )
    starts = np.asarray(found, dtype=float)
    write_arrays(path, {"positions": starts})
    return starts


def _note(progress: Progress, torsions: Sequence[Torsion]) -> str:
    text = f"{progress.acceptance:.1%} accepted"
    if progress.slowest is None:
        return text
    number, quality = progress.slowest
    return f"{text}, {quality.ess:.0f} of {torsions[number].name}, R-hat {quality.rhat:.3f}"


def _record(
    options: SampleOptions,
    subject: _Subject,
    identity: dict[str, Any],
    files: list[ChainFiles],
    ended: _Ended,
    progress: Progress,
    began: float,
) -> None:
    import openmm
    import torch

    from .. import __version__
    from ..farm.record import chain_records, write_record

    found = progress.slowest
    seeds = [_seed_of(subject, number) for number in range(len(files))]
    write_record(
        options.out,
        {
            "identity": identity,
            "ended": ended,
            "chains": chain_records(files, seeds, options.interval),
            "slowest_torsion": subject.torsions[found[0]].name if found else None,
            "effective_samples": found[1].ess if found else None,
            "rhat": found[1].rhat if found else None,
            "seconds": round(time.monotonic() - began, 1),
            "versions": {
                "timewarp-openmm": __version__,
                "openmm": openmm.version.version,
                "torch": torch.__version__,
            },
        },
    )


def _tell(
    options: SampleOptions,
    subject: _Subject,
    files: list[ChainFiles],
    progress: Progress,
    target: Target,
) -> None:
    from ..ensemble.sampling import why_not_to_trust
    from ..simulation.chains import describe_stuck

    frames = [file.standing.frames for file in files]
    typer.echo(
        f"{options.out}: {len(files)} chains of {frames[0]} frames, "
        f"{_note(progress, subject.torsions)}"
    )
    warnings = [
        None if stuck is None else f"{file.path.name}: {stuck}"
        for file in files
        for stuck in [describe_stuck(file.proposed, file.accepted)]
    ]
    quality = progress.slowest[1] if progress.slowest else None
    if target.is_set() and not target.is_met(quality):
        warnings.append("the chains are not as good as was asked for; go on with more --steps")
    elif progress.slowest is None:
        warnings.append("too little has happened for effective samples or R-hat to be estimated")
    else:
        number, known = progress.slowest
        warnings.append(why_not_to_trust(subject.torsions[number].name, known))
    for warning in filter(None, warnings):
        typer.echo(f"timewarp-openmm: warning: {warning}", err=True)
