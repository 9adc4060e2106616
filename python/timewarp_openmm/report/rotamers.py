"""What blocks have moved: rotamers of side chains beside molecular dynamics, and other blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..analysis.states import Occupation, occupation
from ..molecule.rotamers import rotamer_indices, rotamer_names
from ..molecule.torsions import TorsionAtoms, measure_torsions
from ..trajectories.frames import FrameReader
from .drawing import make_axes
from .findings import Findings, Picture, Section, Table, show
from .study import COLOURS, LONG, MD

#: What the samples are called where there is no short chain.
_NAMES = {LONG: "with blocks", MD: "MD"}
#: Populations below this in both samples are left out of tables.
_LEAST = 0.005
#: Standard errors by which a population differs from MD's before a reader is warned.
_LARGE = 4.0


@dataclass(frozen=True)
class SideChain:
    """A residue whose rotamers are followed.

    Attributes
    ----------
    residue : str
    torsions : list of TorsionAtoms
        chi1, and chi2 where it has wells.
    tried, accepted : int or None
        Proposals of its block, where they are known.
    """

    residue: str
    torsions: list[TorsionAtoms]
    tried: int | None = None
    accepted: int | None = None


@dataclass(frozen=True)
class OtherBlock:
    """A block that is not of one side chain.

    Attributes
    ----------
    name : str
    tried, accepted : int or None
        Its proposals, where they are known.
    """

    name: str
    tried: int | None = None
    accepted: int | None = None


def follow_rotamers(
    readers: Sequence[FrameReader], side_chains: Sequence[SideChain]
) -> list[list[NDArray[np.int64]]]:
    """Return the rotamer of each frame: of each side chain, of each trajectory, an array [F].

    Raises
    ------
    ValueError
        If a file is damaged.
    """
    flat = [atoms for side_chain in side_chains for atoms in side_chain.torsions]
    ends = np.cumsum([len(side_chain.torsions) for side_chain in side_chains])
    found: list[list[NDArray[np.int64]]] = [[] for _ in side_chains]
    if not side_chains:
        return found
    for reader in readers:
        # Frames of large structures: few at a time.
        pieces = [measure_torsions(piece, flat) for piece in reader.chunks(200)]
        angles = np.concatenate(pieces)
        for number, columns in enumerate(np.split(angles, ends[:-1], axis=1)):
            found[number].append(rotamer_indices(columns))
    return found


def assess_rotamers(
    title: str,
    side_chains: Sequence[SideChain],
    samples: Mapping[str, Sequence[Sequence[NDArray[np.int64]]]],
    others: Sequence[OtherBlock] = (),
) -> Findings:
    """Compare the rotamers of each side chain in a run with blocks, and in MD if there is any.

    Parameters
    ----------
    samples : mapping of str to what `follow_rotamers` returns
        By `LONG` and `MD`.
    others : sequence of OtherBlock
        Blocks that are not of side chains, of which it is said what became of their proposals.
    """
    findings = Findings(title)
    findings.warnings += _never_moved(side_chains, others)
    if side_chains:
        _add_rotamers(findings, side_chains, samples)
    if others:
        findings.sections.append(_block_section(others))
    return findings


def _add_rotamers(
    findings: Findings,
    side_chains: Sequence[SideChain],
    samples: Mapping[str, Sequence[Sequence[NDArray[np.int64]]]],
) -> None:
    counted = {
        label: [
            occupation(chains, 3 ** len(side_chain.torsions))
            for side_chain, chains in zip(side_chains, followed, strict=True)
        ]
        for label, followed in samples.items()
    }
    frames = {label: sum(map(len, followed[0])) for label, followed in samples.items()}
    findings.warnings += _warnings(side_chains, counted)
    findings.sections += [
        _transition_section(side_chains, counted, frames),
        _population_section(side_chains, counted),
    ]


def _never_moved(side_chains: Sequence[SideChain], others: Sequence[OtherBlock]) -> list[str]:
    never = [s.residue for s in side_chains if s.tried and s.accepted == 0]
    never += [block.name for block in others if block.tried and block.accepted == 0]
    return [f"blocks that no proposal has moved: {', '.join(never)}"] if never else []


def _block_section(others: Sequence[OtherBlock]) -> Section:
    section = Section(
        "blocks",
        "Other blocks",
        "What became of the proposals of blocks that are not of one side chain. How they have "
        "changed is not looked at here, but for the rotamers of their residues.",
    )
    rows = [
        [b.name, "" if b.tried is None else str(b.tried), _share(b.tried, b.accepted)]
        for b in others
    ]
    section.tables.append(Table("", ["block", "proposals", "accepted"], rows))
    section.numbers = {b.name: {"tried": b.tried, "accepted": b.accepted} for b in others}
    return section


def _share(tried: int | None, accepted: int | None) -> str:
    return f"{(accepted or 0) / tried:.2%}" if tried and accepted is not None else ""


def _changes(entry: Occupation) -> int:
    return int(entry.transitions.sum())


def _warnings(
    side_chains: Sequence[SideChain], counted: Mapping[str, Sequence[Occupation]]
) -> list[str]:
    found = []
    still = [
        s.residue
        for s, entry in zip(side_chains, counted[LONG], strict=True)
        if _changes(entry) == 0
    ]
    if still:
        found.append(
            f"rotamers that never changed in the run, so that their populations are those of the "
            f"start: {', '.join(still)}"
        )
    if MD in counted:
        found += _differences(side_chains, counted)
    return found


def _differences(
    side_chains: Sequence[SideChain], counted: Mapping[str, Sequence[Occupation]]
) -> list[str]:
    found = []
    unseen, differing = [], []
    for side_chain, ours, theirs in zip(side_chains, counted[LONG], counted[MD], strict=True):
        if _changes(theirs) == 0:
            unseen.append(side_chain.residue)
        elif _largest_deviation(ours, theirs) > _LARGE:
            differing.append(side_chain.residue)
    if unseen:
        found.append(f"rotamers that never changed in MD: {', '.join(unseen)}")
    if differing:
        found.append(
            f"populations that differ from MD's by more than {_LARGE:g} standard errors: "
            f"{', '.join(differing)}; one of the two may be too short for its errors"
        )
    return found


def _largest_deviation(ours: Occupation, theirs: Occupation) -> float:
    error = np.hypot(ours.errors, theirs.errors)
    known = error > 0
    if not known.any():
        return 0.0
    return float(np.max(np.abs(ours.populations - theirs.populations)[known] / error[known]))


def _transition_section(
    side_chains: Sequence[SideChain],
    counted: Mapping[str, Sequence[Occupation]],
    frames: Mapping[str, int],
) -> Section:
    section = Section(
        "transitions",
        "Changes of rotamer",
        "How often the rotamer is another one from one frame to the next. Only runs with equally "
        "long times between frames can be compared.",
    )
    header = [
        "residue",
        "proposals",
        "accepted",
        *(f"changes, {_NAMES[label]}" for label in counted),
    ]
    rows, numbers = [], {}
    for number, side_chain in enumerate(side_chains):
        changes = {label: _changes(entries[number]) for label, entries in counted.items()}
        known = side_chain.tried is not None and side_chain.accepted is not None
        tried = str(side_chain.tried) if known else ""
        share = _share(side_chain.tried, side_chain.accepted)
        rows.append([side_chain.residue, tried, share, *(str(n) for n in changes.values())])
        numbers[side_chain.residue] = {
            "tried": side_chain.tried,
            "accepted": side_chain.accepted,
            "changes": changes,
        }
    caption = ", ".join(f"{_NAMES[label]}: {count} frames" for label, count in frames.items())
    section.tables.append(Table(caption, header, rows))
    section.numbers = {"frames": dict(frames), "residues": numbers}
    figure = _draw_changes(side_chains, counted, frames)
    section.pictures.append(Picture("changes", "Changes of rotamer in a thousand frames.", figure))
    return section


def _draw_changes(
    side_chains: Sequence[SideChain],
    counted: Mapping[str, Sequence[Occupation]],
    frames: Mapping[str, int],
) -> Figure:
    figure, (axis,) = make_axes(1, 1, (max(6.0, 0.25 * len(side_chains)), 3.8))
    width = 0.8 / len(counted)
    for k, (label, entries) in enumerate(counted.items()):
        x = np.arange(len(side_chains)) + (k - (len(counted) - 1) / 2) * width
        rates = [1000 * _changes(entry) / frames[label] for entry in entries]
        axis.bar(x, rates, width, color=COLOURS[label], label=_NAMES[label])
    axis.set(xticks=range(len(side_chains)), ylabel="changes in 1000 frames")
    axis.set_yscale("symlog", linthresh=1.0)
    axis.set_xticklabels([s.residue for s in side_chains], rotation=90, fontsize=8)
    # Above the bars, of which any may be the highest.
    axis.legend(fontsize=8, ncols=len(counted), loc="lower right", bbox_to_anchor=(1.0, 1.0))
    return figure


def _population_section(
    side_chains: Sequence[SideChain], counted: Mapping[str, Sequence[Occupation]]
) -> Section:
    section = Section(
        "populations",
        "Populations of rotamers",
        "Thirds of the circle about 60 (p), 180 (t) and 300 degrees (m), of chi1 and then of chi2 "
        "where it has such wells. Errors are from blocks of frames, and too small where a rotamer "
        "changes rarely.",
    )
    rows: list[list[str]] = []
    numbers = {}
    for number, side_chain in enumerate(side_chains):
        entries = {label: all_entries[number] for label, all_entries in counted.items()}
        names = rotamer_names(len(side_chain.torsions))
        for state, name in enumerate(names):
            if max(e.populations[state] for e in entries.values()) < _LEAST:
                continue
            cells = [show(e.populations[state], e.errors[state]) for e in entries.values()]
            rows.append([f"{side_chain.residue} {name}", *cells])
        numbers[side_chain.residue] = {
            label: {
                name: {"population": e.populations[i], "error": e.errors[i]}
                for i, name in enumerate(names)
            }
            for label, e in entries.items()
        }
    header = ["residue, rotamer", *(_NAMES[label] for label in counted)]
    section.tables.append(Table("", header, rows))
    section.numbers = numbers
    if MD in counted:
        figure = _draw_agreement(counted)
        caption = "Populations of all rotamers of all side chains, with blocks and by MD."
        section.pictures.append(Picture("agreement", caption, figure))
    return section


def _draw_agreement(counted: Mapping[str, Sequence[Occupation]]) -> Figure:
    figure, (axis,) = make_axes(1, 1, (4.5, 4.5))
    columns = {
        label: np.concatenate([entry.populations for entry in counted[label]]) for label in counted
    }
    errors = {
        label: np.nan_to_num(np.concatenate([entry.errors for entry in counted[label]]))
        for label in counted
    }
    axis.errorbar(
        columns[MD], columns[LONG], xerr=errors[MD], yerr=errors[LONG],
        fmt="o", color=COLOURS[LONG], markersize=3, linewidth=0.7,
    )  # fmt: skip
    axis.plot([0, 1], [0, 1], "--", color="0.6", linewidth=0.8)
    axis.set(xlabel="population by MD", ylabel="population with blocks", aspect="equal")
    return figure
