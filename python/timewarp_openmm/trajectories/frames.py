"""Reading trajectories in pieces, so that memory does not grow with their length."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mdtraj
import numpy as np
from mdtraj.formats import HDF5TrajectoryFile
from numpy.typing import NDArray

from ..molecule.graph import Molecule

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
            If the file is damaged, or another number of atoms comes up.
        """
        try:
            pieces = mdtraj.iterload(str(self.path), chunk=size, **self._keywords())
            with _silence():
                piece = next(pieces, None)
            while piece is not None:
                yield np.asarray(piece.xyz, dtype=np.float32)
                piece = next(pieces, None)
        except Exception as error:  # mdtraj raises what its C readers meet
            raise ValueError(
                f"{self.path} cannot be read as a trajectory of {self.topology.n_atoms} atoms: "
                f"{error}"
            ) from error

    def _keywords(self) -> dict[str, mdtraj.Topology]:
        # These formats carry a topology, which `open_frames` has compared.
        return {} if self.path.suffix in (".h5", ".pdb") else {"top": self.topology}


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
    own = _own_topology(path)
    found = own.n_atoms if own is not None else _atoms_of_first_frame(path, topology)
    if found != topology.n_atoms:
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
    FileNotFoundError
        If a folder holds none.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(path.glob("trajectory-*.h5"))
        if not inside:
            raise FileNotFoundError(f"{path} holds no trajectory-*.h5")
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
        topology.add_atom(molecule.atom_names[i], element, residues[residue])
    for a, b in molecule.bonds:
        topology.add_bond(topology.atom(a), topology.atom(b))
    return topology


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the DCD reader's greetings, which it writes past Python, off the output.

    C keeps what is written to a file back, so that it is flushed before the output is exchanged.
    """
    sys.stdout.flush()
    c_library = ctypes.CDLL(None)
    c_library.fflush(None)
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        c_library.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _own_topology(path: Path) -> mdtraj.Topology | None:
    try:
        if path.suffix == ".h5":
            with HDF5TrajectoryFile(str(path)) as file:
                return file.topology
        if path.suffix == ".pdb":
            return mdtraj.load_topology(str(path))
    except Exception as error:  # as above
        raise ValueError(f"{path} cannot be read as a trajectory: {error}") from error
    return None


def _atoms_of_first_frame(path: Path, topology: mdtraj.Topology) -> int:
    try:
        with _silence(), mdtraj.open(str(path)) as file:
            content = file.read(1)
    except Exception as error:  # as above
        raise ValueError(f"{path} cannot be read as a trajectory: {error}") from error
    positions = content[0] if isinstance(content, tuple) else content
    return int(positions.shape[1]) if positions.ndim == 3 else topology.n_atoms


def _compare_elements(own: mdtraj.Topology, topology: mdtraj.Topology, path: Path) -> None:
    for ours, theirs in zip(topology.atoms, own.atoms, strict=True):
        if ours.element != theirs.element:
            raise ValueError(
                f"atom {ours.index} is {theirs} in {path} but {ours} in the topology; pass the "
                "topology that it was made with"
            )
