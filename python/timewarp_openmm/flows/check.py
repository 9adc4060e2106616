"""Does a module keep to the model contract? (docs/contract.md has the contract in prose.)"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..contract import (
    DENSITY_TOLERANCE,
    INVERTIBILITY_TOLERANCE,
    ContractError,
    ModelMetadata,
)
from .gaussian import log_normal

#: The contract's methods.
METHODS = ("sample", "log_prob", "invert")
#: log_q must agree with the Jacobian of `sample`, taken by finite differences, to this.
JACOBIAN_TOLERANCE = 1e-3
#: Three translations and three rotations.
RIGID_MOTIONS = 6

_BATCH = 16
_SEED = 20230227


@dataclass(frozen=True)
class _Trial:
    """One batch of proposals from the reference positions, at one lag time."""

    x: Tensor  # [N, 3]
    noise: Tensor  # [B, D]
    lag: Tensor  # [B]
    y: Tensor  # [B, N, 3]
    w: Tensor  # [B, N, 3]
    log_q: Tensor  # [B]

    @property
    def where(self) -> str:
        return f"at a lag of {self.lag[0].item():g} ps"


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
    check_methods(module)
    dtype = torch.float64 if metadata.precision == "double" else torch.float32
    x = reference_positions(metadata).to(dtype)
    for lag_time in metadata.lag_times:
        trial = _sample(module, metadata, x, lag_time)
        _check_density(module, trial)
        _check_invertible(module, trial)
        _check_batch_size(module, trial)
        if math.isinf(lag_time):
            _check_independent(module, trial)


def check_methods(module: nn.Module) -> None:
    """Check that the contract's methods are there.

    Raises
    ------
    ContractError
    """
    if missing := [name for name in METHODS if not callable(getattr(module, name, None))]:
        raise ContractError(
            f"the module has no method {', '.join(missing)}; a model needs {', '.join(METHODS)} "
            "(see docs/contract.md; a method other than forward needs @torch.jit.export)"
        )


@torch.inference_mode()
def check_jacobian(module: nn.Module, metadata: ModelMetadata) -> None:
    """Check that log_q is the density of what `sample` makes of standard normal noise.

    In float64 and by finite differences::

        log q(y, w | x) = log N(noise; 0, I) - log |d(y, w) / d noise|

    A module whose `sample` and `log_prob` agree on a wrong density passes `check_contract`, but its
    chain would sample another distribution; this is what finds it. A density of the shape alone has
    six deviates fewer; the six rigid motions stand in for them, since its volume is that of the
    positions for each volume of translations and rotations. With other noise there is no such
    determinant, and nothing is checked.

    Raises
    ------
    ContractError
    """
    x = reference_positions(metadata)
    if metadata.noise_size not in (2 * x.numel(), 2 * x.numel() - RIGID_MOTIONS):
        return
    try:
        module = copy.deepcopy(module).double()
        for lag_time in metadata.lag_times:
            _compare_with_jacobian(module, x, metadata.noise_size, lag_time)
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


def _sample(module: nn.Module, metadata: ModelMetadata, x: Tensor, lag_time: float) -> _Trial:
    generator = torch.Generator().manual_seed(_SEED)
    noise = torch.randn(_BATCH, metadata.noise_size, generator=generator).to(x.dtype)
    lag = torch.full((_BATCH,), lag_time, dtype=x.dtype)
    try:
        y, w, log_q = module.sample(x, noise, lag)  # type: ignore[operator]
    except (RuntimeError, TypeError, ValueError) as error:
        raise ContractError(
            f"sample(x [{x.size(0)}, 3], noise [{_BATCH}, {metadata.noise_size}], lag [{_BATCH}]) "
            f"failed: {error}"
        ) from error
    shape = (_BATCH, x.size(0), 3)
    _expect("the first result of sample (y)", y, shape, x.dtype)
    _expect("the second result of sample (w)", w, shape, x.dtype)
    _expect("the third result of sample (log_q)", log_q, (_BATCH,), torch.float64)
    # The chain rejects what is not finite, so a flow may have draws that lead nowhere.
    finite = y.isfinite().flatten(1).all(1) & w.isfinite().flatten(1).all(1) & log_q.isfinite()
    trial = _Trial(x, noise[finite], lag[finite], y[finite], w[finite], log_q[finite])
    if len(trial.y) < _BATCH // 2:
        raise ContractError(
            f"of {_BATCH} proposals of sample only {len(trial.y)} are finite at a lag of "
            f"{lag_time:g} ps"
        )
    return trial


def _check_density(module: nn.Module, trial: _Trial) -> None:
    for x in (trial.x.unsqueeze(0), trial.x.repeat(len(trial.y), 1, 1)):
        log_prob = _call(module, "log_prob", trial, x)
        _expect("the result of log_prob", log_prob, (len(trial.y),), torch.float64)
        _compare(
            f"log_prob (x of {x.size(0)}) and the log_q of sample {trial.where}",
            log_prob,
            trial.log_q,
            DENSITY_TOLERANCE,
        )


def _check_invertible(module: nn.Module, trial: _Trial) -> None:
    noise = _call(module, "invert", trial, trial.x.unsqueeze(0))
    _expect("the result of invert", noise, tuple(trial.noise.shape), trial.noise.dtype)
    y, w, _ = module.sample(trial.x, noise, trial.lag)  # type: ignore[operator]
    for name, again, first in (("y / nm", y, trial.y), ("w", w, trial.w)):
        _compare(
            f"{name} of sample(x, invert(y, w)) and of sample {trial.where}",
            again,
            first,
            INVERTIBILITY_TOLERANCE,
        )


def _check_batch_size(module: nn.Module, trial: _Trial) -> None:
    few = 3
    y, _, log_q = module.sample(  # type: ignore[operator]
        trial.x, trial.noise[:few], trial.lag[:few]
    )
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


def _check_independent(module: nn.Module, trial: _Trial) -> None:
    generator = torch.Generator().manual_seed(_SEED + 1)
    other = trial.x + 0.02 * torch.randn(trial.x.shape, generator=generator).to(trial.x.dtype) + 0.1
    y, w, log_q = module.sample(other, trial.noise, trial.lag)  # type: ignore[operator]
    log_prob = _call(module, "log_prob", trial, other.unsqueeze(0))
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


def _compare_with_jacobian(module: nn.Module, x: Tensor, noise_size: int, lag_time: float) -> None:
    generator = torch.Generator().manual_seed(_SEED + 2)
    noises = torch.randn(_BATCH, noise_size, generator=generator, dtype=torch.float64)
    lag = torch.full((_BATCH,), lag_time, dtype=torch.float64)
    y, _, _ = module.sample(x, noises, lag)  # type: ignore[operator]
    # The chain rejects what is not finite; there is no density to compare.
    for noise in noises[y.isfinite().flatten(1).all(1)][:1]:
        log_q, expected = density_by_jacobian(module, x, noise, lag_time)
        _compare(
            f"log_q and the density from the Jacobian of sample at a lag of {lag_time:g} ps",
            log_q,
            expected,
            JACOBIAN_TOLERANCE,
        )


def density_by_jacobian(
    module: nn.Module, x: Tensor, noise: Tensor, lag_time: float
) -> tuple[Tensor, Tensor]:
    """Return log_q of the proposal of `noise`, and what finite differences make of it.

    Parameters
    ----------
    module : torch.nn.Module
        A flow in float64.
    x : float64 Tensor [N, 3], nm
    noise : float64 Tensor [6 N or 6 N - 6]
    lag_time : float
        ps
    """
    size = len(noise)
    # Small, so that hardly a kink of a piecewise linear network lies within.
    step = 1e-6
    steps = step * torch.eye(size, dtype=torch.float64)
    batch = torch.cat((noise.unsqueeze(0), noise + steps, noise - steps))
    lag = torch.full((len(batch),), lag_time, dtype=torch.float64)
    y, w, log_q = module.sample(x, batch, lag)  # type: ignore[operator]
    out = torch.cat((y.flatten(1), w.flatten(1)), dim=1)
    rows = (out[1 : size + 1] - out[size + 1 :]) / (2.0 * step)
    if size < out.size(1):
        rows = torch.cat((rows, _rigid_motions(y[0])))
    log_determinant = torch.linalg.slogdet(rows).logabsdet
    return log_q[:1], log_normal(noise.unsqueeze(0)) - log_determinant


def _rigid_motions(y: Tensor) -> Tensor:
    """Return how (y, w), flat, changes with each translation and rotation of y [N, 3]."""
    axes = torch.eye(3, dtype=y.dtype)
    of_positions = torch.cat(
        (
            axes.unsqueeze(1).expand(3, len(y), 3),
            torch.linalg.cross(axes.unsqueeze(1), y.unsqueeze(0), dim=-1),
        )
    ).flatten(1)
    return torch.cat((of_positions, torch.zeros_like(of_positions)), dim=1)


def _call(module: nn.Module, name: str, trial: _Trial, x: Tensor) -> Tensor:
    try:
        result: Tensor = getattr(module, name)(trial.y, trial.w, x, trial.lag)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ContractError(
            f"{name}(y {list(trial.y.shape)}, w {list(trial.w.shape)}, x {list(x.shape)}, "
            f"lag {list(trial.lag.shape)}) failed: {error}"
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
