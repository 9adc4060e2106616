"""Which minima are one conformer, and how the samples are shared among conformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, Geometry
from rdkit.Chem import rdMolAlign

from ..analysis.free_energy import bootstrap, cut_blocks
from .minima import Minima

#: nm; minima whose heavy atoms are closer are one conformer.
THRESHOLD = 0.05
_RESAMPLES = 1000
_ANGSTROMS_PER_NM = 10.0
#: Atoms that tell conformers apart; where there are fewer heavy ones, hydrogens count, too.
_FEWEST_ATOMS = 4


@dataclass(frozen=True)
class Conformers:
    """The conformers of a molecule, the most populated one first.

    Attributes
    ----------
    leaders : int array [K]
        The minimum of least energy of each.
    labels : int array [F]
        The conformer of each minimum.
    """

    leaders: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Populations:
    """The shares of K conformers in the samples.

    Attributes
    ----------
    population, error : array [K]
        `error` is the standard error by a bootstrap of blocks that are longer than the chains'
        correlation.
    free_energy, free_energy_error : array [K], kJ/mol
        -kT ln(p / p of the first). The error is NaN where some resamples do not have the conformer.
    """

    population: NDArray[np.float64]
    error: NDArray[np.float64]
    free_energy: NDArray[np.float64]
    free_energy_error: NDArray[np.float64]


def find_conformers(mol: Chem.Mol, minima: Minima, threshold: float = THRESHOLD) -> Conformers:
    """Group minima: in the order of their energies, each joins the first conformer whose own
    minimum is within `threshold`, or begins one.

    The distance is the RMSD of the heavy atoms after superposition, the least over all ways to
    exchange equivalent atoms (RDKit's GetBestRMS). Mirror images are different conformers.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        The molecule with all atoms of the minima, in their order.
    minima : Minima
    threshold : float
        nm.
    """
    distances = _Distances(mol, minima.positions)
    leaders: list[int] = []
    labels = np.empty(len(minima.energies), dtype=np.int64)
    for frame in np.argsort(minima.energies, kind="stable"):
        near = (k for k, leader in enumerate(leaders) if distances(frame, leader) < threshold)
        label = next(near, len(leaders))
        if label == len(leaders):
            leaders.append(int(frame))
        labels[frame] = label
    order = np.argsort(-np.bincount(labels), kind="stable")
    return Conformers(np.array(leaders)[order], np.argsort(order)[labels])


def telling_atoms(mol: Chem.Mol) -> NDArray[np.int64]:
    """Return the atoms that tell conformers apart: heavy ones, or all where these are few."""
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    return np.array(heavy if len(heavy) >= _FEWEST_ATOMS else range(mol.GetNumAtoms()))


class _Distances:
    """RMSD / nm between frames, by RDKit."""

    def __init__(self, mol: Chem.Mol, frames: NDArray[np.floating]) -> None:
        atoms = telling_atoms(mol)
        self._mol = Chem.Mol(mol) if len(atoms) == mol.GetNumAtoms() else Chem.RemoveAllHs(mol)
        self._frames = frames[:, atoms]
        self._probe, self._leaders = Chem.Mol(self._mol), dict[int, Chem.Mol]()

    def __call__(self, frame: int, leader: int) -> float:
        if leader not in self._leaders:
            self._leaders[leader] = with_positions(self._mol, self._frames[leader])
        probe = with_positions(self._mol, self._frames[frame])
        distance: float = rdMolAlign.GetBestRMS(probe, self._leaders[leader])
        return distance / _ANGSTROMS_PER_NM


def with_positions(mol: Chem.Mol, positions: NDArray[np.floating]) -> Chem.Mol:
    """Return a copy of a molecule with one conformer: positions [N, 3] / nm."""
    placed = Chem.Mol(mol)
    placed.RemoveAllConformers()
    conformer = Chem.Conformer(placed.GetNumAtoms())
    for atom, place in enumerate(_ANGSTROMS_PER_NM * np.asarray(positions, dtype=float)):
        conformer.SetAtomPosition(atom, Geometry.Point3D(*place))
    placed.AddConformer(conformer)
    return placed


def populations(
    chains: Sequence[NDArray[np.int64]], count: int, tau: float, kT: float
) -> Populations:
    """Return the shares of `count` conformers, of which the first is the most populated one.

    Parameters
    ----------
    chains : sequence of int array [F]
        The conformer of each frame.
    tau : float
        Statistical inefficiency of the slowest quantity, in frames.
    kT : float
        kJ/mol.
    """
    blocks = cut_blocks(chains, tau)
    counts = np.array([np.bincount(block, minlength=count) for block in blocks], dtype=float)
    drawn = bootstrap(counts, _RESAMPLES)
    drawn /= drawn.sum(axis=1, keepdims=True)
    total = np.bincount(np.concatenate(chains), minlength=count)
    population = total / total.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        free_energy = kT * np.log(population[0] / population)
        spread = kT * np.log(drawn[:, :1] / drawn)
        seen = np.isfinite(spread).all(axis=0)
        errors = np.where(seen, spread.std(axis=0, ddof=1), np.nan)
    return Populations(population, drawn.std(axis=0, ddof=1), free_energy, errors)
