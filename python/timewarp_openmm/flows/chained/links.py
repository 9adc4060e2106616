"""Flows of parts, joined into one flow of a molecule.

A link is a flow of some atoms of a molecule of its own, given others of these. Where the atoms of
that molecule lie in the whole one says what the link sees and places there: of a chain of parts of
one molecule the two are the same (`chained.flow`), and in a peptide each residue's link knows a
capped residue (`residues.peptide`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...molecule.graph import Molecule
from ..base import Flow, FlowConfig
from ..internal.flow import InternalFlow


@dataclass(frozen=True)
class Link:
    """A flow of a part and its place in the whole.

    Attributes
    ----------
    flow : InternalFlow
    moved : sequence of int
        The atoms of its own molecule that it makes, ascending.
    atoms : sequence of int
        The whole molecule's atom for each of its own. For those that it neither makes nor sees, any
        that is there.
    """

    flow: InternalFlow
    moved: Sequence[int]
    atoms: Sequence[int]

    @property
    def made(self) -> list[int]:
        """The atoms of the whole that it makes, in the order of its own."""
        return [self.atoms[i] for i in self.moved]


class Place(nn.Module):
    """Where the atoms of a link's own molecule, of which it makes some, lie in the whole."""

    atoms: Tensor
    moved: Tensor
    made: Tensor

    def __init__(self, link: Link) -> None:
        super().__init__()
        for name, indices in (("atoms", link.atoms), ("moved", link.moved), ("made", link.made)):
            index = torch.tensor(list(indices), dtype=torch.long)
            self.register_buffer(name, index, persistent=False)

    def take(self, x: Tensor) -> Tensor:
        """Return rows [B, n, 3] of the link's own atoms of those of the whole [B, N, 3]."""
        return x.index_select(1, self.atoms)

    def put(self, x: Tensor, own: Tensor) -> Tensor:
        """Return the whole [B, N, 3] with what the link has made of its own atoms [B, n, 3]."""
        whole = x.expand(own.size(0), x.size(1), 3)
        return whole.index_copy(1, self.made, own.index_select(1, self.moved))


class LinkedFlow(Flow):
    """Flow of independent draws, made link by link; follows the model contract.

    Its density is of the kind that `InternalFlow` has: of the 3N - 6 shape coordinates, or, with
    context, of the 3M positions of the moved atoms.

    Parameters
    ----------
    config : FlowConfig
    molecule : Molecule
        The whole.
    links : sequence of Link
        In the order in which they are made. What one sees is context, or made before it.
    has_context : bool
        Whether some atoms are made by none of them.

    Attributes
    ----------
    noise_size : int
        6 N - 6, or 6 M: the deviates of each link's shape, link after link, and then the auxiliary
        velocities of the moved atoms, which stay as they are drawn.
    """

    draws_independently = True
    feels_rigid_motion = False

    by_part: Tensor
    in_order: Tensor
    context_index: Tensor

    def __init__(
        self, config: FlowConfig, molecule: Molecule, links: Sequence[Link], has_context: bool
    ) -> None:
        super().__init__(config, molecule)
        flows = [link.flow for link in links]
        self.links = nn.ModuleList(flows)
        self.places = nn.ModuleList(Place(link) for link in links)
        self.auxiliary_velocities = False
        self.precision = "double"
        moved = sorted(atom for link in links for atom in link.made)
        self.moved = moved if has_context else None
        if has_context:
            self.seen = sorted({link.atoms[i] for link in links for i in link.flow.seen or ()})
        self.stretches = [
            (link.atoms[a], link.atoms[b]) for link in links for a, b in link.flow.stretches or ()
        ]
        self.noise_sizes = [flow.noise_size for flow in flows]
        self.noise_size = sum(self.noise_sizes)
        self.stretch_sizes = [len(flow.stretches or ()) for flow in flows]
        shape_ends = torch.tensor([flow.num_shape for flow in flows]).cumsum(0).tolist()
        shape_starts = [0, *shape_ends[:-1]]
        self.torsion_noise = [
            start + place
            for start, flow in zip(shape_starts, flows, strict=True)
            for place in flow.torsion_noise or ()
        ]
        by_part: list[int] = []
        for start, end, link in zip(shape_starts, shape_ends, links, strict=True):
            by_part += range(start, end)
            for atom in link.made:
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

    def check_support(self, positions: Tensor) -> Tensor:
        """Return which frames [F] are outside of the chart of some link."""
        outside = super().check_support(positions)
        for link, place in zip(self.links, self.places, strict=True):
            outside = outside | link.check_support(place.take(positions))  # type: ignore[operator]
        return outside

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Flow.sample`; links that the noise leads out of their chart make NaN."""
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
        for link, place in zip(self.links, self.places):  # noqa: B905 (TorchScript)
            own_y = place.take(y)  # type: ignore[operator]
            own_w = place.take(w)  # type: ignore[operator]
            own_x = place.take(x)  # type: ignore[operator]
            noise.append(link.find_noise(own_y, own_w, own_y, own_x, lag))  # type: ignore[operator]
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
        for i, (link, place) in enumerate(zip(self.links, self.places)):  # noqa: B905
            around = place.take(y)  # type: ignore[operator]
            own_x = place.take(x)  # type: ignore[operator]
            own_y, own_w, own_log_q = link.propose(  # type: ignore[operator]
                around, own_x, of_links[i], lag, self._kept(kept, i)
            )
            y = place.put(y, own_y)  # type: ignore[operator]
            w = place.put(w, own_w)  # type: ignore[operator]
            log_q = log_q + own_log_q
        return y, w, log_q

    def _log_density(
        self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor, kept: Tensor | None
    ) -> Tensor:
        y = self._with_context(y, x)
        log_q = torch.zeros(y.size(0), dtype=torch.float64, device=y.device)
        for i, (link, place) in enumerate(zip(self.links, self.places)):  # noqa: B905
            own_y = place.take(y)  # type: ignore[operator]
            own_w = place.take(w)  # type: ignore[operator]
            own_x = place.take(x)  # type: ignore[operator]
            own = link.log_density(  # type: ignore[operator]
                own_y, own_w, own_y, own_x, lag, self._kept(kept, i)
            )
            log_q = log_q + own
        return log_q

    def _kept(self, kept: Tensor | None, link: int) -> Tensor | None:
        """Return which stretches of one link keep their lengths."""
        return None if kept is None else torch.split(kept, self.stretch_sizes)[link]

    def _with_context(self, y: Tensor, x: Tensor) -> Tensor:
        """Return positions [B, N, 3] with the context atoms of x."""
        context = x.index_select(1, self.context_index)
        return y.index_copy(1, self.context_index, context.expand(y.size(0), -1, 3))
