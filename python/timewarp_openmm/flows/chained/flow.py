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

import torch
from torch import Tensor, nn

from ...molecule.graph import Molecule
from ..base import Flow
from ..internal.flow import InternalFlow
from .config import ChainedFlowConfig
from .parts import ordered_parts


class ChainedFlow(Flow):
    """Flow of independent draws, made part by part; follows the model contract.

    Its density is of the kind that `InternalFlow` has: of the 3N - 6 shape coordinates, or, with
    context, of the 3M positions of the moved atoms.

    Parameters
    ----------
    config : ChainedFlowConfig
    molecule : Molecule

    Attributes
    ----------
    noise_size : int
        6 N - 6, or 6 M: the deviates of each part's shape, part after part, and then the auxiliary
        velocities of the moved atoms, which stay as they are drawn.

    Raises
    ------
    ValueError
        If the parts cannot be made in this order (see `ordered_parts`), or one has no Z-matrix.
    """

    config_class = ChainedFlowConfig
    draws_independently = True
    feels_rigid_motion = False

    by_part: Tensor
    in_order: Tensor
    context_index: Tensor

    def __init__(self, config: ChainedFlowConfig, molecule: Molecule) -> None:
        super().__init__(config, molecule)
        parts = ordered_parts(config, molecule)
        links = []
        for number, part in enumerate(parts):
            later = [atom for other in parts[number + 1 :] for atom in other]
            whole = number == 0 and config.moved is None
            links.append(
                InternalFlow(config.of_part(None if whole else part), molecule, sorted(later))
            )
        self.links = nn.ModuleList(links)
        self.auxiliary_velocities = False
        self.precision = "double"
        self.moved = None if config.moved is None else list(config.moved)
        if self.moved is not None:
            self.seen = sorted({atom for link in links for atom in link.seen or ()})
        self.stretches = [bond for link in links for bond in link.stretches or ()]
        self.noise_sizes = [link.noise_size for link in links]
        self.noise_size = sum(self.noise_sizes)
        self.stretch_sizes = [len(link.stretches or ()) for link in links]
        shape_ends = torch.tensor([link.num_shape for link in links]).cumsum(0).tolist()
        shape_starts = [0, *shape_ends[:-1]]
        self.torsion_noise = [
            start + place
            for start, link in zip(shape_starts, links, strict=True)
            for place in link.torsion_noise or ()
        ]
        moved = sorted(atom for part in parts for atom in part)
        by_part: list[int] = []
        for start, end, part in zip(shape_starts, shape_ends, parts, strict=True):
            by_part += range(start, end)
            for atom in part:
                velocity = shape_ends[-1] + 3 * moved.index(atom)
                by_part += range(velocity, velocity + 3)
        columns = torch.tensor(by_part)
        for name, indices in (
            # The columns of the noise of one link after the other, and the way back.
            ("by_part", columns),
            ("in_order", columns.argsort()),
            (
                "context_index",
                torch.tensor([i for i in range(molecule.num_atoms) if i not in moved]).long(),
            ),
        ):
            self.register_buffer(name, indices, persistent=False)

    def fit_normalisation(self, positions: Tensor, weights: Tensor | None = None) -> None:
        """Measure means and variations of each part's coordinates; see `InternalFlow`."""
        for link in self.links:
            link.fit_normalisation(positions, weights)  # type: ignore[operator]

    def check_support(self, positions: Tensor) -> Tensor:
        """Return which frames [F] are outside of the chart of some part."""
        outside = super().check_support(positions)
        for link in self.links:
            outside = outside | link.check_support(positions)  # type: ignore[operator]
        return outside

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Flow.sample`; parts that the noise leads out of their chart are NaN."""
        return self._propose(x, noise, lag, None)

    @torch.jit.export
    def sample_constrained(
        self, x: Tensor, noise: Tensor, lag: Tensor, kept: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return proposals in which bonds `kept` [S] have the lengths that they have in x."""
        return self._propose(x, noise, lag, kept)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """See `Flow.log_prob`; -inf outside of the chart."""
        return self._log_density(y, w, x, lag, None)

    @torch.jit.export
    def log_prob_constrained(
        self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor, kept: Tensor
    ) -> Tensor:
        """Return the log density [B] of what varies where bonds [S] are kept; see the contract."""
        return self._log_density(y, w, x, lag, kept)

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """See `Flow.invert`."""
        y = self._with_context(y, x)
        noise: list[Tensor] = []
        for link in self.links:
            noise.append(link.find_noise(y, w, y, x, lag))  # type: ignore[operator]
        return torch.cat(noise, dim=1).index_select(1, self.in_order)

    def _propose(
        self, x: Tensor, noise: Tensor, lag: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if x.dim() == 2:
            x = x.unsqueeze(0)
        of_links = torch.split(noise.index_select(1, self.by_part), self.noise_sizes, dim=1)
        y = x
        w = torch.zeros((noise.size(0), self.num_atoms, 3), dtype=x.dtype, device=x.device)
        log_q = torch.zeros(noise.size(0), dtype=torch.float64, device=x.device)
        for i, link in enumerate(self.links):
            y, own_w, own_log_q = link.propose(  # type: ignore[operator]
                y, x, of_links[i], lag, self._kept(kept, i)
            )
            w = w + own_w
            log_q = log_q + own_log_q
        return y, w, log_q

    def _log_density(
        self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor, kept: Tensor | None
    ) -> Tensor:
        y = self._with_context(y, x)
        log_q = torch.zeros(y.size(0), dtype=torch.float64, device=y.device)
        for i, link in enumerate(self.links):
            own = link.log_density(y, w, y, x, lag, self._kept(kept, i))  # type: ignore[operator]
            log_q = log_q + own
        return log_q

    def _kept(self, kept: Tensor | None, link: int) -> Tensor | None:
        """Return which stretches of one link keep their lengths."""
        return None if kept is None else torch.split(kept, self.stretch_sizes)[link]

    def _with_context(self, y: Tensor, x: Tensor) -> Tensor:
        """Return positions [B, N, 3] with the chain's context atoms of x."""
        context = x.index_select(1, self.context_index)
        return y.index_copy(1, self.context_index, context.expand(y.size(0), -1, 3))
