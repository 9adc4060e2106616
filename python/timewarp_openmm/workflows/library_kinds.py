"""What libraries hold models of: side chains, or whole residues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from openmm import app

from ..flows.chained.config import ChainedFlowConfig
from ..flows.chained.flow import ChainedFlow
from ..flows.internal.config import InternalFlowConfig
from ..flows.residues.residue import write_residue_flow
from ..flows.weights import restore_weights, round_weights
from ..library import RESIDUE, SIDE_CHAIN
from ..molecule.capped_residues import capped_residue_parts
from ..molecule.chain_ends import FIRST, INNER_ONLY, LAST
from ..molecule.graph import molecule_from_topology
from ..molecule.selection import side_chains
from ..simulation.capped_peptides import SIDE_CHAINS
from ..training.checkpoints import CHECKPOINT_REMEDY
from .budget import FitBudget
from .fit import fitted_flow

#: Of the models' weights: files of two thirds of the size.
WEIGHT_BITS = 10
_WHOLE = tuple(sorted(("ALA", "GLY", *SIDE_CHAINS)))
_DISULFIDE = "its side chain is one with that of another residue"


@dataclass(frozen=True)
class FittedParts:
    """What a fit of a capped residue moves, and what it makes after the rest.

    Attributes
    ----------
    moved : tuple of int, or None
    later_parts : tuple of tuple of int
    """

    moved: tuple[int, ...] | None = None
    later_parts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class LibraryKind:
    """A kind of model that a library has of each residue.

    Attributes
    ----------
    name : str
        Of its entries.
    residues : tuple of str
        Amber's names of those that it has models of.
    ends : tuple of str
        Those at charged ends of chains, of which models are made where they are asked for.
    not_moved : mapping of str to str
        Those that it has none of on purpose, and why.
    flow : InternalFlowConfig
    budget : FitBudget
    spreads_backbone : bool
        Whether data are made with most of the free energy of phi and psi taken away, which a model
        given the backbone does not feel.
    parts : callable
        Of a capped residue's topology.
    write : callable, optional
        (work folder of a fit, the library's file): writes the latter, where it is not the model
        file that the fit makes.
    """

    name: str
    residues: tuple[str, ...]
    not_moved: Mapping[str, str]
    flow: InternalFlowConfig
    budget: FitBudget
    spreads_backbone: bool
    parts: Callable[[app.Topology], FittedParts]
    ends: tuple[str, ...] = ()
    write: Callable[[Path, Path], None] | None = None


def _ends(residues: tuple[str, ...]) -> tuple[str, ...]:
    charged = [name for name in residues if name not in INNER_ONLY]
    return tuple(end + name for end in (FIRST, LAST) for name in charged)


def _side_chain(topology: app.Topology) -> FittedParts:
    return FittedParts(moved=tuple(sorted(side_chains(topology))))


def _whole(topology: app.Topology) -> FittedParts:
    parts = capped_residue_parts(molecule_from_topology(topology))
    return FittedParts(later_parts=parts.later)


def _write_links(work: Path, out: Path) -> None:
    trained = fitted_flow(work)
    config, molecule = trained.config.flow, trained.provenance.molecule
    assert isinstance(config, ChainedFlowConfig)
    flow = ChainedFlow(config, molecule)
    restore_weights(flow, trained.weights, trained.path, CHECKPOINT_REMEDY)
    round_weights(flow, WEIGHT_BITS)
    write_residue_flow(out, flow, config, molecule, trained.provenance.reference_positions)


SIDE_CHAIN_KIND = LibraryKind(
    name=SIDE_CHAIN,
    residues=tuple(SIDE_CHAINS),
    not_moved={
        "ALA": "its only torsion turns a methyl group, whose hydrogens are equivalent",
        "CYX": _DISULFIDE,
        "GLY": "it has no side chain",
        "PRO": "its side chain is a ring over the backbone",
    },
    # Smaller than the flow of one molecule: 23 of them have to fit into a package.
    flow=InternalFlowConfig(rotatable_hidden=48, stiff_hidden=64, stiff_layers=4),
    # A spread backbone has many basins, which short trajectories tell enough of.
    budget=FitBudget(
        explore_share=0.1,
        simulate_share=0.2,
        train_share=0.08,
        refine_rate=1.5e-3,
        runs_per_basin=2,
        equilibration=2.0,
        shortest=5.0,
        least_basins=12,
        most_basins=64,
    ),
    spreads_backbone=True,
    parts=_side_chain,
)
RESIDUE_KIND = LibraryKind(
    name=RESIDUE,
    residues=_WHOLE,
    not_moved={
        "CYX": _DISULFIDE,
        "PRO": "its side chain is a ring over the backbone, and the amide before it turns to cis",
    },
    # Three links: what is learned in ten minutes is a matter of how many steps these allow.
    flow=InternalFlowConfig(stiff_hidden=96, stiff_layers=4),
    # Backbone and side chain together have many basins, and three links take long to export.
    budget=FitBudget(
        explore_share=0.1,
        simulate_share=0.15,
        train_share=0.08,
        refine_rate=1e-3,
        runs_per_basin=2,
        equilibration=2.0,
        shortest=5.0,
        least_basins=6,
        most_basins=64,
        export_starts=15.0,
    ),
    spreads_backbone=False,
    parts=_whole,
    ends=_ends(_WHOLE),
    write=_write_links,
)
#: By their names.
KINDS = {kind.name: kind for kind in (SIDE_CHAIN_KIND, RESIDUE_KIND)}
