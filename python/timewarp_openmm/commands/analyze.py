"""``timewarp-openmm analyze``: a report on trajectories, and frames as PDB files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from ..bounds import FRAME_INDEX, FRAMES, SHARE, Temperature
from .analyze_blocks import analyze_blocks
from .options import Options, OutputPath, option_name

if TYPE_CHECKING:
    import numpy as np
    import openmm
    from numpy.typing import NDArray
    from openmm import app

    from ..contract import ModelMetadata
    from ..report.findings import Findings
    from ..report.study import Study
    from ..report.survey import Subject
    from ..trajectories.frames import FrameReader


class AnalyzeOptions(Options):
    """What ``timewarp-openmm analyze`` is told."""

    topology: Path = Field(description="PDB, mmCIF, SDF or MOL file of the molecule.")
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
    blocks: Path | None = Field(
        None, description="The file of blocks of such a run; the report is on their rotamers."
    )
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
    from . import require_analysis

    require_analysis("analyze")
    from ..molecule.graph import molecule_from_topology
    from ..report.gather import open_fitting
    from ..report.page import PAGE_FILE
    from ..report.survey import Subject
    from ..trajectories.frames import expand_trajectories, reader_topology

    refuse_existing(options.out / PAGE_FILE, options.force)
    if options.blocks is not None:
        for name in ("proposals", "model", "run", "system", "force_field", "pdb_frame"):
            if getattr(options, name) is not None:
                raise ValueError(f"{option_name(name)} is about a whole molecule, not --blocks")
        analyze_blocks(options, options.blocks)
        return
    topology, positions = load_structure(options.topology)
    molecule = molecule_from_topology(topology)
    subject = Subject.of(molecule, reader_topology(molecule), positions)
    chains, problems = open_fitting(expand_trajectories(options.traj), subject)
    _write_frames(options, chains, subject)
    study, more = _make_study(options, topology, subject, chains)
    _write_report(options, study, [*problems, *more])


def _write_frames(options: AnalyzeOptions, chains: list[FrameReader], subject: Subject) -> None:
    from ..report.viewer import write_frame

    for frame in options.pdb_frame or []:
        path = options.out / f"frame-{frame}.pdb"
        options.out.mkdir(parents=True, exist_ok=True)
        write_frame(chains, frame, subject, path)
        typer.echo(f"{path}: frame {frame}")


def _make_study(
    options: AnalyzeOptions,
    topology: app.Topology,
    subject: Subject,
    chains: list[FrameReader],
) -> tuple[Study, list[str]]:
    """Return what is to be assessed, and what is wrong with the rest."""
    from ..contract import read_metadata
    from ..report.gather import ModelAnswers, Surveys, ask_model, open_fitting, survey_samples
    from ..report.study import Study
    from ..trajectories.frames import expand_trajectories

    metadata = None if options.model is None else read_metadata(options.model)
    system = _find_system(options, metadata)
    reference, problems = open_fitting(expand_trajectories(options.reference or []), subject)
    given = [] if options.proposals is None else [options.proposals]
    proposals, of_proposals = open_fitting(given, subject)
    surveys, unread = survey_samples(subject, chains, reference, proposals)
    problems += [*of_proposals, *unread]
    if surveys == Surveys(None, None, None):
        raise ValueError("there is nothing to report on: " + "; ".join(problems))
    answers = ModelAnswers(surveys.proposals)
    if options.model is not None:
        answers, refused = ask_model(options.model, topology, system, subject, surveys)
        problems += refused
    return Study(
        subject,
        surveys.chain,
        surveys.reference,
        answers.proposals,
        options.short,
        options.tica_lag,
        options.state_lag,
        system,
        options.temperature or (metadata.temperature if metadata else None),
        answers.velocities,
        answers.run,
        options.run,
    ), problems


def _find_system(options: AnalyzeOptions, metadata: ModelMetadata | None) -> openmm.System | None:
    """Make the System that the options name, or the one that the model was made for."""
    from ..potentials.registry import stated_force_field
    from ..simulation.systems import load_molecule

    force_field = options.force_field
    if metadata is not None and not force_field and options.system is None:
        force_field = stated_force_field(metadata.force_field) or None
    if not force_field and options.system is None:
        return None
    return load_molecule(options.topology, force_field, options.system).system


def _write_report(options: AnalyzeOptions, study: Study, problems: list[str]) -> None:
    from .. import __version__
    from ..report.page import write_report
    from ..report.viewer import view_frames

    title = f"Report on {', '.join(path.name for path in options.traj)}"
    findings, conformations, names = _assess(study, title)
    findings.warnings[:0] = problems
    chain, md = study.chain, study.reference
    frames, chains = (0, 0) if chain is None else (chain.num_frames, len(chain.chains))
    sources = f"topology {options.topology.name}, {frames} frames of {chains} chains"
    if md is not None:
        sources += f", {md.num_frames} frames of MD"
    views = view_frames(study, conformations, names)
    page = write_report(findings, views, options.out, f"timewarp-openmm {__version__}: {sources}")
    for warning in findings.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"{page}: {sum(len(s.pictures) for s in findings.sections)} figures")


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
