"""``timewarp-openmm analyze --blocks``: what a run with blocks has moved, beside MD."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..library import SIDE_CHAIN

if TYPE_CHECKING:
    from openmm import app

    from ..blocks.plan import BlockPlan
    from ..report.rotamers import OtherBlock, SideChain
    from .analyze import AnalyzeOptions


def analyze_blocks(options: AnalyzeOptions, path: Path) -> None:
    """Compare rotamers with MD: one HTML page, its figures, and a JSON file of every number."""
    from .. import __version__
    from ..blocks.plan import read_plan
    from ..molecule.graph import molecule_from_topology
    from ..molecule.structure_files import load_structure
    from ..report.page import write_report
    from ..report.rotamers import assess_rotamers, follow_rotamers
    from ..report.study import LONG, MD
    from ..trajectories.frames import expand_trajectories, open_frames, reader_topology

    plan = read_plan(path)
    topology, _ = load_structure(options.topology)
    shown = reader_topology(molecule_from_topology(topology))
    counts, problems = _counts(options, plan)
    side_chains = _side_chains(plan, topology, counts)
    samples = {}
    for label, given in ((LONG, options.traj), (MD, options.reference)):
        if given:
            readers = [open_frames(file, shown) for file in expand_trajectories(given)]
            samples[label] = follow_rotamers(readers, side_chains)
    title = f"{'Rotamers' if side_chains else 'Blocks'} of {options.topology.name}"
    findings = assess_rotamers(title, side_chains, samples, _others(plan, counts))
    findings.warnings[:0] = problems
    made = f"timewarp-openmm {__version__}: {', '.join(file.name for file in options.traj)}"
    page = write_report(findings, {}, options.out, made)
    for warning in findings.warnings:
        typer.echo(f"warning: {warning}", err=True)
    others = sum(block.kind != SIDE_CHAIN for block in plan.blocks)
    beside = f", other blocks: {others}" if others else ""
    typer.echo(f"{page}: {len(side_chains)} side chains{beside}")


#: Proposals tried and accepted, or None where they are not known.
_Counts = list[tuple[int, int] | None]


def _counts(options: AnalyzeOptions, plan: BlockPlan) -> tuple[_Counts, list[str]]:
    """Return what became of each block's proposals, and what is not known of them."""
    from ..blocks.statistics import read_statistics, statistics_file

    counts = [(0, 0)] * len(plan.blocks)
    try:
        for file in options.traj:
            found = read_statistics(statistics_file(file), len(plan.blocks))
            counts = [(a + c, b + d) for (a, b), (c, d) in zip(counts, found, strict=True)]
    except (FileNotFoundError, ValueError) as error:
        problem = f"what became of proposals is not known: {error}"
        return [None] * len(plan.blocks), [problem]
    return list(counts), []


def _side_chains(plan: BlockPlan, topology: app.Topology, counts: _Counts) -> list[SideChain]:
    """Return the residues with rotamers that blocks move, in the plan's order.

    Of several blocks that of the side chain alone is the one whose proposals are counted here.
    """
    from ..blocks.sidechains import residue_torsions
    from ..molecule.matching import PartFinder
    from ..molecule.selection import residue_label, select_span
    from ..report.rotamers import SideChain

    graph = PartFinder(topology).graph
    found: dict[str, SideChain] = {}
    for block, count in zip(plan.blocks, counts, strict=True):
        for residue in select_span(topology, block.residue):
            label, torsions = residue_label(residue), residue_torsions(residue, graph)
            if block.kind == SIDE_CHAIN:
                found[label] = SideChain(label, torsions, *(count or (None, None)))
            elif torsions:
                found.setdefault(label, SideChain(label, torsions))
    return list(found.values())


def _others(plan: BlockPlan, counts: _Counts) -> list[OtherBlock]:
    from ..report.rotamers import OtherBlock

    return [
        OtherBlock(block.name, *(count or (None, None)))
        for block, count in zip(plan.blocks, counts, strict=True)
        if block.kind != SIDE_CHAIN
    ]
