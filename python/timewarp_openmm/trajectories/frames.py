"""Reading trajectories in pieces, so that memory does not grow with their length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import mdtraj
import numpy as np
from numpy.typing import NDArray

from ..molecule.graph import Molecule
from ..simulation.record import check_files, read_run
from . import reading

#: Frames read at a time.
CHUNK = 4000


@dataclass(frozen=True)
class FrameReader:
    """A trajectory file that fits a topology.

    Attributes
    ----------
    path : Path
    topology : mdtraj.Topology
        N atoms.
    """

    path: Path
    topology: mdtraj.Topology

    def chunks(self, size: int = CHUNK) -> Iterator[NDArray[np.float32]]:
        """Yield positions [up to `size`, N, 3] in nm, in order.

        Raises
        ------
        ValueError
            If the file is damaged, holds frames of zeros, or another number of atoms comes up.
        """
        first = 0
        try:
            for piece in reading.read_pieces(self.path, self._topology_to_read_with(), size):
                refuse_zeros(self.path, piece, first)
                first += len(piece)
                yield piece
        except reading.UnreadableError as error:
            raise ValueError(
                f"{self.path} cannot be read as a trajectory of {self.topology.n_atoms} atoms: "
                f"{error}"
            ) from error

    def _topology_to_read_with(self) -> mdtraj.Topology | None:
        # These formats carry a topology, which `open_frames` has compared.
        return None if self.path.suffix in (".h5", ".pdb") else self.topology


def refuse_zeros(path: Path, positions: NDArray[np.float32], first: int = 0) -> None:
    """Refuse frames [F, N, 3] with several atoms at the origin; frames count from `first`.

    Where a disk is full, HDF5 leaves zeros in place of frames or parts of them, and gives no error.

    Raises
    ------
    ValueError
        Naming file and frame.
    """
    zeros = (positions == 0).all(axis=2).sum(axis=1) > 1
    if zeros.any():
        raise ValueError(
            f"{path}: positions of frame {first + int(np.argmax(zeros))} are zeros, as in "
            f"{int(zeros.sum())} frames there; the disk may have been full when it was written: "
            "leave the file out, or make it again"
        )


def open_frames(path: str | Path, topology: mdtraj.Topology) -> FrameReader:
    """Check that a trajectory file has the atoms of a topology.

    Parameters
    ----------
    path : str or Path
        Any format that mdtraj reads: DCD, HDF5, XTC, TRR, NetCDF, PDB.
    topology : mdtraj.Topology

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it has other atoms, no frames, or cannot be read; the message names the first difference.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no trajectory at {path}")
    try:
        own = reading.read_topology(path)
        found = own.n_atoms if own is not None else reading.count_atoms(path)
    except reading.UnreadableError as error:
        raise ValueError(f"{path} cannot be read as a trajectory: {error}") from error
    if found not in (None, topology.n_atoms):
        raise ValueError(
            f"{path} has {found} atoms but the topology has {topology.n_atoms}; pass the topology "
            "that it was made with"
        )
    if own is not None:
        _compare_elements(own, topology, path)
    reader = FrameReader(path, topology)
    if next(reader.chunks(1), None) is None:
        raise ValueError(f"{path} holds no frames")
    return reader


def expand_trajectories(paths: list[Path]) -> list[Path]:
    """Replace each folder by the trajectories in it, as ``timewarp-openmm simulate`` writes them.

    Raises
    ------
    FileNotFoundError, DamagedFileError
        If a folder holds none, or its files are not what its ``run.json`` says.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(path.glob("trajectory-*.h5"))
        if not inside:
            raise FileNotFoundError(f"{path} holds no trajectory-*.h5")
        run = read_run(path)
        if run is not None:
            check_files(path, run)
        files.extend(inside)
    return files


def reader_topology(molecule: Molecule) -> mdtraj.Topology:
    """Return the mdtraj topology of a molecule.

    Examples
    --------
    >>> water = Molecule(("O", "H1", "H2"), ("HOH",) * 3, (0,) * 3, ("O", "H", "H"),
    ...                  (15.999, 1.008, 1.008), ((0, 1), (0, 2)))
    >>> reader_topology(water).n_bonds
    2
    """
    topology = mdtraj.Topology()
    chains: dict[str, mdtraj.topology.Chain] = {}
    residues = {}
    for i, residue in enumerate(molecule.residue_indices):
        name, number = molecule.chain_id(i), molecule.residue_id(i)
        if name not in chains:
            chains[name] = topology.add_chain(name or None)
        if residue not in residues:
            residues[residue] = topology.add_residue(
                molecule.residue_names[i],
                chains[name],
                # mdtraj knows numbers only; other identifiers (in hexadecimal) are counted.
                resSeq=int(number) if number.lstrip("-").isdecimal() else residue + 1,
            )
        element = mdtraj.element.get_by_symbol(molecule.elements[i])
        charge = molecule.formal_charges[i] if molecule.formal_charges else None
        topology.add_atom(molecule.atom_names[i], element, residues[residue], formal_charge=charge)
    for (a, b), order in zip_longest(molecule.bonds, molecule.bond_orders):
        topology.add_bond(topology.atom(a), topology.atom(b), order=order)
    return topology


def _compare_elements(own: mdtraj.Topology, topology: mdtraj.Topology, path: Path) -> None:
    for ours, theirs in zip(topology.atoms, own.atoms, strict=True):
        if ours.element != theirs.element:
            raise ValueError(
                f"atom {ours.index} is {theirs} in {path} but {ours} in the topology; pass the "
                "topology that it was made with"
            )
