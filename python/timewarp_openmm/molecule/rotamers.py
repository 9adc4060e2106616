"""Rotamers of side chains: which third of the circle chi1 is in, and chi2 where it has wells."""

from __future__ import annotations

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from .amino_acids import AminoAcid
from .torsions import TorsionAtoms

#: Of the wells about 60, 180 and 300 degrees (Lovell et al., Proteins 40, 389 (2000)).
WELL_NAMES = "ptm"


def rotamer_torsions(amino_acid: AminoAcid, graph: nx.Graph) -> list[TorsionAtoms]:
    """Return chi1, and chi2 where it is about two atoms with four neighbours each.

    Each of these has three wells, so that the thirds of the circle that they are in are the
    rotamer.
    """
    atoms = amino_acid.atoms
    found: list[TorsionAtoms] = []
    chain = ["N", "CA", "CB"]
    heavy = graph.subgraph(atoms.values())
    names = {atom: name for name, atom in atoms.items()}
    while len(found) < 2 and chain[-1] in atoms and graph.degree[atoms[chain[-1]]] == 4:
        beyond = {names[i] for i in heavy[atoms[chain[-1]]]} - set(chain)
        if not beyond:
            break
        # Of OG1 and CG2 the one with the lower number.
        chain.append(min(beyond, key=lambda name: name[1:]))
        a, b, c, d = (atoms[name] for name in chain[-4:])
        found.append((a, b, c, d))
    return found


def wells(torsions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the third of the circle that each torsion / rad is in: 0 at 60, 1 at 180, 2 at 300
    degrees.

    Examples
    --------
    >>> wells(np.radians([55.0, -170.0, 179.0, -60.0])).tolist()
    [0, 1, 1, 2]
    """
    thirds: NDArray[np.int64] = np.floor(np.mod(torsions, 2 * np.pi) / (2 * np.pi / 3)).astype(int)
    return np.minimum(thirds, 2)


def rotamer_names(torsions: int) -> list[str]:
    """Return the names of all rotamers of so many torsions, by the index of `rotamer_indices`.

    Examples
    --------
    >>> rotamer_names(2)[:4]
    ['pp', 'pt', 'pm', 'tp']
    """
    names = [""]
    for _ in range(torsions):
        names = [name + well for name in names for well in WELL_NAMES]
    return names


def rotamer_indices(torsions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the rotamer [F] that torsions [F, T] / rad make together.

    Examples
    --------
    >>> rotamer_indices(np.radians([[60.0, -60.0], [180.0, 60.0]])).tolist()
    [2, 3]
    """
    powers = 3 ** np.arange(torsions.shape[1])[::-1]
    return np.asarray(wells(torsions) @ powers, dtype=np.int64)
