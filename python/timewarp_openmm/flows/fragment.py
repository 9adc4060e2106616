"""A flow of a part as a model of the atoms that it looks at, which fits into other molecules."""

import dataclasses

import torch
from torch import Tensor, nn

from ..contract import ContractError, ModelMetadata
from ..molecule.fragments import connected
from .base import Flow


class OfFragment(nn.Module):
    """A flow given some of its molecule's atoms alone; follows the model contract.

    Whatever the flow is told of the others has no influence on what it does.

    Parameters
    ----------
    flow : Flow
    atoms : list of int
        That the model knows, in its order.
    positions : Tensor [N, 3], nm
        Where to put the others.
    """

    atoms: Tensor
    others: Tensor

    def __init__(self, flow: nn.Module, atoms: list[int], positions: Tensor) -> None:
        super().__init__()
        self.flow = flow
        self.register_buffer("atoms", torch.tensor(atoms, dtype=torch.long))
        self.register_buffer("others", positions)

    def _whole(self, x: Tensor) -> Tensor:
        others = self.others.to(x.dtype)
        if x.dim() == 2:
            return others.index_copy(0, self.atoms, x)
        return others.expand(x.size(0), -1, -1).index_copy(1, self.atoms, x)

    def _own(self, y: Tensor) -> Tensor:
        return y.index_select(1, self.atoms)

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Flow.sample`."""
        y, w, log_q = self.flow.sample(self._whole(x), noise, lag)  # type: ignore[operator]
        return self._own(y), self._own(w), log_q

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """See `Flow.log_prob`."""
        whole_y, whole_w, whole_x = self._whole(y), self._whole(w), self._whole(x)
        log_q: Tensor = self.flow.log_prob(whole_y, whole_w, whole_x, lag)  # type: ignore[operator]
        return log_q

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        """See `Flow.invert`."""
        whole_y, whole_w, whole_x = self._whole(y), self._whole(w), self._whole(x)
        noise: Tensor = self.flow.invert(whole_y, whole_w, whole_x, lag)  # type: ignore[operator]
        return noise

    @torch.jit.export
    def sample_constrained(
        self, x: Tensor, noise: Tensor, lag: Tensor, kept: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the contract."""
        y, w, log_q = self.flow.sample_constrained(  # type: ignore[operator]
            self._whole(x), noise, lag, kept
        )
        return self._own(y), self._own(w), log_q

    @torch.jit.export
    def log_prob_constrained(
        self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor, kept: Tensor
    ) -> Tensor:
        """See the contract."""
        whole_y, whole_w, whole_x = self._whole(y), self._whole(w), self._whole(x)
        log_q: Tensor = self.flow.log_prob_constrained(  # type: ignore[operator]
            whole_y, whole_w, whole_x, lag, kept
        )
        return log_q


def cut_out(flow: Flow, metadata: ModelMetadata) -> tuple[nn.Module, ModelMetadata]:
    """Return a flow and its metadata without the atoms that it does not look at.

    Raises
    ------
    ContractError
        If what the flow does depends on one of them.
    """
    if flow.seen is None or metadata.molecule is None or metadata.reference_positions is None:
        return flow, metadata
    atoms = connected(metadata.molecule, flow.seen)
    if len(atoms) == metadata.molecule.num_atoms:
        return flow, metadata
    place = {atom: i for i, atom in enumerate(atoms)}
    positions = torch.tensor(metadata.reference_positions, dtype=torch.float64)
    _check_influence(flow, positions, [i for i in range(len(positions)) if i not in place])
    fragment = OfFragment(flow, atoms, positions)
    return fragment, dataclasses.replace(
        metadata,
        molecule=metadata.molecule.part(atoms),
        moved=[place[atom] for atom in metadata.moved_atoms()],
        stretches=[[place[a], place[b]] for a, b in metadata.stretches or []],
        reference_positions=[metadata.reference_positions[atom] for atom in atoms],
    )


@torch.no_grad()
def _check_influence(flow: Flow, positions: Tensor, others: list[int]) -> None:
    """Refuse a flow that atoms have an influence on which it says that it does not look at."""
    generator = torch.Generator().manual_seed(1)
    x = positions.unsqueeze(0)
    elsewhere = x.clone()
    elsewhere[:, others] += 0.1 * torch.randn(
        (1, len(others), 3), generator=generator, dtype=torch.float64
    )
    noise = torch.randn((8, flow.noise_size), generator=generator, dtype=torch.float64)
    lag = torch.full((8,), float("inf"), dtype=torch.float64)
    y, _, log_q = flow.sample(x[0], noise, lag)
    other, _, other_log_q = flow.sample(elsewhere[0], noise, lag)
    moved = torch.tensor(flow.moved)
    same = torch.equal(y[:, moved], other[:, moved]) and torch.equal(log_q, other_log_q)
    if not same:
        raise ContractError(
            f"the flow says that it does not look at the atoms {others}, but they change what it "
            "proposes"
        )
