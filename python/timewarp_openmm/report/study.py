"""The samples that a report compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..analysis.torsions import Torsion
from .survey import Subject, Survey

if TYPE_CHECKING:
    import openmm

    from ..analysis.flow_samples import ShortRun

MD = "MD"
FLOW = "flow without MH"
SHORT = "short chain"
LONG = "long chain"
#: One colour for each sample, everywhere.
COLOURS = {MD: "#3b3b3b", FLOW: "#d1660e", SHORT: "#4aa9a0", LONG: "#1f5fa8"}


@dataclass(frozen=True)
class Sample:
    """A sample as most sections see it.

    Attributes
    ----------
    label : str
    torsions : list of array [F, T], rad
        Of each chain, every `stride`-th frame.
    frames : float32 array [K, N, 3], nm
        A selection.
    """

    label: str
    torsions: list[NDArray[np.float64]]
    frames: NDArray[np.float32]
    stride: int

    @property
    def pooled(self) -> NDArray[np.float64]:
        """Torsions of all chains [F, T]."""
        return np.concatenate(self.torsions)


@dataclass(frozen=True)
class Study:
    """What is to be assessed. Nothing is added once it is made; sections only read it.

    Attributes
    ----------
    subject : Subject
    chain : Survey or None
        Of the chains; None where their files could not be read.
    reference, proposals : Survey or None
    short : float
        The short chain's share of the frames.
    tica_lag, state_lag : int
        Frames of the reference.
    system : openmm.System or None
        For energies.
    temperature : float or None
        K.
    velocities : mapping of str to array
        Auxiliary velocities by where they come from.
    run : ShortRun or None
    run_folder : Path or None
    """

    subject: Subject
    chain: Survey | None
    reference: Survey | None = None
    proposals: Survey | None = None
    short: float = 0.1
    tica_lag: int = 10
    state_lag: int = 10
    system: openmm.System | None = None
    temperature: float | None = None
    velocities: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    run: ShortRun | None = None
    run_folder: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "velocities", MappingProxyType(dict(self.velocities)))

    @property
    def torsions(self) -> list[Torsion]:
        return self.subject.torsions

    @property
    def rotatable(self) -> list[int]:
        """Columns of the torsions that are more than labels of hydrogens."""
        return [i for i, torsion in enumerate(self.torsions) if torsion.fold == 1]

    def samples(self) -> dict[str, Sample]:
        """Return MD, flow without MH, short chain and long chain, as far as there are any."""
        found = {}
        if self.reference is not None:
            found[MD] = _sample(MD, self.reference)
        if self.proposals is not None:
            found[FLOW] = _sample(FLOW, self.proposals)
        if self.chain is not None:
            whole = _sample(LONG, self.chain)
            found[SHORT] = Sample(
                SHORT,
                [t[: max(1, round(self.short * len(t)))] for t in whole.torsions],
                whole.frames[: max(1, round(self.short * len(whole.frames)))],
                whole.stride,
            )
            found[LONG] = whole
        return found

    def surveys(self) -> dict[str, Survey]:
        """Return the surveys by label; the short chain has none of its own."""
        named = {MD: self.reference, FLOW: self.proposals, LONG: self.chain}
        return {label: survey for label, survey in named.items() if survey is not None}


def _sample(label: str, survey: Survey) -> Sample:
    return Sample(label, survey.torsions(), survey.frames(), survey.stride)
