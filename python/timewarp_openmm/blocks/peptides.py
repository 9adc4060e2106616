"""The peptides of a structure, and ends of chains, that flows of residues make; and why others are
not made.

A peptide is served whole where it is a single chain that begins with an acetyl group or NH3+ and
ends with an N-methyl group or COO-. Of any other chain with such an end its last residues are,
given what comes before them, and of one that begins with NH3+ the first, given what comes after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..flows.chained.links import LinkedFlow
from ..flows.residues.peptide import PlacedResidue, peptide_flow
from ..flows.residues.residue import ResidueFlow, read_residue_flow
from ..library import RESIDUE, Library, open_library
from ..molecule.amino_acids import Backbone, identify
from ..molecule.graph import Molecule, molecule_from_topology
from ..molecule.isomorphism import StereoisomerError
from ..molecule.matching import PartFinder
from ..molecule.selection import residue_label
from .peptide_chains import Chain, find_chains, neighbours_outside
from .reasons import Diagnosis

if TYPE_CHECKING:
    from openmm import app, unit


class NotServedError(ValueError):
    """A library does not make a chain; the message says of which residue, and why."""


@dataclass(frozen=True)
class Peptide:
    """What flows of residues make of a structure: a whole peptide, or the end of a chain.

    Attributes
    ----------
    residues : tuple of str
        Of the structure, such as ``A:VAL2``.
    entries : tuple of str
        The library's names of these.
    particles : tuple of int
        The structure's atom for each of the model's.
    moved : tuple of int
        Those of the model's atoms that it moves; the others are context.
    molecule : Molecule
        The model's.
    positions : array [N, 3], nm
        Its atoms in the structure.
    flow : LinkedFlow
    """

    residues: tuple[str, ...]
    entries: tuple[str, ...]
    particles: tuple[int, ...]
    moved: tuple[int, ...]
    molecule: Molecule
    positions: NDArray[np.float64]
    flow: LinkedFlow


class PeptideFinder:
    """Finds what a library makes of a structure.

    Parameters
    ----------
    topology : openmm.app.Topology
        Of the whole System.
    positions : array or Quantity [N, 3], nm
    library : Library, path or str
        Built with ``--kind residues``.

    Attributes
    ----------
    library : Library
    chains : list of Chain
    """

    def __init__(
        self,
        topology: app.Topology,
        positions: NDArray[np.floating] | unit.Quantity,
        library: Library | str | PathLike[str],
    ) -> None:
        self.library = library if isinstance(library, Library) else open_library(library)
        self._files = {entry.residue: entry.model for entry in self.library.of_kind(RESIDUE)}
        if not self._files:
            raise ValueError(
                f"the library {self.library.name} has no flows of whole residues; build one with "
                "timewarp-openmm library build --kind residues"
            )
        self._flows: dict[str, ResidueFlow] = {}
        self._topology = topology
        finder = PartFinder(topology, positions)
        if finder.positions is None:
            raise ValueError("positions= of all atoms are needed, to tell L residues from D ones")
        self._graph, self._positions = finder.graph, finder.positions
        self._diagnosis = Diagnosis(topology, self._graph, self._positions, self.library, RESIDUE)
        self.chains = find_chains(topology, self._graph)

    def _why_not(self, chain: Chain) -> str | None:
        """Return why the library does not make a chain, or None if it does."""
        if chain.begins_charged and chain.ends_charged and len(chain.residues) == 1:
            return (
                f"{residue_label(chain.residues[0])} is not served: it is an amino acid by itself, "
                "with both ends charged; fit a model of it (fit)"
            )
        for number, residue in enumerate(chain.residues):
            reason = self._diagnosis.why_none(residue, chain.charged_end(number))
            if reason is not None:
                return f"{residue_label(residue)} is not served: {reason.text}"
        if chain.is_ring:
            return f"{residue_label(chain.residues[0])} is in a ring of residues, which has no end"
        if not chain.has_end and chain.next_nitrogen is None:
            return (
                "the chain does not end with an N-methyl group or COO- after "
                f"{residue_label(chain.residues[-1])}, and libraries have no models of other ends"
            )
        return None

    def make(self, chain: Chain) -> Peptide:
        """Return the flow of a chain whose residues are all served: of a whole peptide, or of the
        end or the beginning of one.

        Raises
        ------
        NotServedError
            Naming the first residue that is not served, and why.
        """
        if (reason := self._why_not(chain)) is not None:
            raise NotServedError(reason)
        names = tuple(self._name(chain, number) for number in range(len(chain.residues)))
        known = [self._atoms_of(chain, number) for number in range(len(chain.residues))]
        particles = tuple(sorted({atom for atoms in known for atom in atoms}))
        molecule = molecule_from_topology(self._topology, particles=particles)
        positions = self._positions[list(particles)]
        place = {atom: i for i, atom in enumerate(particles)}
        placed = [
            PlacedResidue(self._flow(name), tuple(place[i] for i in atoms))
            for name, atoms in zip(names, known, strict=True)
        ]
        labels = tuple(residue_label(residue) for residue in chain.residues)
        try:
            flow = peptide_flow(
                molecule,
                torch.tensor(positions),
                placed,
                has_context=not chain.is_whole,
                goes_on=chain.next_nitrogen is not None,
            )
        except StereoisomerError as error:
            raise NotServedError(f"{', '.join(labels)}: {error}") from error
        moved = tuple(range(len(particles))) if flow.moved is None else tuple(flow.moved)
        self._refuse_other_bonds([particles[i] for i in moved], set(particles))
        return Peptide(labels, names, particles, moved, molecule, positions, flow)

    def _refuse_other_bonds(self, moved: Sequence[int], inside: set[int]) -> None:
        """Refuse atoms that would move away from others that they are bonded to."""
        atoms = list(self._topology.atoms())
        for atom in moved:
            for other in sorted(set(self._graph[atom]) - inside):
                label, far = (residue_label(atoms[i].residue) for i in (atom, other))
                raise NotServedError(
                    f"{label} is not served: its {atoms[atom].name} is bonded to "
                    f"{far}:{atoms[other].name}"
                )

    def _flow(self, name: str) -> ResidueFlow:
        if name not in self._flows:
            self._flows[name] = read_residue_flow(Path(self._files[name]))
        return self._flows[name]

    def _name(self, chain: Chain, number: int) -> str:
        """Return the library's name of a residue."""
        known = identify(chain.residues[number], self._graph, chain.backbones[number])
        assert known is not None
        return chain.charged_end(number) + known.name

    def _atoms_of(self, chain: Chain, number: int) -> list[int]:
        """Return the atoms of a residue and those of its neighbours that its flow knows."""
        residue, backbone = chain.residues[number], chain.backbones[number]
        before: Sequence[int] = ()
        if number == 0 and chain.acetyl:
            before = chain.acetyl
        elif number > 0 or not chain.begins_charged:
            before = self._before(residue, backbone)
        after: Sequence[int] = chain.methyl
        if number + 1 < len(chain.residues):
            after = [chain.backbones[number + 1].nitrogen]
        elif chain.next_nitrogen is not None:
            after = [chain.next_nitrogen]
        return [*before, *(atom.index for atom in residue.atoms()), *after]

    def _before(self, residue: app.topology.Residue, backbone: Backbone) -> tuple[int, ...]:
        """Return the carbonyl before a residue, and the carbon that it hangs on."""
        # A trans peptide bond was found there, so that there is one.
        carbon = neighbours_outside(self._graph, backbone.nitrogen, "C", residue)[0]
        return (carbon, *(i for i in self._graph[carbon] if i != backbone.nitrogen))
