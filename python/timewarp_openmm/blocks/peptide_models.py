"""Model files of peptides that are joined from a library's residues, without any training."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..contract import ModelMetadata
from ..flows.export import export_model
from ..library import RESIDUE, Library
from ..molecule.selection import residue_label, span_label
from .kinds import END, PEPTIDE
from .peptide_chains import Chain
from .peptides import NotServedError, Peptide, PeptideFinder
from .sidechains import Block, Cut, Unserved

if TYPE_CHECKING:
    from openmm import app, unit


def peptide_blocks(
    topology: app.Topology,
    positions: NDArray[np.floating] | unit.Quantity,
    library: Library | str | PathLike[str],
    folder: str | PathLike[str],
    longest: int = 4,
    end: int = 1,
) -> list[Block]:
    """Return a block for each short peptide, whole, and for the ends of longer chains.

    Peptides begin with an acetyl group or NH3+, and end with an N-methyl group or COO-.

    Parameters
    ----------
    topology : openmm.app.Topology
        Of the whole System.
    positions : array or Quantity [N, 3], nm
        Of all its atoms.
    library : Library, path or str
        Of whole residues (``library build --kind residues``).
    folder : path
        Where the models are written; one that is there already is used again.
    longest : int
        Residues of peptides that are moved whole.
    end : int
        Residues that are moved at the end of other chains. Where one begins with NH3+, the first
        one is moved, too.

    Returns
    -------
    list of Block
        `unserved_chains` says which chains get none, and why.

    Examples
    --------
    >>> for block in peptide_blocks(topology, positions, "units", "models"):  # doctest: +SKIP
    ...     integrator.addBlock(block.model, block.particles)
    """
    return list(find_peptides(topology, positions, library, folder, longest, end).blocks)


def find_peptides(
    topology: app.Topology,
    positions: NDArray[np.floating] | unit.Quantity,
    library: Library | str | PathLike[str],
    folder: str | PathLike[str],
    longest: int = 4,
    end: int = 1,
    is_wanted: Callable[[Collection[int]], bool] = lambda moved: True,
) -> Cut:
    """Return both: the blocks and the chains without one; see `peptide_blocks`.

    Parameters
    ----------
    is_wanted : callable
        Given the particles that a block would move; no model is written for those that are not.
    """
    finder = PeptideFinder(topology, positions, library)
    atoms = list(topology.atoms())
    blocks, unserved = [], []
    for chain, made in _chosen(finder, longest, end):
        if isinstance(made, Peptide):
            moved = tuple(made.particles[i] for i in made.moved)
            if is_wanted(moved):
                blocks.append(_block(made, moved, atoms, finder.library, Path(folder)))
        else:
            unserved.append(_unserved(chain, made))
    return Cut(tuple(blocks), tuple(unserved))


def unserved_chains(
    topology: app.Topology,
    positions: NDArray[np.floating] | unit.Quantity,
    library: Library | str | PathLike[str],
    longest: int = 4,
    end: int = 1,
) -> list[Unserved]:
    """Return the chains, or charged beginnings of chains, that `peptide_blocks` has no block for,
    by their last residue and by their first, each with the reason."""
    finder = PeptideFinder(topology, positions, library)
    return [
        _unserved(chain, reason)
        for chain, reason in _chosen(finder, longest, end)
        if isinstance(reason, str)
    ]


def _unserved(chain: Chain, reason: str) -> Unserved:
    return Unserved(residue_label(chain.residues[-1]), reason, False)


def _chosen(finder: PeptideFinder, longest: int, end: int) -> Iterator[tuple[Chain, Peptide | str]]:
    """Yield of each chain the part that is asked for, and what is made of it or why nothing is."""
    if longest < 0 or end < 1:
        raise ValueError(f"longest must be 0 or more and end 1 or more, got {longest} and {end}")
    for chain in finder.chains:
        for part in _parts(chain, longest, end):
            try:
                yield part, finder.make(part)
            except NotServedError as reason:
                yield part, str(reason)


def _parts(chain: Chain, longest: int, end: int) -> list[Chain]:
    count = len(chain.residues)
    if chain.has_beginning and count <= longest:
        return [chain]
    if not chain.begins_charged or count == 1:
        return [chain.end(min(end, count))]
    # The first residue hangs on what comes after it, so that it is another part.
    return [chain.beginning(), chain.end(min(end, count - 1))]


def _block(
    made: Peptide,
    moved: tuple[int, ...],
    atoms: list[app.topology.Atom],
    library: Library,
    folder: Path,
) -> Block:
    path = folder / f"{'-'.join(made.entries)}-{_digest(made, library)}.pt"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_peptide_model(made, library, path)
    residues = [atoms[i].residue for i in moved]
    alone = {entry.residue: entry.acceptance for entry in library.of_kind(RESIDUE)}
    return Block(
        span_label(residues),
        min(residue.index for residue in residues),
        str(path),
        made.particles,
        moved,
        PEPTIDE if made.flow.moved is None else END,
        "-".join(made.entries),
        math.prod(alone[name] for name in made.entries),
    )


def _digest(made: Peptide, library: Library) -> str:
    """Return a short name of all that the model depends on but the structure's own positions."""
    atoms = [place.atoms.tolist() for place in made.flow.places]  # type: ignore[operator, union-attr]
    molecule = made.molecule.without_bond_orders()
    text = json.dumps([library.digest, made.entries, atoms, repr(molecule), __version__])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_peptide_model(
    peptide: Peptide, library: Library, out: str | Path, force: bool = False
) -> None:
    """Write the model of a peptide, or of the end of a chain.

    Raises
    ------
    FileExistsError, FileNotFoundError, ContractError
        As `export_model`.
    """
    flow = peptide.flow
    acceptance = {entry.residue: entry.acceptance for entry in library.of_kind(RESIDUE)}
    metadata = ModelMetadata(
        molecule=peptide.molecule,
        noise_size=flow.noise_size,
        moved=flow.moved,
        stretches=[list(pair) for pair in flow.stretches or ()],
        torsion_noise=flow.torsion_noise,
        auxiliary_velocities=flow.auxiliary_velocities,
        precision=flow.precision,
        temperature=library.temperature,
        coordinates="peptide",
        lag_times=[math.inf],
        lag_weights=[1.0],
        reference_positions=(peptide.positions - peptide.positions.mean(axis=0)).tolist(),
        force_field=list(library.force_field),
        provenance={
            "peptide": {
                "residues": list(peptide.residues),
                "entries": list(peptide.entries),
                "acceptance_alone": {name: acceptance[name] for name in peptide.entries},
                "library": library.name,
                "library_sha256": library.digest,
            }
        },
        package_version=__version__,
    )
    export_model(flow, metadata, out, overwrite=force)


def describe_peptide(name: str, peptide: Peptide, library: Library) -> str:
    """Return the model's card in Markdown: what it is made of."""
    acceptance = {entry.residue: entry.acceptance for entry in library.of_kind(RESIDUE)}
    residues = [
        f"- {label}: {entry}, of which {acceptance[entry]:.1%} of proposals are accepted with "
        "nothing but caps"
        for label, entry in zip(peptide.residues, peptide.entries, strict=True)
    ]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"Independent draws for {len(peptide.moved)} atoms at {library.temperature:g} K, "
            f"{', '.join(library.force_field)}: joined from the residues of the library "
            f"{library.name} (SHA-256 {library.digest}), without training and without any data of "
            "this peptide.",
            "",
            *residues,
            f"- timewarp-openmm {__version__}",
            "",
        ]
    )
