"""One pass over the trajectories of a sample, keeping what the report needs in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import mdtraj
import numpy as np
from numpy.typing import NDArray

from ..analysis.chain import ChainWatch
from ..analysis.series import BlockHistograms, ThinnedSeries
from ..analysis.structure import Geometry, IntegrityCheck, histograms_like, molecule_geometry
from ..analysis.torsions import Torsion, folded_torsions, proper_torsions
from ..molecule.graph import Molecule
from ..trajectories.frames import FrameReader

#: Frames of torsions that are kept of each chain, and whole frames of each sample.
KEPT_TORSIONS = 100_000
KEPT_FRAMES = 4_000


@dataclass(frozen=True)
class Subject:
    """The molecule that a report is about.

    Attributes
    ----------
    molecule : Molecule
    topology : mdtraj.Topology
    positions : array [N, 3], nm
        Sets chirality and amides.
    torsions : list of Torsion
    geometry : Geometry
    heavy : int array
        Atoms that are not hydrogen.
    """

    molecule: Molecule
    topology: mdtraj.Topology
    positions: NDArray[np.float64]
    torsions: list[Torsion]
    geometry: Geometry
    heavy: NDArray[np.int64]

    @staticmethod
    def of(
        molecule: Molecule, topology: mdtraj.Topology, positions: NDArray[np.float64]
    ) -> Subject:
        heavy = np.array([i for i, e in enumerate(molecule.elements) if e != "H"], dtype=np.int64)
        if len(heavy) < 3:  # a superposition needs three atoms
            heavy = np.arange(molecule.num_atoms)
        return Subject(
            molecule,
            topology,
            positions,
            proper_torsions(molecule),
            molecule_geometry(molecule),
            heavy,
        )


@dataclass
class ChainSurvey:
    """One trajectory: thinned torsions and frames, and what happened between frames."""

    name: str
    torsions: ThinnedSeries
    frames: ThinnedSeries
    watch: ChainWatch
    broken: int = 0


@dataclass
class Survey:
    """Everything that is kept of a sample.

    Attributes
    ----------
    name : str
    chains : list of ChainSurvey
    integrity : IntegrityCheck
    histograms : BlockHistograms or None
        Of bonds and angles, over all chains.
    """

    name: str
    chains: list[ChainSurvey]
    integrity: IntegrityCheck
    histograms: BlockHistograms | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def num_frames(self) -> int:
        """Frames read, without those that are not finite."""
        return sum(chain.torsions.count for chain in self.chains)

    @property
    def stride(self) -> int:
        """Frames between rows of `torsions`, the same for all chains."""
        return max(chain.torsions.stride for chain in self.chains)

    def torsions(self) -> list[NDArray[np.float64]]:
        """Torsions [F, T] / rad of each chain, every `stride`-th frame."""
        return [
            np.asarray(c.torsions.values[:: self.stride // c.torsions.stride], dtype=float)
            for c in self.chains
        ]

    def frames(self) -> NDArray[np.float32]:
        """A selection of frames [F, N, 3] / nm from all chains, evenly spread."""
        stride = max(chain.frames.stride for chain in self.chains)
        return np.concatenate([c.frames.values[:: stride // c.frames.stride] for c in self.chains])


def survey(
    name: str,
    subject: Subject,
    readers: Sequence[FrameReader],
    like: BlockHistograms | None = None,
) -> Survey:
    """Read the trajectories of a sample.

    Parameters
    ----------
    like : BlockHistograms, optional
        Histograms of the reference, whose bins are used again; without it they suit this sample.

    Raises
    ------
    ValueError
        If a file is damaged or has no frame whose positions are finite.
    """
    return survey_pieces(
        name, subject, {r.path.name: r.chunks() for r in readers}, like, len(readers)
    )


def survey_pieces(
    name: str,
    subject: Subject,
    sources: Mapping[str, Iterable[NDArray[np.float32]]],
    like: BlockHistograms | None = None,
    share: int = 1,
) -> Survey:
    """The same for sources that yield pieces [n, N, 3] / nm."""
    result = Survey(name, [], IntegrityCheck(subject.molecule, subject.positions))
    if like is not None:
        result.histograms = BlockHistograms(like.low, like.high, like.bins)
    for source, pieces in sources.items():
        chain = ChainSurvey(
            source,
            ThinnedSeries(KEPT_TORSIONS),
            ThinnedSeries(max(2, KEPT_FRAMES // max(share, 1))),
            ChainWatch(subject.heavy),
        )
        for piece in pieces:
            _take(result, chain, subject, piece)
        if chain.torsions.count == 0:
            raise ValueError(f"{source} has no frame with finite positions")
        result.chains.append(chain)
    return result


def _take(result: Survey, chain: ChainSurvey, subject: Subject, piece: NDArray[np.float32]) -> None:
    finite = np.isfinite(piece).all(axis=(1, 2))
    chain.broken += int((~finite).sum())
    piece = piece[finite]
    if len(piece) == 0:
        return
    frames = mdtraj.Trajectory(piece, subject.topology)
    chain.torsions.append(folded_torsions(piece, subject.torsions))
    chain.frames.append(piece)
    chain.watch.append(piece)
    values = subject.geometry.measure(frames)
    if result.histograms is None:
        result.histograms = histograms_like(values)
    result.histograms.append(values)
    result.integrity.append(frames)
