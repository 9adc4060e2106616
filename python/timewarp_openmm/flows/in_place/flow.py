"""A flow of a fragment in place: it is trained among atoms that it does not know.

The flow itself is one of the molecule that the fragment belongs to, or of a part of that molecule.
Frames, energies and contexts are those of a larger structure, whose other atoms the flow neither
sees nor moves. A model file holds the flow of the molecule alone, which then serves wherever that
molecule is.

Its density is that of the flow of the molecule: of a whole one it is of the shape, which is placed
in the frame that three of its atoms have in x, and of a part it is of positions.
"""

from torch import Tensor

from ...molecule.graph import Molecule
from ...molecule.in_place import Fragment
from ..base import Flow
from ..chained.links import Link, LinkedFlow
from ..internal.flow import InternalFlow
from .config import InPlaceFlowConfig


class InPlaceFlow(LinkedFlow):
    """Flow of independent draws of a fragment among other atoms.

    Parameters
    ----------
    config : InPlaceFlowConfig
    molecule : Molecule
        The whole structure; it may be of several molecules.

    Raises
    ------
    ValueError
        If the known atoms are not in one piece, or have no Z-matrix.
    """

    config_class = InPlaceFlowConfig

    def __init__(self, config: InPlaceFlowConfig, molecule: Molecule) -> None:
        known = config.known or tuple(range(molecule.num_atoms))
        fragment = Fragment(known, config.moved or known)
        flow = InternalFlow(config.of_fragment(fragment), fragment.molecule(molecule))
        link = Link(flow, fragment.own_moved or range(len(known)), known)
        has_context = len(fragment.moved) < molecule.num_atoms
        super().__init__(config, molecule, [link], has_context)
        self.known = list(known)
        if has_context and fragment.own_moved is None:
            self.seen = list(known)

    def fit_normalisation(self, positions: Tensor, weights: Tensor | None = None) -> None:
        """Measure means and variations of the fragment's coordinates; see `InternalFlow`."""
        for link, place in zip(self.links, self.places, strict=True):
            link.fit_normalisation(place.take(positions), weights)  # type: ignore[operator]

    def as_model(self) -> tuple[Flow, list[int]]:
        """Return the flow of the known atoms, and these."""
        (flow,) = self.links
        assert isinstance(flow, Flow)
        return flow, self.known
