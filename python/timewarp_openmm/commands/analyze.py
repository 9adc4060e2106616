"""``timewarp-openmm analyze``: a report on trajectories, and frames as PDB files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from ..bounds import FRAME_INDEX, FRAMES, SHARE, Temperature
from .options import Options, OutputPath

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


class AnalyzeOptions(Options):
    """What ``timewarp-openmm analyze`` is told."""

    topology: Path = Field(description="PDB or mmCIF file of the molecule.")
    traj: list[Path] = Field(description="The chain's trajectory; once per chain.")
    out: OutputPath = Field(description="Folder for the report.")
    reference: list[Path] | None = Field(
        None, description="MD to compare with: a trajectory, or a folder of `simulate`."
    )
    proposals: Path | None = Field(
        None, description="Samples of the flow without MH test; default: drawn from --model."
    )
    model: Path | None = Field(
        None, description="The model: for proposals, velocities and energies."
    )
    run: Path | None = Field(None, description="Folder of the training run.")
    force_field: list[str] | None = Field(
        None, description="OpenMM files, for energies; default: the model's."
    )
    system: Path | None = Field(None, description="A System XML instead.")
    temperature: Temperature | None = Field(None, description="Default: the model's.")
    short: Annotated[float, SHARE] = Field(
        0.1, description="The short chain's share of the frames."
    )
    tica_lag: Annotated[int, FRAMES] = Field(10, description="Frames of the reference.")
    state_lag: Annotated[int, FRAMES] = Field(10, description="Frames of the reference.")
    pdb_frame: list[Annotated[int, FRAME_INDEX]] | None = Field(
        None, description="Also write this frame of the chain as PDB, from 0."
    )
    force: bool = Field(False, description="Replace the report that is there.")


def analyze(options: AnalyzeOptions) -> None:
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

    out, model, force_field = options.out, options.model, options.force_field
    refuse_existing(out / PAGE_FILE, options.force)
    openmm_topology, positions = load_structure(options.topology)
    molecule = molecule_from_topology(openmm_topology)
    subject = Subject.of(molecule, reader_topology(molecule), positions)
    metadata = None if model is None else read_metadata(model)
    if metadata is not None and not force_field and options.system is None and metadata.force_field:
        force_field = metadata.force_field.split(" + ")
    made_system = None
    if force_field or options.system is not None:
        made_system = load_molecule(options.topology, force_field, options.system).system
    problems: list[str] = []
    readers = _open(expand_trajectories(options.traj), subject, problems)
    for frame in options.pdb_frame or []:
        out.mkdir(parents=True, exist_ok=True)
        write_frame(readers, frame, subject, out / f"frame-{frame}.pdb")
        typer.echo(f"{out / f'frame-{frame}.pdb'}: frame {frame}")
    md_readers = _open(expand_trajectories(options.reference or []), subject, problems)
    md = _survey("reference", md_readers, subject, None, problems)
    like = md.histograms if md else None
    proposals = [options.proposals] if options.proposals else []
    study = Study(
        subject,
        _survey("chain", readers, subject, like, problems),
        md,
        _survey("proposals", _open(proposals, subject, problems), subject, like, problems),
        options.short,
        options.tica_lag,
        options.state_lag,
        made_system,
        options.temperature or (metadata.temperature if metadata else None),
        run_folder=options.run,
    )  # fmt: skip
    if not study.samples():
        raise ValueError("there is nothing to report on: " + "; ".join(problems))
    if model is not None:
        _ask_model(study, model, openmm_topology, like, problems)
    findings, conformations, names = _assess(
        study, f"Report on {', '.join(p.name for p in options.traj)}"
    )
    findings.warnings[:0] = problems
    from .. import __version__

    frames = 0 if study.chain is None else study.chain.num_frames
    sources = f"topology {options.topology.name}, {frames} frames of {len(readers)} chains"
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
