"""How much of the surface of what a block moves is exposed."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import mdtraj
import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ..molecule.amino_acids import find_backbone
from ..molecule.selection import is_water

if TYPE_CHECKING:
    from openmm import app

#: Points on each atom's sphere; the share of a side chain is known to one or two per cent.
_POINTS = 240


def exposed_shares(
    topology: app.Topology,
    positions: NDArray[np.float64],
    parts: Sequence[tuple[AbstractSet[int], AbstractSet[int]]],
) -> list[float | None]:
    """Return the share of the surface of some parts of a structure that is exposed, from 0 to 1.

    It is the solvent-accessible surface (Shrake and Rupley, J. Mol. Biol. 79, 351 (1973), probe of
    0.14 nm) of the part's atoms in the structure without water and ions, divided by what it is in
    the same conformation with some atoms around it alone.

    Parameters
    ----------
    positions : array [N, 3], nm
    parts : sequence of (set of int, set of int)
        The atoms of each, and these with those around it: of a side chain what
        `side_chain_parts` says.

    Returns
    -------
    list of float or None
        None where the structure has no other atoms, so that nothing could bury the part, and of
        ions.
    """
    whole = mdtraj.Topology.from_openmm(topology)
    solute = _solute(topology)
    there = dict(zip(solute, _surfaces(whole, positions, solute), strict=True)) if parts else {}
    shares: list[float | None] = []
    for own, around in parts:
        kept = sorted(own | around)
        if not there.keys() - set(kept) or not own <= there.keys():
            shares.append(None)
            continue
        alone = dict(zip(kept, _surfaces(whole, positions, kept), strict=True))
        most = sum(alone[i] for i in own)
        exposed = sum(there[i] for i in own)
        shares.append(min(1.0, float(exposed / most)) if most > 0 else 0.0)
    return shares


def _solute(topology: app.Topology) -> list[int]:
    kept = []
    for residue in topology.residues():
        atoms = [atom.index for atom in residue.atoms() if atom.element is not None]
        if len(atoms) > 1 and not is_water(residue):
            kept += atoms
    return kept


def _surfaces(
    whole: mdtraj.Topology, positions: NDArray[np.float64], atoms: list[int]
) -> NDArray[np.float64]:
    """Return the surfaces / nm^2 of some atoms where there are no others."""
    frame = mdtraj.Trajectory(positions[atoms], whole.subset(atoms))
    surfaces: NDArray[np.float64] = mdtraj.shrake_rupley(frame, n_sphere_points=_POINTS)[0]
    return surfaces


def side_chain_parts(
    residues: Sequence[app.topology.Residue], graph: nx.Graph
) -> list[tuple[AbstractSet[int], AbstractSet[int]]]:
    """Return the atoms of side chains from CB on, and the backbone with the peptide bonds on both
    sides, as in a capped residue.

    Parameters
    ----------
    residues : sequence of Residue
        With a backbone.
    graph : networkx.Graph
        Bonds of the topology; nodes carry `element` and `name`.
    """
    return [_side_chain(residue, graph) for residue in residues]


def _side_chain(residue: app.topology.Residue, graph: nx.Graph) -> tuple[set[int], set[int]]:
    backbone = find_backbone(residue, graph)
    assert backbone is not None
    inside = {atom.index for atom in residue.atoms()}
    ends = {backbone.nitrogen, backbone.carbon}
    near = ends | {backbone.alpha} | {i for end in ends for i in graph[end]}
    hydrogens = {i for i in graph[backbone.alpha] if graph.nodes[i]["element"] == "H"}
    own = near | hydrogens
    beyond = {j for i in near - inside for j in graph[i]}
    return inside - own, own | beyond
