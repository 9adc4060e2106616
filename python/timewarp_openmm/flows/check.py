"""Does a module keep to the model contract? (docs/contract.md has the contract in prose.)"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import torch
from torch import Tensor, nn

from ..contract import (
    DENSITY_TOLERANCE,
    INVERTIBILITY_TOLERANCE,
    ContractError,
    ModelMetadata,
)
from ..molecule.graph import Molecule
from .gaussian import log_normal

#: The contract's methods, and those that a model has besides if bonds can keep their lengths.
METHODS = ("sample", "log_prob", "invert")
CONSTRAINED_METHODS = ("sample_constrained", "log_prob_constrained")
#: log_q must agree with the Jacobian of `sample`, taken by finite differences, to this.
JACOBIAN_TOLERANCE = 1e-3
#: Three translations and three rotations.
RIGID_MOTIONS = 6

#: nm; a bond that keeps its length differs by rounding alone.
_KEPT_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
#: Below this a deviate has no effect on y / nm and w.
_IDLE = 1e-7
_BATCH = 16
_SEED = 20230227


@dataclass(frozen=True)
class Calls:
    """The contract's methods of a module, with the lengths of some bonds kept, or of none.

    Attributes
    ----------
    module : torch.nn.Module
    kept : tuple of int
        Places of these bonds among the `stretches`.
    stretches : tuple of (int, int)
        All bonds that can be kept.
    """

    module: nn.Module
    kept: tuple[int, ...] = ()
    stretches: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def of(module: nn.Module, metadata: ModelMetadata) -> list[Calls]:
        """Return the ways in which a module is checked: no bond kept, then all, then one alone."""
        stretches = tuple((a, b) for a, b in metadata.stretches or ())
        every = tuple(range(len(stretches)))
        chosen = dict.fromkeys(((), every, every[:1]))
        return [Calls(module, kept, stretches) for kept in chosen]

    @property
    def kept_bonds(self) -> list[tuple[int, int]]:
        return [self.stretches[i] for i in self.kept]

    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.kept:
            return self.module.sample(x, noise, lag)  # type: ignore[operator, no-any-return]
        mask = self._mask(x.device)
        return self.module.sample_constrained(x, noise, lag, mask)  # type: ignore[operator, no-any-return]

    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        if not self.kept:
            return self.module.log_prob(y, w, x, lag)  # type: ignore[operator, no-any-return]
        mask = self._mask(x.device)
        return self.module.log_prob_constrained(y, w, x, lag, mask)  # type: ignore[operator, no-any-return]

    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return self.module.invert(y, w, x, lag)  # type: ignore[operator, no-any-return]

    def _mask(self, device: torch.device) -> Tensor:
        mask = torch.zeros(len(self.stretches), dtype=torch.bool)
        mask[list(self.kept)] = True
        return mask.to(device)

    def __str__(self) -> str:
        return f" with {len(self.kept)} bonds of {len(self.stretches)} kept" if self.kept else ""


@dataclass(frozen=True)
class _Trial:
    """One batch of proposals from the reference positions, at one lag time."""

    calls: Calls
    context: list[int]

    x: Tensor  # [N, 3]
    noise: Tensor  # [B, D]
    lag: Tensor  # [B]
    y: Tensor  # [B, N, 3]
    w: Tensor  # [B, N, 3]
    log_q: Tensor  # [B]

    @property
    def where(self) -> str:
        return f"at a lag of {self.lag[0].item():g} ps{self.calls}"


@torch.inference_mode()
def check_contract(module: nn.Module, metadata: ModelMetadata) -> None:
    """Check shapes, types, densities and invertibility at each lag time, with fixed noise.

    Parameters
    ----------
    module : torch.nn.Module
        A flow, scripted or not, on the CPU.
    metadata : ModelMetadata
        Its `reference_positions` are where the flow is tried.

    Raises
    ------
    ContractError
        Naming the first thing that does not hold.
    """
    check_methods(module, metadata)
    dtype = torch.float64 if metadata.precision == "double" else torch.float32
    x = reference_positions(metadata).to(dtype)
    for calls in Calls.of(module, metadata):
        for lag_time in metadata.lag_times:
            trial = _sample(calls, metadata, x, lag_time)
            _check_density(trial)
            _check_invertible(trial)
            _check_batch_size(trial)
            _check_context(trial)
            _check_kept_lengths(trial)
            if math.isinf(lag_time):
                _check_independent(trial)


def methods_of(metadata: ModelMetadata) -> tuple[str, ...]:
    """Return the names of the methods that a model of these metadata has."""
    return METHODS + (CONSTRAINED_METHODS if metadata.stretches else ())


def check_methods(module: nn.Module, metadata: ModelMetadata) -> None:
    """Check that the contract's methods are there.

    Raises
    ------
    ContractError
    """
    needed = methods_of(metadata)
    if missing := [name for name in needed if not callable(getattr(module, name, None))]:
        raise ContractError(
            f"the module has no method {', '.join(missing)}; a model needs {', '.join(needed)} "
            "(see docs/contract.md; a method other than forward needs @torch.jit.export)"
        )


@torch.inference_mode()
def check_jacobian(module: nn.Module, metadata: ModelMetadata) -> None:
    """Check that log_q is the density of what `sample` makes of standard normal noise.

    In float64 and by finite differences::

        log q(y, w | x) = log N(noise; 0, I) - log |d(y, w) / d noise|

    A module whose `sample` and `log_prob` agree on a wrong density passes `check_contract`, but its
    chain would sample another distribution; this is what finds it. Only the moved atoms count. A
    density of the shape alone has six deviates fewer; the six rigid motions stand in for them,
    since its volume is that of the positions for each volume of translations and rotations. With
    other noise there is no such determinant, and nothing is checked.

    Raises
    ------
    ContractError
    """
    x = reference_positions(metadata)
    size = 6 * len(metadata.moved_atoms())
    if metadata.noise_size not in (size, size - (0 if metadata.context_atoms() else RIGID_MOTIONS)):
        return
    try:
        module = copy.deepcopy(module).double()
        for calls in Calls.of(module, metadata):
            for lag_time in metadata.lag_times:
                _compare_with_jacobian(calls, metadata, x, lag_time)
    except RuntimeError as error:
        raise ContractError(f"the module does not work in float64: {error}") from error


def reference_positions(metadata: ModelMetadata) -> Tensor:
    """Return the metadata's reference positions, [N, 3] in nm, float64.

    Raises
    ------
    ContractError
        If there are none, or they do not fit the metadata's molecule.
    """
    if metadata.reference_positions is None:
        raise ContractError(
            "the metadata have no reference_positions, on which the contract is checked; give the "
            "positions of a plausible conformation in nm"
        )
    x = torch.tensor(metadata.reference_positions, dtype=torch.float64)
    atoms = x.size(0) if metadata.molecule is None else metadata.molecule.num_atoms
    if x.shape != (atoms, 3) or not bool(torch.isfinite(x).all()):
        raise ContractError(
            f"reference_positions must be {atoms} x 3 finite numbers in nm, got shape "
            f"{tuple(x.shape)}"
        )
    return x


def _sample(calls: Calls, metadata: ModelMetadata, x: Tensor, lag_time: float) -> _Trial:
    generator = torch.Generator().manual_seed(_SEED)
    noise = torch.randn(_BATCH, metadata.noise_size, generator=generator).to(x.dtype)
    lag = torch.full((_BATCH,), lag_time, dtype=x.dtype)
    try:
        y, w, log_q = calls.sample(x, noise, lag)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ContractError(
            f"sample(x [{x.size(0)}, 3], noise [{_BATCH}, {metadata.noise_size}], lag [{_BATCH}])"
            f"{calls} failed: {error}"
        ) from error
    shape = (_BATCH, x.size(0), 3)
    _expect("the first result of sample (y)", y, shape, x.dtype)
    _expect("the second result of sample (w)", w, shape, x.dtype)
    _expect("the third result of sample (log_q)", log_q, (_BATCH,), torch.float64)
    # The chain rejects what is not finite, so a flow may have draws that lead nowhere.
    finite = y.isfinite().flatten(1).all(1) & w.isfinite().flatten(1).all(1) & log_q.isfinite()
    context = metadata.context_atoms()
    kept = (values[finite] for values in (noise, lag, y, w, log_q))
    trial = _Trial(calls, context, x, *kept)
    if len(trial.y) < _BATCH // 2:
        raise ContractError(
            f"of {_BATCH} proposals of sample only {len(trial.y)} are finite at a lag of "
            f"{lag_time:g} ps"
        )
    return trial


def _check_density(trial: _Trial) -> None:
    for x in (trial.x.unsqueeze(0), trial.x.repeat(len(trial.y), 1, 1)):
        log_prob = _call("log_prob", trial, x)
        _expect("the result of log_prob", log_prob, (len(trial.y),), torch.float64)
        _compare(
            f"log_prob (x of {x.size(0)}) and the log_q of sample {trial.where}",
            log_prob,
            trial.log_q,
            DENSITY_TOLERANCE,
        )


def _check_invertible(trial: _Trial) -> None:
    noise = _call("invert", trial, trial.x.unsqueeze(0))
    _expect("the result of invert", noise, tuple(trial.noise.shape), trial.noise.dtype)
    y, w, _ = trial.calls.sample(trial.x, noise, trial.lag)
    for name, again, first in (("y / nm", y, trial.y), ("w", w, trial.w)):
        _compare(
            f"{name} of sample(x, invert(y, w)) and of sample {trial.where}",
            again,
            first,
            INVERTIBILITY_TOLERANCE,
        )


def _check_batch_size(trial: _Trial) -> None:
    few = 3
    y, _, log_q = trial.calls.sample(trial.x, trial.noise[:few], trial.lag[:few])
    _compare(
        f"y / nm of a batch of {few} and of {len(trial.y)} {trial.where}",
        y,
        trial.y[:few],
        INVERTIBILITY_TOLERANCE,
    )
    _compare(
        f"log_q of a batch of {few} and of {len(trial.y)} {trial.where}",
        log_q,
        trial.log_q[:few],
        DENSITY_TOLERANCE,
    )


def _check_context(trial: _Trial) -> None:
    """Context atoms stay where they are to the last bit, and no density looks at them in y and w,
    since it takes them from x."""
    if not trial.context:
        return
    _compare(
        f"y / nm of context atoms and x, which are to be the very same, {trial.where}",
        trial.y[:, trial.context],
        trial.x[trial.context],
        0.0,
    )
    y, w = trial.y.clone(), trial.w.clone()
    y[:, trial.context] += 0.05
    w[:, trial.context] += 1.0
    _compare(
        f"log_prob with other rows of context atoms in y and w, and log_q {trial.where}",
        trial.calls.log_prob(y, w, trial.x.unsqueeze(0), trial.lag),
        trial.log_q,
        DENSITY_TOLERANCE,
    )


def _check_kept_lengths(trial: _Trial) -> None:
    for first, atom in trial.calls.kept_bonds:
        _compare(
            f"the length / nm of the kept bond {first}-{atom} in y and in x {trial.where}",
            torch.linalg.vector_norm(trial.y[:, atom] - trial.y[:, first], dim=1),
            torch.linalg.vector_norm(trial.x[atom] - trial.x[first]),
            _KEPT_TOLERANCE[trial.x.dtype],
        )


def _check_independent(trial: _Trial) -> None:
    """An independent draw depends on nothing but where context atoms lie in x."""
    generator = torch.Generator().manual_seed(_SEED + 1)
    other = trial.x + 0.02 * torch.randn(trial.x.shape, generator=generator).to(trial.x.dtype) + 0.1
    if trial.calls.kept or trial.context:
        # Lengths that are kept differ in it otherwise, or context atoms.
        other = trial.y[0]
    y, w, log_q = trial.calls.sample(other, trial.noise, trial.lag)
    log_prob = _call("log_prob", trial, other.unsqueeze(0))
    for name, value, expected, tolerance in (
        # Where a proposal lies may follow x: a chain of shapes keeps x's frame.
        ("distances in y / nm", _distances(y), _distances(trial.y), INVERTIBILITY_TOLERANCE),
        ("w", w, trial.w, INVERTIBILITY_TOLERANCE),
        ("log_q", log_q, trial.log_q, DENSITY_TOLERANCE),
        ("log_prob", log_prob, trial.log_q, DENSITY_TOLERANCE),
    ):
        _compare(
            f"{name} from two states x, on which it must not depend at an infinite lag,",
            value,
            expected,
            tolerance,
        )


def _distances(y: Tensor) -> Tensor:
    return (y.unsqueeze(1) - y.unsqueeze(2)).square().sum(-1).sqrt()


def _compare_with_jacobian(
    calls: Calls, metadata: ModelMetadata, x: Tensor, lag_time: float
) -> None:
    generator = torch.Generator().manual_seed(_SEED + 2)
    noises = torch.randn(_BATCH, metadata.noise_size, generator=generator, dtype=torch.float64)
    lag = torch.full((_BATCH,), lag_time, dtype=torch.float64)
    y, _, _ = calls.sample(x, noises, lag)
    # The chain rejects what is not finite; there is no density to compare.
    for noise in noises[y.isfinite().flatten(1).all(1)][:1]:
        log_q, expected = density_by_jacobian(
            calls, x, noise, lag_time, metadata.molecule, metadata.moved_atoms()
        )
        _compare(
            f"log_q and the density from the Jacobian of sample at a lag of {lag_time:g} ps{calls}",
            log_q,
            expected,
            JACOBIAN_TOLERANCE,
        )


def density_by_jacobian(
    calls: Calls,
    x: Tensor,
    noise: Tensor,
    lag_time: float,
    molecule: Molecule | None = None,
    moved: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return log_q of the proposal of `noise`, and what finite differences make of it.

    Where bonds are kept, as many deviates have no effect. Their rows of the Jacobian are those of
    the lengths themselves: the density is one in what else varies, per nm of each kept length.

    Parameters
    ----------
    calls : Calls
        Of a flow in float64.
    x : float64 Tensor [N, 3], nm
    noise : float64 Tensor [6 M or 6 M - 6]
        M is the number of moved atoms.
    lag_time : float
        ps
    molecule : Molecule, optional
        Needed where bonds are kept.
    moved : sequence of int, optional
        By default all atoms.

    Raises
    ------
    ContractError
        If the number of deviates without effect is another than that of the kept bonds.
    """
    size, moved = len(noise), list(range(len(x)) if moved is None else moved)
    # Small, so that hardly a kink of a piecewise linear network lies within.
    step = 1e-6
    steps = step * torch.eye(size, dtype=torch.float64)
    batch = torch.cat((noise.unsqueeze(0), noise + steps, noise - steps))
    lag = torch.full((len(batch),), lag_time, dtype=torch.float64)
    y, w, log_q = calls.sample(x, batch, lag)
    parts = (values.reshape(len(batch), -1, 3)[:, moved].flatten(1) for values in (y, w))
    out = torch.cat(tuple(parts), dim=1)
    rows = (out[1 : size + 1] - out[size + 1 :]) / (2.0 * step)
    idle = (rows.abs() < _IDLE).all(1)
    if calls.kept and int(idle.sum()) != len(calls.kept):
        raise ContractError(
            f"{int(idle.sum())} deviates have no effect at a lag of {lag_time:g} ps{calls}; for "
            "each kept bond there must be one, and no other"
        )
    if calls.kept:
        assert molecule is not None
        rows[idle] = _stretching(y[0], molecule, calls.kept_bonds)[:, moved].flatten(1).repeat(1, 2)
        rows[idle, rows.size(1) // 2 :] = 0.0
    if size < out.size(1):
        rows = torch.cat((rows, rigid_motions(y[0])))
    log_determinant = torch.linalg.slogdet(rows).logabsdet
    return log_q[:1], log_normal(noise[~idle].unsqueeze(0)) - log_determinant


def _stretching(y: Tensor, molecule: Molecule, bonds: list[tuple[int, int]]) -> Tensor:
    """Return how positions [N, 3] change with the length of each bond: [K, N, 3]."""
    changes = y.new_zeros(len(bonds), *y.shape)
    for change, (first, atom) in zip(changes, bonds, strict=True):
        graph = molecule.graph()
        graph.remove_edge(first, atom)
        beyond = list(nx.node_connected_component(graph, atom))
        along = y[atom] - y[first]
        change[beyond] = along / torch.linalg.vector_norm(along)
    return changes


def rigid_motions(y: Tensor) -> Tensor:
    """Return how (y, w), flat, changes with each translation and rotation of y [N, 3]."""
    axes = torch.eye(3, dtype=y.dtype)
    of_positions = torch.cat(
        (
            axes.unsqueeze(1).expand(3, len(y), 3),
            torch.linalg.cross(axes.unsqueeze(1), y.unsqueeze(0), dim=-1),
        )
    ).flatten(1)
    return torch.cat((of_positions, torch.zeros_like(of_positions)), dim=1)


def _call(name: str, trial: _Trial, x: Tensor) -> Tensor:
    try:
        result: Tensor = getattr(trial.calls, name)(trial.y, trial.w, x, trial.lag)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ContractError(
            f"{name}(y {list(trial.y.shape)}, w {list(trial.w.shape)}, x {list(x.shape)}, "
            f"lag {list(trial.lag.shape)}){trial.calls} failed: {error}"
        ) from error
    return result


def _expect(what: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if not isinstance(value, Tensor):
        raise ContractError(f"{what} must be a tensor, got {type(value).__name__}")
    if tuple(value.shape) != shape or value.dtype != dtype:
        raise ContractError(
            f"{what} must be {list(shape)} of {dtype}, got {list(value.shape)} of {value.dtype}"
        )


def _compare(what: str, value: Tensor, expected: Tensor, tolerance: float) -> None:
    difference = (value.double() - expected.double()).abs().max().item()
    # Written so that a NaN fails.
    if not difference <= tolerance:
        raise ContractError(f"{what} differ by {difference:.3g}; they must agree to {tolerance:g}")
