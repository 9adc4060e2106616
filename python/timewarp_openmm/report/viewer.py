"""Conformations for the page's three-dimensional view, and frames as PDB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import write_bytes_atomically
from ..molecule.graph import Molecule
from ..molecule.superposition import superpose
from ..trajectories.frames import FrameReader
from .study import SHORT, Study
from .survey import Subject

#: Frames of each sample in the page.
_MOST_FRAMES = 60


def view_frames(
    study: Study, conformations: NDArray[np.float32], names: list[str]
) -> dict[str, list[str]]:
    """Return PDB texts by sample, superposed on the first conformation; typical ones first."""
    sets = {"typical conformations of MD" if names[0] != "topology file" else "topology file":
            conformations}  # fmt: skip
    for label, sample in study.samples().items():
        if label != SHORT:
            sets[label] = sample.frames[:: -(-len(sample.frames) // _MOST_FRAMES)]
    texts = {}
    for label, positions in sets.items():
        frames = superpose(positions, conformations[:1], study.subject.heavy)
        texts[label] = [pdb_text(frame, study.subject.molecule) for frame in frames]
    return texts


def pdb_text(positions: NDArray[np.floating], molecule: Molecule) -> str:
    """Return positions [N, 3] / nm as a PDB file with its bonds (CONECT)."""
    lines = []
    chains = _chain_letters(molecule)
    for i, (x, y, z) in enumerate(10.0 * np.asarray(positions, dtype=float)):
        name = molecule.atom_names[i][:4]
        # Names of up to three letters start in the second column, as elements of one letter do.
        name = name if len(name) == 4 or len(molecule.elements[i]) == 2 else f" {name}"
        lines.append(
            f"ATOM  {i + 1:5d} {name:<4} {molecule.residue_names[i][:3]:>3} {chains[i]}"
            f"{molecule.residue_id(i)[-4:]:>4}{molecule.insertion_code(i):1.1}   "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00"
            f"          {molecule.elements[i]:>2}"
        )
    lines += [f"CONECT{a + 1:5d}{b + 1:5d}" for a, b in molecule.bonds]
    return "\n".join([*lines, "END", ""])


def _chain_letters(molecule: Molecule) -> list[str]:
    """Return each atom's chain in the one column that PDB files have for it.

    Longer names of mmCIF files become letters in the order of the chains, and so does no name.
    """
    names = list(dict.fromkeys(molecule.chain_id(i) for i in range(molecule.num_atoms)))
    letters = {n: n if len(n) == 1 else chr(ord("A") + k % 26) for k, n in enumerate(names)}
    return [letters[molecule.chain_id(i)] for i in range(molecule.num_atoms)]


def write_frame(readers: list[FrameReader], frame: int, subject: Subject, path: Path) -> None:
    """Write one frame, counted from 0 over all trajectories in order, as a PDB file.

    Raises
    ------
    ValueError
        If there is no such frame.
    """
    if frame < 0:
        raise ValueError(f"frames are counted from 0; there is no frame {frame}")
    seen = 0
    for reader in readers:
        for piece in reader.chunks():
            if frame < seen + len(piece):
                text = pdb_text(piece[frame - seen], subject.molecule)
                write_bytes_atomically(path, text.encode())
                return
            seen += len(piece)
    raise ValueError(f"there is no frame {frame}: the trajectories have {seen} frames, from 0")
