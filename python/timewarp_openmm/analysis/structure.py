"""Are the molecules intact? Bonds, angles, chirality, amide bonds and clashes over frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mdtraj
import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ..molecule.graph import Molecule
from ..molecule.stereochemistry import Stereochemistry
from .series import BlockHistograms

#: Two atoms four or more bonds apart clash when nearer than this share of the sum of their
#: van der Waals radii. Hydrogen bonds come down to about 0.65.
CLASH_SHARE = 0.6
#: Bins per coordinate span this many standard deviations of the reference either way.
_SPAN = 6.0


@dataclass(frozen=True)
class Geometry:
    """The internal coordinates of a molecule that ought to stay where they are.

    Attributes
    ----------
    bonds : int array [K, 2]
    angles : int array [L, 3]
        The middle atom in the middle.
    names : list of K + L str
    """

    bonds: NDArray[np.int64]
    angles: NDArray[np.int64]
    names: list[str]

    def measure(self, trajectory: mdtraj.Trajectory) -> NDArray[np.float32]:
        """Return bond lengths / nm and angles / rad, array [F, K + L]."""
        lengths = mdtraj.compute_distances(trajectory, self.bonds, periodic=False)
        if len(self.angles) == 0:
            return np.asarray(lengths)
        angles = mdtraj.compute_angles(trajectory, self.angles, periodic=False)
        return np.concatenate([lengths, angles], axis=1)


def molecule_geometry(molecule: Molecule) -> Geometry:
    """Return all bonds and all angles between bonds of a molecule."""
    graph = molecule.graph()
    angles = [
        (a, b, c)
        for b in range(molecule.num_atoms)
        for i, a in enumerate(sorted(graph[b]))
        for c in sorted(graph[b])[i + 1 :]
    ]
    label = [molecule.atom_label(i) for i in range(molecule.num_atoms)]
    names = [f"bond {label[a]}-{label[b]}" for a, b in molecule.bonds]
    names += [f"angle {label[a]}-{label[b]}-{label[c]}" for a, b, c in angles]
    return Geometry(
        np.array(molecule.bonds, dtype=np.int64).reshape(-1, 2),
        np.array(angles, dtype=np.int64).reshape(-1, 3),
        names,
    )


def histograms_like(reference: NDArray[np.floating]) -> BlockHistograms:
    """Return empty histograms whose ranges suit the coordinates [F, K] of a reference."""
    centre = np.median(reference, axis=0).astype(float)
    width = np.maximum(reference.std(axis=0), 1e-6).astype(float)
    return BlockHistograms(centre - _SPAN * width, centre + _SPAN * width)


def jensen_shannon(p: NDArray[np.floating], q: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the Jensen-Shannon divergence in bits of counts [..., bins], in [0, 1].

    Examples
    --------
    >>> float(jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 3.0])))
    1.0
    """
    p = np.asarray(p, dtype=float) / np.maximum(np.sum(p, axis=-1, keepdims=True), 1)
    q = np.asarray(q, dtype=float) / np.maximum(np.sum(q, axis=-1, keepdims=True), 1)
    mean = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log2(p / mean), 0) + np.where(
            q > 0, q * np.log2(q / mean), 0
        )
    divergence: NDArray[np.float64] = np.maximum(0.5 * terms.sum(axis=-1), 0.0)
    return divergence


def divergence_floor(
    counts: NDArray[np.int64], splits: int = 20, seed: int = 0
) -> NDArray[np.float64]:
    """Return the Jensen-Shannon divergence [K] that noise alone makes.

    The 95 % quantile between random halves of the blocks of counts [B, K, bins]; NaN with fewer
    than two blocks.
    """
    if len(counts) < 2:
        return np.full(counts.shape[1], np.nan)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(splits):
        order = rng.permutation(len(counts))
        half = len(order) // 2
        found.append(jensen_shannon(counts[order[:half]].sum(0), counts[order[half:]].sum(0)))
    return np.asarray(np.quantile(found, 0.95, axis=0))


class IntegrityCheck:
    """Counts frames in which chirality or cis/trans bonds differ from a reference, or atoms clash.

    Parameters
    ----------
    molecule : Molecule
    reference : array [N, 3], nm
        Sets the chirality and the cis/trans bonds.
    """

    def __init__(self, molecule: Molecule, reference: NDArray[np.floating]) -> None:
        label = [molecule.atom_label(i) for i in range(molecule.num_atoms)]
        graph = molecule.graph()
        self._stereochemistry = Stereochemistry(molecule, np.asarray(reference))
        centres = self._stereochemistry.atoms
        #: True where two hydrogens are on the centre, so that a flip only relabels them.
        self.relabels = [sum(molecule.elements[i] == "H" for i in graph[c]) > 1 for c in centres]
        self.centre_names = [label[c] for c in centres]
        self.amide_names = [f"{label[a[1]]}-{label[a[2]]}" for a in self._stereochemistry.fixed]
        self._pairs, self._limits = _clash_pairs(molecule, graph)
        self.frames = 0
        self.flips = np.zeros(len(centres), dtype=np.int64)
        self.turned = np.zeros(len(self.amide_names), dtype=np.int64)
        self.clashes = 0
        self.closest = np.inf
        self.closest_pair = ""
        self._label = label

    def append(self, trajectory: mdtraj.Trajectory) -> None:
        """Look at more frames."""
        self.frames += trajectory.n_frames
        flips, turned = self._stereochemistry.flipped(trajectory.xyz)
        self.flips += flips.sum(axis=0)
        self.turned += turned.sum(axis=0)
        if len(self._pairs):
            shares = mdtraj.compute_distances(trajectory, self._pairs, periodic=False)
            shares = shares / self._limits
            self.clashes += int((shares < CLASH_SHARE).any(axis=1).sum())
            nearest = shares.min(axis=0)
            if nearest.min() < self.closest:
                self.closest = float(nearest.min())
                a, b = self._pairs[int(nearest.argmin())]
                self.closest_pair = f"{self._label[a]}...{self._label[b]}"


def implausible_bonds(
    trajectory: mdtraj.Trajectory, geometry: Geometry, reference: NDArray[np.floating]
) -> list[str]:
    """Return the bonds whose median length is more than 1.5 times that of a reference, or less
    than half of it: the sign of atoms in another order.

    Parameters
    ----------
    reference : array [N, 3], nm
    """
    found = []
    medians = np.median(geometry.measure(trajectory)[:, : len(geometry.bonds)], axis=0)
    for (a, b), median, name in zip(geometry.bonds, medians, geometry.names, strict=False):
        length = float(np.linalg.norm(reference[a] - reference[b]))
        if not 0.5 * length < median < 1.5 * length:
            found.append(f"{name} is {median:.3f} nm, {length:.3f} nm in the topology's structure")
    return found


def _clash_pairs(
    molecule: Molecule, graph: nx.Graph
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    radii = [float(mdtraj.element.get_by_symbol(e).radius) for e in molecule.elements]
    near = dict(nx.all_pairs_shortest_path_length(graph, cutoff=3))
    pairs = [
        (a, b)
        for a in range(molecule.num_atoms)
        for b in range(a + 1, molecule.num_atoms)
        if b not in near[a]
    ]
    limits = [radii[a] + radii[b] for a, b in pairs]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), np.array(limits)


def worst_first(values: NDArray[np.float64], names: Sequence[str]) -> list[tuple[str, int]]:
    """Return names and their indices, the largest value first."""
    return [(names[i], int(i)) for i in np.argsort(-values)]
