"""A flow whose parts are made one after the other, each given those that are there.

The density of a conformation is the product of conditional densities,

    q(y) = q_1(y_1) q_2(y_2 | y_1) q_3(y_3 | y_1, y_2) ...

The first part is a flow of the shape of its atoms alone, or, in a chain that moves a part of a
molecule, of its atoms given the chain's context. Each later part is a flow of its atoms' internal
coordinates given the conformation of the atoms around them, context of the chain and parts that are
there. Each part's volume element is the one that `InternalFlow` has, and since nothing that comes
later moves what is there, that of the whole is their product.

So new noise of a later part leaves all earlier ones where they are, to the last bit: a side chain
made last can be drawn anew while the backbone stands still, which the couplings of one flow for all
coordinates do not allow.

Chirality, equivalent atoms and the kinds of torsions are those of the whole molecule. A centre
whose neighbours lie in several parts keeps its chirality in the part that has the last of them.
"""

from torch import Tensor

from ...molecule.graph import Molecule
from ..internal.flow import InternalFlow
from .config import ChainedFlowConfig
from .links import Link, LinkedFlow
from .parts import ordered_parts


class ChainedFlow(LinkedFlow):
    """Flow of independent draws of one molecule, made part by part.

    Parameters
    ----------
    config : ChainedFlowConfig
    molecule : Molecule

    Raises
    ------
    ValueError
        If the parts cannot be made in this order (see `ordered_parts`), or one has no Z-matrix.
    """

    config_class = ChainedFlowConfig

    def __init__(self, config: ChainedFlowConfig, molecule: Molecule) -> None:
        parts = ordered_parts(config, molecule)
        links = []
        for number, part in enumerate(parts):
            later = [atom for other in parts[number + 1 :] for atom in other]
            whole = number == 0 and config.moved is None
            flow = InternalFlow(config.of_part(None if whole else part), molecule, sorted(later))
            links.append(Link(flow, part, range(molecule.num_atoms)))
        super().__init__(config, molecule, links, has_context=config.moved is not None)

    def fit_normalisation(self, positions: Tensor, weights: Tensor | None = None) -> None:
        """Measure means and variations of each part's coordinates; see `InternalFlow`."""
        for link in self.links:
            link.fit_normalisation(positions, weights)  # type: ignore[operator]
