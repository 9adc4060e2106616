"""The terms of a force field as torch modules, for many conformations at once.

Each takes positions [B, N, 3] / nm and returns one energy for each, [B] / kJ/mol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..molecule.geometry import angle_between, bend_and_torsion, dot
from .expressions import Expression, Function, Value


def _sum(energies: Tensor) -> Tensor:
    """Add up [B, terms]; in double precision, as there are large ones of both signs."""
    return energies.sum(1, dtype=torch.float64)


class AtomTuples(nn.Module):
    """Picks the atoms of terms that act on a few atoms each.

    Parameters
    ----------
    atoms : sequence of tuples of int
        One for each term.
    """

    atoms: Tensor

    def __init__(self, atoms: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.register_buffer("atoms", torch.tensor(atoms, dtype=torch.int64).t().contiguous())

    def forward(self, positions: Tensor) -> list[Tensor]:
        """Return the positions [B, terms, 3] of the first atom of every term, the second, ..."""
        return [positions.index_select(1, row) for row in self.atoms.unbind(0)]


class Distances(AtomTuples):
    """Distances between two atoms / nm."""

    NUM_ATOMS = 2

    def values(self, positions: Tensor) -> Tensor:
        i, j = self(positions)
        return torch.sqrt(dot(j - i, j - i))


class Angles(AtomTuples):
    """Angles between three atoms / rad."""

    NUM_ATOMS = 3

    def values(self, positions: Tensor) -> Tensor:
        i, j, k = self(positions)
        return angle_between(i - j, k - j)


class Torsions(AtomTuples):
    """Torsions of four atoms / rad, between -pi and pi (IUPAC sign, as OpenMM's)."""

    NUM_ATOMS = 4

    def values(self, positions: Tensor) -> Tensor:
        i, j, k, m = self(positions)
        return bend_and_torsion(i - j, k - j, m - k)[1]


class CoordinateTerm(nn.Module):
    """Terms of one internal coordinate each: an expression of it and of parameters.

    Parameters
    ----------
    coordinate : Distances, Angles or Torsions
    expression : Expression
    name : str
        What the expression calls the coordinate: ``r``, ``theta``.
    parameters : mapping from str to sequence of float
        Those of each term.
    constants : mapping from str to float
        Global parameters.
    """

    def __init__(
        self,
        coordinate: Distances | Angles | Torsions,
        expression: Expression,
        name: str,
        parameters: Mapping[str, Sequence[float]],
        constants: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.coordinate = coordinate
        self.expression = expression
        self.name = name
        self.constants = dict(constants or {})
        self.parameters_of_terms = ParameterTable(parameters)

    def forward(self, positions: Tensor) -> Tensor:
        values = self.coordinate.values(positions)
        variables = {**self.constants, **self.parameters_of_terms.rows(), self.name: values}
        return _sum(_of_shape(self.expression.evaluate(variables), values))


class ParameterTable(nn.Module):
    """Named parameters, [count] each."""

    table: Tensor

    def __init__(self, parameters: Mapping[str, Sequence[float]]) -> None:
        super().__init__()
        self.names = list(parameters)
        columns = [torch.as_tensor(values, dtype=torch.float32) for values in parameters.values()]
        self.register_buffer("table", torch.stack(columns) if columns else torch.zeros(0, 0))

    def rows(self, suffix: str = "") -> dict[str, Tensor]:
        return {name + suffix: self.table[i] for i, name in enumerate(self.names)}


def _of_shape(value: Value, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.expand_as(like)
    return torch.full_like(like, value)


class PositionTerm(nn.Module):
    """Terms of the x, y and z of one atom each (CustomExternalForce)."""

    atoms: Tensor

    def __init__(
        self,
        atoms: Sequence[int],
        expression: Expression,
        parameters: Mapping[str, Sequence[float]],
        constants: Mapping[str, float],
    ) -> None:
        super().__init__()
        self.expression = expression
        self.constants = dict(constants)
        self.parameters_of_terms = ParameterTable(parameters)
        self.register_buffer("atoms", torch.tensor(atoms, dtype=torch.int64))

    def forward(self, positions: Tensor) -> Tensor:
        x, y, z = positions.index_select(1, self.atoms).unbind(-1)
        variables = {**self.constants, **self.parameters_of_terms.rows(), "x": x, "y": y, "z": z}
        return _sum(_of_shape(self.expression.evaluate(variables), x))


class PairTerm(nn.Module):
    """Coulomb and Lennard-Jones energies of a list of pairs (NonbondedForce without a cut-off).

    Parameters
    ----------
    pairs : sequence of (int, int)
    charge_products : sequence of float
        Times Coulomb's constant / kJ nm/mol.
    sigmas, epsilons : sequence of float
        In nm, kJ/mol.
    """

    charges: Tensor
    sixths: Tensor
    twelfths: Tensor

    def __init__(
        self,
        pairs: Sequence[tuple[int, int]],
        charge_products: Sequence[float],
        sigmas: Sequence[float],
        epsilons: Sequence[float],
    ) -> None:
        super().__init__()
        self.distances = Distances(pairs)
        sigma = torch.tensor(sigmas, dtype=torch.float64)
        epsilon = torch.tensor(epsilons, dtype=torch.float64)
        self.register_buffer("charges", torch.tensor(charge_products, dtype=torch.float32))
        self.register_buffer("sixths", (4 * epsilon * sigma**6).float())
        self.register_buffer("twelfths", (4 * epsilon * sigma**12).float())

    def forward(self, positions: Tensor) -> Tensor:
        i, j = self.distances(positions)
        inverse_square = 1 / dot(j - i, j - i)
        inverse_sixth = inverse_square * inverse_square * inverse_square
        repulsion = self.twelfths * inverse_sixth - self.sixths
        return _sum(self.charges * torch.sqrt(inverse_square) + repulsion * inverse_sixth)


class BornTerm(nn.Module):
    """A generalized Born model, as CustomGBForce states it.

    Parameters
    ----------
    parameters : mapping from str to sequence of float
        Per-particle parameters, of all atoms.
    constants : mapping from str to float
        Global parameters.
    computed : sequence of (str, Expression, str)
        Computed values in their order: name, expression and kind.
    energies : sequence of (Expression, str)
        Energy terms with their kinds.
    tables : mapping from str to Tensor [m, n]
        Tabulated functions of two integers.
    excluded : sequence of (int, int)
        Pairs that terms of kind "pair" leave out.

    Kinds are "single", "pair" and "any pair".
    """

    #: CustomGBForce's numbers for them.
    KINDS = ("single", "pair", "any pair")

    first: Tensor
    second: Tensor
    place: Tensor
    others: Tensor
    bonded: Tensor

    def __init__(
        self,
        parameters: Mapping[str, Sequence[float]],
        constants: Mapping[str, float],
        computed: Sequence[tuple[str, Expression, str]],
        energies: Sequence[tuple[Expression, str]],
        tables: Mapping[str, Tensor],
        excluded: Sequence[tuple[int, int]],
        num_atoms: int,
    ) -> None:
        super().__init__()
        self.constants = dict(constants)
        self.computed = list(computed)
        self.energies = list(energies)
        self.per_atom = ParameterTable(parameters)
        self.functions = {name: self._tabulated(name, table) for name, table in tables.items()}
        first, second = torch.triu_indices(num_atoms, num_atoms, 1).unbind(0)
        self.register_buffer("first", first)
        self.register_buffer("second", second)
        self.register_buffer("place", first * num_atoms + second)
        others = 1 - torch.eye(num_atoms)
        bonded = others.clone()
        for i, j in excluded:
            bonded[i, j] = bonded[j, i] = 0
        self.register_buffer("others", others)
        self.register_buffer("bonded", bonded)

    def _tabulated(self, name: str, table: Tensor) -> Function:
        self.register_buffer(f"table_{name}", table.float())

        def look_up(x: Value, y: Value) -> Value:
            values: Tensor = getattr(self, f"table_{name}")
            if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
                raise ValueError(f"{name}() takes per-particle parameters only")
            return values[x.round().long(), y.round().long()]

        return look_up

    def forward(self, positions: Tensor) -> Tensor:
        # Squares of coordinates would cancel, so differences are taken first.
        between = positions.unsqueeze(2) - positions.unsqueeze(1)
        squares = dot(between, between)
        r = torch.sqrt(squares + (1 - self.others))
        atoms: dict[str, Value] = dict(self.per_atom.rows())
        for name, expression, kind in self.computed:
            atoms[name] = self._value(expression, kind, atoms, r)
        sums = [self._energy(expression, kind, atoms, r) for expression, kind in self.energies]
        return torch.stack(sums).sum(0)

    def _value(
        self, expression: Expression, kind: str, atoms: Mapping[str, Value], r: Tensor
    ) -> Tensor:
        like = r[:, 0]
        if kind == "single":
            found = expression.evaluate({**self.constants, **atoms}, self.functions)
            return _of_shape(found, like)
        pairs = {
            **{name + "1": value.unsqueeze(-1) for name, value in _tensors(atoms)},
            **{name + "2": value.unsqueeze(-2) for name, value in _tensors(atoms)},
        }
        found = expression.evaluate({**self.constants, **pairs, "r": r}, self.functions)
        mask = self.others if kind == "any pair" else self.bonded
        # Not a product: the value of an atom with itself need not be finite.
        kept = torch.where(mask != 0, _of_shape(found, r), torch.zeros_like(r))
        return kept.sum(-1)

    def _energy(
        self, expression: Expression, kind: str, atoms: Mapping[str, Value], r: Tensor
    ) -> Tensor:
        if kind == "single":
            found = expression.evaluate({**self.constants, **atoms}, self.functions)
            return _sum(_of_shape(found, r[:, 0]))
        pairs: dict[str, Value] = {}
        for name, value in _tensors(atoms):
            pairs[name + "1"] = value.index_select(-1, self.first)
            pairs[name + "2"] = value.index_select(-1, self.second)
        distance = r.flatten(1).index_select(1, self.place)
        found = expression.evaluate({**self.constants, **pairs, "r": distance}, self.functions)
        energies = _of_shape(found, distance)
        if kind == "pair":
            kept = self.bonded.flatten().index_select(0, self.place) != 0
            energies = torch.where(kept, energies, torch.zeros_like(energies))
        return _sum(energies)


def _tensors(values: Mapping[str, Value]) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in values.items() if isinstance(value, Tensor)]
