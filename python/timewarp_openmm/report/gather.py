"""From trajectory files and a model to the study that a report assesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray

from ..analysis.flow_samples import ShortRun, draw_proposals, run_chain
from ..analysis.structure import implausible_bonds
from ..molecule.matching import match_atoms
from ..trajectories.frames import FrameReader, open_frames
from .study import FLOW, LONG
from .survey import Subject, Survey, survey, survey_pieces

if TYPE_CHECKING:
    import openmm
    from openmm import app

    from ..analysis.series import BlockHistograms

#: States of the MD or the chain that the flow proposes from, and proposals of each.
_STATES, _PER_STATE = 1000, 4
_RUN_ITERATIONS = 1000


@dataclass(frozen=True)
class Surveys:
    """What was read of each sample; None where there is none that could be read."""

    chain: Survey | None
    reference: Survey | None
    proposals: Survey | None

    @property
    def frames(self) -> NDArray[np.float32]:
        """Frames [F, N, 3] / nm of the MD, or of the chains where there is none.

        Raises
        ------
        ValueError
            If there is neither.
        """
        source = self.reference or self.chain
        if source is None:
            raise ValueError("there is neither a chain nor MD that the model could propose from")
        return source.frames()


@dataclass(frozen=True)
class ModelAnswers:
    """What a model did when it was asked.

    Attributes
    ----------
    proposals : Survey or None
    velocities : mapping of str to array
        Auxiliary velocities by the sample they belong to.
    run : ShortRun or None
    """

    proposals: Survey | None = None
    velocities: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    run: ShortRun | None = None


def open_fitting(paths: Sequence[Path], subject: Subject) -> tuple[list[FrameReader], list[str]]:
    """Open the files that fit the molecule; return them, and what is wrong with others."""
    readers, problems = [], []
    for path in paths:
        try:
            reader = open_frames(path, subject.topology)
        except ValueError as error:
            problems.append(f"left out: {error}")
            continue
        first = mdtraj.Trajectory(next(reader.chunks(100)), subject.topology)
        strange = implausible_bonds(first, subject.geometry, subject.positions)
        if strange:
            problems.append(
                f"{path.name} may have its atoms in another order than the topology: "
                f"{len(strange)} bonds are of strange length, such as {strange[0]}"
            )
        readers.append(reader)
    return readers, problems


def survey_samples(
    subject: Subject,
    chains: Sequence[FrameReader],
    reference: Sequence[FrameReader],
    proposals: Sequence[FrameReader],
) -> tuple[Surveys, list[str]]:
    """Read all samples; return what is kept of them, and why others are left out."""
    problems: list[str] = []

    def read(
        name: str, readers: Sequence[FrameReader], like: BlockHistograms | None = None
    ) -> Survey | None:
        if not readers:
            return None
        try:
            return survey(name, subject, readers, like)
        except ValueError as error:
            problems.append(f"left out: {error}")
            return None

    md = read("reference", reference)
    like = None if md is None else md.histograms
    surveys = Surveys(read("chain", chains, like), md, read("proposals", proposals, like))
    return surveys, problems


def ask_model(
    model: Path,
    topology: app.Topology,
    system: openmm.System | None,
    subject: Subject,
    surveys: Surveys,
) -> tuple[ModelAnswers, list[str]]:
    """Let a model propose, and run its chain for a while where there is a System to run it in."""
    problems = []
    frames = surveys.frames
    # By the topology file's chirality, not that of frames: that these keep it is to be found out.
    order = match_atoms(model, topology, positions=subject.positions)
    drawn = draw_proposals(model, order, frames[:: -(-len(frames) // _STATES)], _PER_STATE)
    velocities = {FLOW: drawn.velocities}
    proposals, run = surveys.proposals, None
    if proposals is None:
        like = None if surveys.reference is None else surveys.reference.histograms
        try:
            pieces = {"proposals of the model": [drawn.positions]}
            proposals = survey_pieces("proposals", subject, pieces, like)
        except ValueError as error:
            problems.append(f"proposals: {error}")
    if system is not None:
        try:
            run = run_chain(model, order, system, frames[0], _RUN_ITERATIONS)
            velocities[LONG] = run.velocities
        except ImportError as error:
            problems.append(f"no run with the model: the compiled plugin is missing ({error})")
    return ModelAnswers(proposals, velocities, run), problems
