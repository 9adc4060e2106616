"""``timewarp-openmm analyze --blocks``: the rotamers of a run with blocks, beside MD."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from openmm import app

    from ..blocks.plan import BlockPlan
    from ..report.rotamers import SideChain
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
    side_chains, problems = _side_chains(options, plan, topology)
    samples = {}
    for label, given in ((LONG, options.traj), (MD, options.reference)):
        if given:
            readers = [open_frames(file, shown) for file in expand_trajectories(given)]
            samples[label] = follow_rotamers(readers, side_chains)
    title = f"Rotamers of {options.topology.name}"
    findings = assess_rotamers(title, side_chains, samples)
    findings.warnings[:0] = problems
    made = f"timewarp-openmm {__version__}: {', '.join(file.name for file in options.traj)}"
    page = write_report(findings, {}, options.out, made)
    for warning in findings.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"{page}: {len(side_chains)} side chains")


def _side_chains(
    options: AnalyzeOptions, plan: BlockPlan, topology: app.Topology
) -> tuple[list[SideChain], list[str]]:
    """Return the blocks' side chains, and what is not known of them."""
    from ..blocks.sidechains import residue_torsions
    from ..blocks.statistics import read_statistics, statistics_file
    from ..molecule.matching import PartFinder
    from ..molecule.selection import select_residues
    from ..report.rotamers import SideChain

    graph, problems = PartFinder(topology).graph, []
    counts = [(0, 0)] * len(plan.blocks)
    try:
        for file in options.traj:
            found = read_statistics(statistics_file(file), len(plan.blocks))
            counts = [(a + c, b + d) for (a, b), (c, d) in zip(counts, found, strict=True)]
    except (FileNotFoundError, ValueError) as error:
        problems.append(f"what became of proposals is not known: {error}")
    side_chains = []
    for block, (tried, accepted) in zip(plan.blocks, counts, strict=True):
        (residue,) = select_residues(topology, [block.residue])
        torsions = residue_torsions(residue, graph)
        known = (None, None) if problems else (tried, accepted)
        side_chains.append(SideChain(block.residue, torsions, *known))
    return side_chains, problems
