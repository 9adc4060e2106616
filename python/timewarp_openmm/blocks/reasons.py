"""Why a residue gets no block, in words that say what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ..library import RESIDUE, SIDE_CHAIN, Library
from ..molecule.amino_acids import (
    CAPS,
    AminoAcid,
    Backbone,
    find_backbone,
    identify,
    missing_heavy_atoms,
)
from ..molecule.chain_ends import FIRST, INNER_ONLY, LAST, hydrogens_of_end, oxygens_of_end
from ..molecule.selection import is_water, residue_label
from ..molecule.torsions import torsion

if TYPE_CHECKING:
    from openmm import app

#: nm; a peptide bond is 0.133 nm long, and dynamics stretch it by a few hundredths at most.
LONGEST_PEPTIDE_BOND = 0.2
_FIX = "add them, with PDBFixer for instance"
#: By the kind of what a library has.
_OWN_MODEL = {
    SIDE_CHAIN: "fit a model of it in place (fit --particles), or of a capped residue of this kind "
    "(fit --moved sidechain)",
    RESIDUE: "fit a model of the whole molecule (fit), or of its side chain alone in place "
    "(fit --particles)",
}
_BUILD_END = (
    "build one, into the same library (timewarp-openmm library build --kind residues --residue {})"
)
_IN_PLACE = "fit a model of it in place (fit --particles)"


@dataclass(frozen=True)
class Reason:
    """Why a residue gets no block.

    Attributes
    ----------
    text : str
    incomplete : bool
        Whether atoms or bonds are missing, so that no force field takes the residue either.
    """

    text: str
    incomplete: bool = False


NO_AMINO_ACID = Reason(
    "it is no amino acid; make a model of it in place (fit --particles), or of the molecule alone "
    "(fit), and give it with --model"
)
MIRRORED = Reason(
    "it is another stereoisomer than the library's model: the chirality of its side chain differs; "
    f"{_IN_PLACE}"
)
NO_PLACE = Reason(
    "the atoms around its side chain are bonded otherwise than the library's model has them; "
    f"{_IN_PLACE}"
)


def has_side_chain(residue: app.topology.Residue) -> bool:
    """Tell what may have a side chain from water, ions and the caps of chains."""
    atoms = sum(atom.element is not None for atom in residue.atoms())
    return atoms > 1 and not is_water(residue) and residue.name not in CAPS


def _lacks_atoms(residue: app.topology.Residue) -> Reason | None:
    missing = missing_heavy_atoms(residue)
    if not missing:
        return None
    return Reason(f"it lacks the atoms {', '.join(missing)}; {_FIX}", incomplete=True)


class Diagnosis:
    """Says of residues of one structure why a library does not serve them.

    Parameters
    ----------
    graph : networkx.Graph
        Bonds of the topology; nodes carry `element` and `name`.
    positions : array [N, 3], nm
    library : Library
    kind : str
        Of the models that are asked for.
    """

    def __init__(
        self,
        topology: app.Topology,
        graph: nx.Graph,
        positions: NDArray[np.float64],
        library: Library,
        kind: str,
    ) -> None:
        self._graph, self._positions = graph, positions
        self._library, self._kind, self._remedy = library, kind, _OWN_MODEL[kind]
        self._atoms = list(topology.atoms())

    def why_none(self, residue: app.topology.Residue, end: str = "") -> Reason | None:
        """Return why no model fits a residue; None if bonds and backbone do not say it.

        Parameters
        ----------
        end : str
            FIRST or LAST where the model of a residue at that end of a chain is asked for.
        """
        if not has_side_chain(residue):
            return Reason("it has no side chain")
        backbone = find_backbone(residue, self._graph)
        amino_acid = None if backbone is None else identify(residue, self._graph, backbone)
        if backbone is None or amino_acid is None:
            return self._unknown(residue, backbone)
        return self._why_not_this(residue, amino_acid, end)

    def _unknown(self, residue: app.topology.Residue, backbone: Backbone | None) -> Reason:
        lacking = _lacks_atoms(residue)
        if lacking is not None:
            return lacking
        if not nx.is_connected(self._graph.subgraph(atom.index for atom in residue.atoms())):
            return Reason(
                f"its bonds are not known: {residue.name} is no standard residue; add its bonds to "
                "the structure (CONECT records)",
                incomplete=True,
            )
        if backbone is None:
            return NO_AMINO_ACID
        return Reason(f"its side chain is none of the 20 amino acids'; {self._remedy}")

    def _why_not_this(
        self, residue: app.topology.Residue, amino_acid: AminoAcid, end: str
    ) -> Reason | None:
        name = amino_acid.name
        if amino_acid.links and name != "CYX":
            inner, outer = amino_acid.links[0]
            return Reason(
                f"its {self._atoms[inner].name} is bonded to {self._describe(outer)}, so that it "
                f"is not the side chain that the library knows; {_IN_PLACE}"
            )
        if amino_acid.missing:
            # Cysteine without its sulfur has the heavy atoms of alanine.
            missing = ", ".join(amino_acid.missing)
            lacks_hydrogens = Reason(f"it lacks the hydrogens {missing}; {_FIX}", incomplete=True)
            return _lacks_atoms(residue) or lacks_hydrogens
        if name in self._library.not_moved:
            return Reason(f"the library does not move {name}: {self._library.not_moved[name]}")
        if all(entry.residue != end + name for entry in self._library.of_kind(self._kind)):
            is_made = end and name not in INNER_ONLY
            remedy = _BUILD_END.format(end + name) if is_made else self._remedy
            return Reason(f"the library {self._library.name} has no model of {end}{name}; {remedy}")
        return (
            self._end_of_chain(residue, amino_acid.backbone, end)
            or self.unfit_chain(residue)
            or self._stereoisomer(amino_acid)
        )

    def _describe(self, atom: int) -> str:
        return f"{residue_label(self._atoms[atom].residue)}:{self._atoms[atom].name}"

    def _end_of_chain(
        self, residue: app.topology.Residue, backbone: Backbone, end: str
    ) -> Reason | None:
        sides = (
            (FIRST, "before", backbone.nitrogen, "C"),
            (LAST, "after", backbone.carbon, "N"),
        )
        missing = [
            where
            for own, where, atom, other in sides
            if own != end and not self._beyond(residue, atom, other)
        ]
        if not missing:
            return None
        if self._kind == RESIDUE and (neutral := self._neutral_end(backbone)) is not None:
            return neutral
        return Reason(
            f"no residue is bonded {' and '.join(missing)} it, of which the library's model must "
            "see atoms: the chain ends or is broken there; add missing residues (PDBFixer) or caps "
            "(ACE, NME)"
        )

    def _neutral_end(self, backbone: Backbone) -> Reason | None:
        """Return that a residue ends in NH2 or COOH, if it does."""
        if hydrogens_of_end(self._graph, backbone.nitrogen) == 2:
            group, charged = "NH2", "NH3+"
        elif oxygens_of_end(self._graph, backbone.carbon) == [0, 1]:
            group, charged = "COOH", "COO-"
        else:
            return None
        return Reason(
            f"its chain ends with {group} there, and the library has models of ends with {charged} "
            "only; give it the protonation of pH 7, or caps (ACE, NME)"
        )

    def unfit_chain(self, residue: app.topology.Residue) -> Reason | None:
        """Return what is wrong with the peptide bonds of a residue, whose model fits otherwise."""
        backbone = find_backbone(residue, self._graph)
        if backbone is None:
            return None
        for carbon, nitrogen in self._peptide_bonds(residue, backbone):
            inside = {atom.index for atom in residue.atoms()}
            other = carbon if nitrogen in inside else nitrogen
            neighbour = residue_label(self._atoms[other].residue)
            length = float(np.linalg.norm(self._positions[carbon] - self._positions[nitrogen]))
            if length > LONGEST_PEPTIDE_BOND:
                return Reason(
                    f"its peptide bond to {neighbour} is {length:.2f} nm long: the chain is broken "
                    "there, or lies in two images of the box; add missing residues (PDBFixer), or "
                    "make the molecule whole"
                )
            if self._is_cis(carbon, nitrogen):
                return Reason(
                    f"its peptide bond with {neighbour} is cis, and the library's models are made "
                    "between trans ones"
                )
        return None

    def _peptide_bonds(
        self, residue: app.topology.Residue, backbone: Backbone
    ) -> Iterator[tuple[int, int]]:
        """Yield (C, N) of the bonds to the residues before and after."""
        for carbon in self._beyond(residue, backbone.nitrogen, "C"):
            yield carbon, backbone.nitrogen
        for nitrogen in self._beyond(residue, backbone.carbon, "N"):
            yield backbone.carbon, nitrogen

    def _beyond(self, residue: app.topology.Residue, atom: int, element: str) -> list[int]:
        return [
            i
            for i in self._graph[atom]
            if self._graph.nodes[i]["element"] == element
            and self._atoms[i].residue.index != residue.index
        ]

    def _is_cis(self, carbon: int, nitrogen: int) -> bool:
        first, last = self._alpha(carbon, nitrogen), self._alpha(nitrogen, carbon)
        if first is None or last is None:
            return False
        return abs(torsion(self._positions, (first, carbon, nitrogen, last))) < np.pi / 2

    def _alpha(self, atom: int, other: int) -> int | None:
        """Return the alpha carbon, or a cap's, on an atom of a peptide bond."""
        nodes = self._graph.nodes
        carbons = [i for i in self._graph[atom] if i != other and nodes[i]["element"] == "C"]
        return min(carbons, key=lambda i: (nodes[i]["name"] != "CA", i), default=None)

    def _stereoisomer(self, amino_acid: AminoAcid) -> Reason | None:
        x, atoms = self._positions, amino_acid.atoms
        if "CB" not in atoms:
            return None
        alpha = x[atoms["CA"]]
        n, c, beta = (x[i] - alpha for i in (atoms["N"], amino_acid.backbone.carbon, atoms["CB"]))
        # The CORN rule: seen from HA, CO, R and N follow each other clockwise in L residues.
        if float(np.dot(n, np.cross(c, beta))) < 0:
            return Reason(
                f"it is a D residue, and the library's models are of L residues; {_IN_PLACE}"
            )
        return None
