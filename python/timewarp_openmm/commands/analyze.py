"""``timewarp-openmm analyze``: a report on trajectories, and frames as PDB files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import mdtraj
    import numpy as np
    from numpy.typing import NDArray
    from openmm import app

    from ..analysis.series import BlockHistograms
    from ..report.findings import Findings
    from ..report.study import Study
    from ..report.survey import Subject, Survey
    from ..trajectories.frames import FrameReader

#: States of the MD or the chain that the flow proposes from, and proposals of each.
_STATES, _PER_STATE = 1000, 4
_RUN_ITERATIONS = 1000


def analyze(
    topology: Annotated[Path, typer.Option(help="PDB or mmCIF file of the molecule.")],
    traj: Annotated[list[Path], typer.Option(help="The chain's trajectory; once per chain.")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")],
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="MD to compare with: a trajectory, or a folder of `simulate`."),
    ] = None,
    proposals: Annotated[
        Path | None,
        typer.Option(help="Samples of the flow without MH test; default: drawn from --model."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="The model: for proposals, velocities and energies.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the training run.")] = None,
    force_field: Annotated[
        list[str] | None, typer.Option(help="OpenMM files, for energies; default: the model's.")
    ] = None,
    system: Annotated[Path | None, typer.Option(help="A System XML instead.")] = None,
    temperature: Annotated[float | None, typer.Option(help="K; default: the model's.")] = None,
    short: Annotated[
        float, typer.Option(help="The short chain's share of the frames.", min=0.0, max=1.0)
    ] = 0.1,
    tica_lag: Annotated[int, typer.Option(help="Frames of the reference.", min=1)] = 10,
    state_lag: Annotated[int, typer.Option(help="Frames of the reference.", min=1)] = 10,
    pdb_frame: Annotated[
        list[int] | None, typer.Option(help="Also write this frame of the chain as PDB, from 0.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace the report that is there.")] = False,
) -> None:
    """Compare samples with MD: one HTML page, its figures, and a JSON file of every number."""
    from ..files import refuse_existing
    from ..molecule.structure_files import load_structure
    from ..simulation.systems import load_molecule
    from . import require_analysis

    require_analysis("analyze")
    from ..contract import read_metadata
    from ..molecule.graph import molecule_from_topology
    from ..report.page import PAGE_FILE, write_report
    from ..report.study import Study
    from ..report.survey import Subject
    from ..report.viewer import view_frames, write_frame
    from ..trajectories.frames import expand_trajectories, reader_topology

    refuse_existing(out / PAGE_FILE, force)
    openmm_topology, positions = load_structure(topology)
    molecule = molecule_from_topology(openmm_topology)
    subject = Subject.of(molecule, reader_topology(molecule), positions)
    metadata = None if model is None else read_metadata(model)
    if metadata is not None and not force_field and system is None and metadata.force_field:
        force_field = metadata.force_field.split(" + ")
    made_system = None
    if force_field or system is not None:
        made_system = load_molecule(topology, force_field, system).system
    problems: list[str] = []
    readers = _open(expand_trajectories(traj), subject, problems)
    for frame in pdb_frame or []:
        out.mkdir(parents=True, exist_ok=True)
        write_frame(readers, frame, subject, out / f"frame-{frame}.pdb")
        typer.echo(f"{out / f'frame-{frame}.pdb'}: frame {frame}")
    md_readers = _open(expand_trajectories(reference or []), subject, problems)
    md = _survey("reference", md_readers, subject, None, problems)
    like = md.histograms if md else None
    study = Study(
        subject,
        _survey("chain", readers, subject, like, problems),
        md,
        _survey("proposals", _open([proposals] if proposals else [], subject, problems), subject,
                like, problems),
        short,
        tica_lag,
        state_lag,
        made_system,
        temperature or (metadata.temperature if metadata else None),
        run_folder=run,
    )  # fmt: skip
    if not study.samples():
        raise ValueError("there is nothing to report on: " + "; ".join(problems))
    if model is not None:
        _ask_model(study, model, openmm_topology, like, problems)
    findings, conformations, names = _assess(study, f"Report on {', '.join(p.name for p in traj)}")
    findings.warnings[:0] = problems
    from .. import __version__

    frames = 0 if study.chain is None else study.chain.num_frames
    sources = f"topology {topology.name}, {frames} frames of {len(readers)} chains"
    if md is not None:
        sources += f", {md.num_frames} frames of MD"
    page = write_report(
        findings,
        view_frames(study, conformations, names),
        out,
        f"timewarp-openmm {__version__}: {sources}",
    )
    for warning in findings.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"{page}: {sum(len(s.pictures) for s in findings.sections)} figures")


def _open(paths: list[Path], subject: Subject, problems: list[str]) -> list[FrameReader]:
    """Open the files that fit, and note those that do not."""
    from ..analysis.structure import implausible_bonds
    from ..trajectories.frames import open_frames

    readers = []
    for path in paths:
        try:
            reader = open_frames(path, subject.topology)
        except ValueError as error:
            problems.append(f"left out: {error}")
            continue
        strange = implausible_bonds(
            _first_frames(reader, subject), subject.geometry, subject.positions
        )
        if strange:
            problems.append(
                f"{path.name} may have its atoms in another order than the topology: "
                f"{len(strange)} bonds are of strange length, such as {strange[0]}"
            )
        readers.append(reader)
    return readers


def _first_frames(reader: FrameReader, subject: Subject) -> mdtraj.Trajectory:
    import mdtraj

    return mdtraj.Trajectory(next(reader.chunks(100)), subject.topology)


def _survey(
    name: str,
    readers: list[FrameReader],
    subject: Subject,
    like: BlockHistograms | None,
    problems: list[str],
) -> Survey | None:
    from ..report.survey import survey

    if not readers:
        return None
    try:
        return survey(name, subject, readers, like)
    except ValueError as error:
        problems.append(f"left out: {error}")
        return None


def _ask_model(
    study: Study,
    model: Path,
    topology: app.Topology,
    like: BlockHistograms | None,
    problems: list[str],
) -> None:
    """Let the model propose, and run its chain for a while."""
    from ..analysis.flow_samples import draw_proposals, run_chain
    from ..report.study import FLOW, LONG, MD
    from ..report.survey import survey_pieces

    samples = study.samples()
    frames = samples[MD if MD in samples else LONG].frames
    starts = frames[:: -(-len(frames) // _STATES)]
    drawn = draw_proposals(model, topology, starts, _PER_STATE)
    study.velocities[FLOW] = drawn.velocities
    if study.proposals is None:
        pieces = {"proposals of the model": [drawn.positions]}
        try:
            study.proposals = survey_pieces("proposals", study.subject, pieces, like)
        except ValueError as error:
            problems.append(f"proposals: {error}")
    if study.system is None:
        return
    try:
        start = frames[0]
        study.run = run_chain(model, topology, study.system, start, _RUN_ITERATIONS)
        study.velocities[LONG] = study.run.velocities
    except ImportError as error:
        problems.append(f"no run with the model: the compiled plugin is missing ({error})")


def _assess(study: Study, title: str) -> tuple[Findings, NDArray[np.float32], list[str]]:
    from ..report.build import assess
    from .progress import counting

    done = 0
    with counting("assessing", 12, "sections") as report:

        def advance(name: str) -> None:
            nonlocal done
            done += 1
            report(done, name)

        return assess(study, title, advance)
