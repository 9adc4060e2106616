"""The atom transformer as the conditioner of the flow in internal coordinates.

Each atom is a token: its embedding, the kept coordinates of its own row of the Z-matrix, which of
them are transformed here, and, at a finite lag, the same coordinates of x and the lag. Kernel
attention mixes the tokens; what steers a coordinate is read out at its atom. Only the embeddings
belong to one molecule: all other weights act alike on every atom.

At a finite lag the attention's weights come from the distances in x. An independent draw must not
know x, so there the distance of two atoms is the number of bonds between them times
`BOND_LENGTH`: the same for all conformations, and nothing has to be learned or stored for it. (A
distance in a reference conformation would favour that conformation.)
"""

import networkx as nx
import torch
from torch import Tensor, nn

from ...molecule.equivalent_atoms import equivalent_leaves
from ...molecule.graph import Molecule
from ..networks.atom_transformer import AtomTransformer
from ..networks.kernel_attention import kernel_of_squares, squared_distances
from .conditioners import Condition, Place, Wiring, log_of_finite, may_hold, take
from .config import AttentionConfig
from .coordinate_places import ROTATABLE_SLOTS, TORSION, CoordinatePlaces

#: nm per bond, in place of a distance where there are no positions.
BOND_LENGTH = 0.13


class AttentionContext(nn.Module):
    """Condition of attention conditioners.

    Parameters
    ----------
    config : AttentionConfig
    molecule : Molecule
    places : CoordinatePlaces
    looks_at_x : bool
        Whether any lag is finite.
    surroundings : int
        Features of context atoms, which the flow adds.

    Attributes
    ----------
    size : int
        C of the condition: whether the lag is finite, and its logarithm, and those features.
    state_size : int
        A of the condition.
    """

    known: Tensor
    centres: Tensor
    bond_squares: Tensor

    def __init__(
        self,
        config: AttentionConfig,
        molecule: Molecule,
        places: CoordinatePlaces,
        looks_at_x: bool,
        surroundings: int,
    ) -> None:
        super().__init__()
        self.num_atoms = molecule.num_atoms
        self.own_size = 2 if looks_at_x else 0
        self.size = self.own_size + surroundings
        self.known_size = TORSION + 1 + ROTATABLE_SLOTS if looks_at_x else 0
        self.state_size = config.embedding_size + self.known_size
        self.embedding = nn.Parameter(torch.randn(self.num_atoms, config.embedding_size))
        scales = torch.tensor(config.length_scales, dtype=torch.float64)
        self.log_length_scales = nn.Parameter(scales.log().float())
        known = _sources(places.known, self.num_atoms, self.known_size, len(places.known))
        for name, buffer in (
            ("known", torch.tensor(known, dtype=torch.long)),
            ("centres", _centres(molecule)),
            ("bond_squares", _bond_squares(molecule)),
        ):
            self.register_buffer(name, buffer, persistent=False)

    @torch.jit.export
    def independent(self, lag: Tensor) -> Condition:
        """Return the condition of infinite lags [B]."""
        # Where lag is: the weights' device would become a constant when the flow is frozen.
        features = torch.zeros(lag.size(0), self.own_size, dtype=torch.float64, device=lag.device)
        atoms = torch.cat(
            [self.embedding, self.embedding.new_zeros([self.num_atoms, self.known_size])], dim=1
        )
        return Condition(features, atoms.unsqueeze(0), self._weights(self.bond_squares))

    def forward(self, x: Tensor, shape: Tensor, lag: Tensor) -> Condition:
        """Return the condition; arguments as of `Context.forward`."""
        finite = torch.isfinite(lag)
        # Equivalent atoms sit at their common centre, so that exchanging them changes nothing.
        squares = squared_distances(self.centres.to(x.dtype) @ x)
        shape = torch.cat([shape, torch.zeros_like(shape[:, :1])], dim=1)
        known = shape.index_select(1, self.known).to(self.embedding.dtype)
        known = known.view(-1, self.num_atoms, self.known_size)
        if may_hold(~finite):
            gate = finite.view(-1, 1, 1)
            known = torch.where(gate, known, torch.zeros_like(known))
            squares = torch.where(gate, squares, self.bond_squares.to(squares.dtype))
        embedding = self.embedding.expand(known.size(0), -1, -1)
        features = torch.cat([torch.ones_like(lag).double().unsqueeze(1), log_of_finite(lag)], 1)
        features = torch.where(finite.unsqueeze(1), features, torch.zeros_like(features))
        return Condition(features, torch.cat([embedding, known], dim=2), self._weights(squares))

    def _weights(self, squares: Tensor) -> Tensor:
        weights = kernel_of_squares(squares, self.log_length_scales, 0.0)
        return weights.to(self.embedding.dtype)


class AttentionConditioner(nn.Module):
    """The atom transformer from given numbers to parameters; zero to begin with.

    Parameters
    ----------
    config : AttentionConfig
    context : AttentionContext
        Makes the condition.
    wiring : Wiring
    parameters_each : int
        Parameters of each transformed coordinate.
    """

    sources: Tensor
    readouts: Tensor

    def __init__(
        self,
        config: AttentionConfig,
        context: AttentionContext,
        wiring: Wiring,
        parameters_each: int,
    ) -> None:
        super().__init__()
        self.num_atoms = context.num_atoms
        self.parameters_each = parameters_each
        sources = _token_sources(wiring, self.num_atoms, context.size)
        self.transformer = AtomTransformer(
            state_size=context.state_size,
            output_size=wiring.target_slots * parameters_each,
            d_model=config.d_model,
            num_heads=len(config.length_scales),
            feedforward=config.feedforward,
            num_layers=config.num_layers,
            mlp_hidden=config.mlp_hidden,
            z_size=len(sources) // self.num_atoms,
        )
        readouts = [atom * wiring.target_slots + slot for atom, slot in wiring.targets]
        for name, indices in (("sources", sources), ("readouts", readouts)):
            self.register_buffer(name, torch.tensor(indices, dtype=torch.long), persistent=False)

    def forward(self, given: Tensor, condition: Condition) -> Tensor:
        """Return the parameters [B, targets * parameters_each] for given numbers [B, K]."""
        batch = given.size(0)
        nothing = given.new_zeros([batch, 1])
        table = torch.cat([given, condition.features, nothing, nothing + 1], dim=1)
        tokens = take(table.to(condition.atoms.dtype), self.sources)
        out = self.transformer(
            tokens.view(batch, self.num_atoms, -1),
            self.transformer.prepare(condition.atoms),
            condition.weights,
        )
        out = out.reshape(batch, -1, self.parameters_each).index_select(1, self.readouts)
        parameters: Tensor = out.flatten(1)
        return parameters


def _sources(columns: tuple[Place, ...], num_atoms: int, slots: int, nothing: int) -> list[int]:
    """Return for each atom and slot (which changes fastest) the column that belongs there.

    Raises
    ------
    ValueError
        If two columns belong to one place.
    """
    column = {place: i for i, place in enumerate(columns)}
    if len(column) < len(columns):
        raise ValueError(
            "two coordinates belong to one atom's slot, which the attention conditioner cannot "
            "tell apart; use conditioner: mlp"
        )
    return [column.get((atom, slot), nothing) for atom in range(num_atoms) for slot in range(slots)]


def _token_sources(wiring: Wiring, num_atoms: int, features: int) -> list[int]:
    """Return where the numbers of each token stand among those given, the condition's features, a
    zero and a one."""
    first = len(wiring.columns)
    zero, one = first + features, first + features + 1
    given = _sources(wiring.columns, num_atoms, wiring.column_slots, zero)
    targets = set(wiring.targets)
    sources = []
    for atom in range(num_atoms):
        sources += given[atom * wiring.column_slots : (atom + 1) * wiring.column_slots]
        sources += [one if (atom, s) in targets else zero for s in range(wiring.target_slots)]
        sources += range(first, first + features)
    return sources


def _centres(molecule: Molecule) -> Tensor:
    """Return the matrix [N, N] that moves equivalent atoms to their common centre."""
    matrix = torch.eye(molecule.num_atoms, dtype=torch.float64)
    for group in equivalent_leaves(molecule):
        rows = torch.tensor(group).unsqueeze(1)
        matrix[rows, rows.T] = 1.0 / len(group)
    return matrix


def _bond_squares(molecule: Molecule) -> Tensor:
    """Return (number of bonds between two atoms times `BOND_LENGTH`)^2, [1, N, N]."""
    lengths = dict(nx.all_pairs_shortest_path_length(molecule.graph()))
    atoms = range(molecule.num_atoms)
    bonds = torch.tensor([[lengths[i][j] for j in atoms] for i in atoms], dtype=torch.float64)
    return (bonds * BOND_LENGTH).square().unsqueeze(0)
