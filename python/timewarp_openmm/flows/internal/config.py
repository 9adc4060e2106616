"""Hyperparameters of the flow in internal coordinates."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from ...bounds import CountOrNone, Positive, Seed, Size, SizeOrNone
from ..base import FlowConfig


def _check_atoms(atoms: tuple[int, ...]) -> tuple[int, ...]:
    if not atoms or list(atoms) != sorted(set(atoms)):
        raise ValueError("atoms must be named once each, in ascending order, and at least one")
    return atoms


#: Some atoms of a molecule, ascending.
Atoms = Annotated[tuple[CountOrNone, ...], AfterValidator(_check_atoms)]


class AttentionConfig(BaseModel):
    """Hyperparameters of the atom transformer as a conditioner.

    Attributes
    ----------
    d_model : int
        Features per atom.
    num_layers : int
        Layers of attention.
    length_scales : tuple of float
        nm, one per head; where the learning of them starts.
    feedforward : int
        Hidden width of the MLP in a layer.
    mlp_hidden : tuple of int
        Hidden widths of the MLPs before and after the layers.
    embedding_size : int
        Of each atom's embedding.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    d_model: Size = 32
    num_layers: Size = 2
    length_scales: tuple[Positive, ...] = Field(default=(0.15, 0.4), min_length=1)
    feedforward: Size = 64
    mlp_hidden: tuple[Size, ...] = (32,)
    embedding_size: Size = 16


class ShapeFlowConfig(FlowConfig):
    """Hyperparameters of flows in internal coordinates.

    The defaults are what did best on alanine dipeptide for the same time of training: affine maps
    after full whitening bend enough, and a larger network with splines overfits 90,000 frames.

    Attributes
    ----------
    rotatable_layers, stiff_layers : int
        Coupling layers among the rotatable torsions, and among the others given them.
    conditioner : {"mlp", "attention"}
        What steers the couplings: plain networks, or the atom transformer.
    rotatable_hidden, stiff_hidden : int
        Width of the plain networks.
    rotatable_blocks, stiff_blocks : int
        Residual blocks of the plain networks.
    attention : AttentionConfig
        Of the atom transformer.
    rotatable_bins, stiff_bins : int
        Bins of the splines.
    stiff_transform : {"spline", "affine"}
        What stiff coordinates go through: an affine map and then a spline, or the former only.
    spline_bound : float
        Standard deviations within which stiff coordinates are bent.
    whitening : {"full", "diagonal"}
        Whether linear correlations between stiff coordinates are removed before the first layer.
    moved : tuple of int, optional
        The atoms that proposals move, ascending; the others are context, which the flow sees. All
        atoms by default. A part is drawn independently: its only lag time is infinite.
    seed : int
        Of the choice of which coordinates a layer transforms.
    """

    conditioner: Literal["mlp", "attention"] = "mlp"
    attention: AttentionConfig = AttentionConfig()
    rotatable_layers: Size = 4
    rotatable_hidden: Size = 64
    rotatable_blocks: SizeOrNone = 1
    rotatable_bins: Size = 12
    stiff_layers: Size = 6
    stiff_hidden: Size = 128
    stiff_blocks: SizeOrNone = 1
    stiff_bins: Size = 8
    stiff_transform: Literal["spline", "affine"] = "affine"
    spline_bound: Positive = 5.0
    whitening: Literal["full", "diagonal"] = "full"
    moved: Atoms | None = None
    seed: Seed = 0

    @property
    def part(self) -> tuple[int, ...] | None:
        return self.moved


class InternalFlowConfig(ShapeFlowConfig):
    """Hyperparameters of `InternalFlow`.

    Attributes
    ----------
    lag_times : tuple of float
        ps; ``inf`` is an independent draw. Without finite ones the flow does not look at x.
    context : int
        Features of x and the lag time that plain networks see at finite lags.
    velocities : bool
        Whether at finite lags the auxiliary velocities take part: they and the stiff coordinates
        are transformed by turns, given each other. Otherwise, and at an infinite lag always, they
        are drawn from their target density.
    """

    coordinates: Literal["internal"] = "internal"
    lag_times: tuple[float, ...] = Field(default=(math.inf,), min_length=1)
    context: Size = 32
    velocities: bool = False

    @field_validator("lag_times")
    @classmethod
    def _positive(cls, lags: tuple[float, ...]) -> tuple[float, ...]:
        if any(math.isnan(lag) or lag <= 0 for lag in lags):
            raise ValueError(f"lag times must be positive, got {lags}")
        return lags

    @model_validator(mode="after")
    def _check(self) -> InternalFlowConfig:
        has_finite = any(math.isfinite(lag) for lag in self.lag_times)
        if self.velocities and not has_finite:
            raise ValueError(
                "velocities take part at finite lags only, of which lag_times has none; leave "
                "velocities out or add a finite lag"
            )
        if self.moved is not None and has_finite:
            raise ValueError(
                "a part of a molecule is drawn independently: leave finite lag times out"
            )
        return self

    def check_lag_times(self, lag_times: tuple[float, ...]) -> None:
        """Check that the lag times of training, in ps, are the flow's own."""
        if set(self.lag_times) != set(lag_times):
            raise ValueError(
                f"flow.lag_times {list(self.lag_times)} and lag_times {list(lag_times)} "
                "must name the same ones"
            )
