"""A flow of a peptide, joined from flows of capped residues.

The density of a peptide's conformation is a product of conditional ones,

    q(y) = q(acetyl group) q(residue 1 | acetyl group) q(residue 2 | residue 1) ... q(methyl | ...)

each of which was learned in a capped residue: a residue hangs on the alpha carbon and the carbonyl
before it, wherever these come from. It is a density whatever the residues have learned, so that
proposals are exact in any peptide; how many are accepted depends on how far neighbours change what
a residue does by itself. A charged first residue takes the place of the acetyl group and residue
1, and a charged last one ends the chain without a methyl group.

The end of a chain is made in the same way, with what comes before as context, and so is a charged
first residue, with its alpha carbon and what comes after as context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...molecule.capped_residues import shared_atoms
from ...molecule.graph import Molecule
from ...molecule.isomorphism import Shapes
from ...molecule.matching import match_molecules
from ..base import FlowConfig
from ..chained.links import Link, LinkedFlow
from .residue import ResidueFlow


@dataclass(frozen=True)
class PlacedResidue:
    """A residue of a peptide and the flow that makes it.

    Attributes
    ----------
    flow : ResidueFlow
    atoms : tuple of int
        Atoms of the peptide: those of the residue, and of its neighbours what a capped residue has
        of them too (`shared_atoms`), in any order.
    """

    flow: ResidueFlow
    atoms: tuple[int, ...]


def peptide_flow(
    molecule: Molecule,
    positions: torch.Tensor,
    residues: Sequence[PlacedResidue],
    has_context: bool = False,
    goes_on: bool = False,
) -> LinkedFlow:
    """Return the flow of a peptide, or of the end or the beginning of one.

    Parameters
    ----------
    molecule : Molecule
    positions : Tensor [N, 3], nm
        By which equivalent atoms are told apart.
    residues : sequence of PlacedResidue
        From the first to the last. Where that was learned with an N-methyl group, one follows.
    has_context : bool
        Whether the first of them hangs on atoms that stay, not on some that are made.
    goes_on : bool
        Whether the chain goes on after the last of them, with atoms that stay.

    Raises
    ------
    StereoisomerError
        If a residue is another stereoisomer than the flow's.
    ValueError
        If a residue is bonded otherwise than the flow's.
    """
    links = []
    for number, placed in enumerate(residues):
        flow = placed.flow
        is_first = number == 0 and not has_context
        is_last = number == len(residues) - 1 and not goes_on
        own = shared_atoms(flow.molecule, is_first, is_last)
        atoms = _match(flow, own, molecule, positions, placed.atoms)
        if is_first:
            links.append(Link(flow.start, flow.parts.start, atoms))
        links.append(Link(flow.residue, flow.parts.residue, atoms))
        if is_last and flow.methyl is not None:
            links.append(Link(flow.methyl, flow.parts.methyl, atoms))
    return LinkedFlow(FlowConfig(coordinates="peptide"), molecule, links, has_context)


def _match(
    flow: ResidueFlow,
    own: list[int],
    molecule: Molecule,
    positions: torch.Tensor,
    atoms: Sequence[int],
) -> list[int]:
    """Return the peptide's atom for each of a capped residue's; for those that are not there, one
    that neither link looks at in their place."""
    shapes = Shapes(flow.positions[own].numpy(), positions[list(atoms)].numpy())
    found = match_molecules(flow.molecule.part(own), molecule.part(atoms), shapes)
    place = {i: atoms[k] for i, k in zip(own, found, strict=True)}
    nowhere = place[own[0]]
    return [place.get(i, nowhere) for i in range(flow.molecule.num_atoms)]
