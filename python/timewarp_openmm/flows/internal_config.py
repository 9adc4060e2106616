"""Hyperparameters of the flow in internal coordinates."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator


class InternalFlowConfig(BaseModel):
    """Hyperparameters of `InternalFlow`.

    The defaults are what did best on alanine dipeptide for the same time of training: affine maps
    after full whitening bend enough, and a larger network with splines overfits 90,000 frames.

    Attributes
    ----------
    rotor_layers, narrow_layers : int
        Coupling layers among the rotors, and among the other coordinates given the rotors.
    rotor_hidden, narrow_hidden : int
        Width of the conditioners.
    rotor_blocks, narrow_blocks : int
        Residual blocks of the conditioners.
    rotor_bins, narrow_bins : int
        Bins of the splines.
    narrow_transform : {"spline", "affine"}
        What narrow coordinates go through: an affine map and then a spline, or the former only.
    spline_bound : float
        Standard deviations within which narrow coordinates are bent.
    whitening : {"full", "diagonal"}
        Whether linear correlations between narrow coordinates are removed before the first layer.
    lag_times : tuple of float
        ps; ``inf`` is an independent draw. Without finite ones the flow does not look at x.
    context : int
        Features of x and the lag time that the conditioners see at finite lags.
    velocities : False
        Auxiliary velocities are drawn from their target density, not transformed.
    seed : int
        Of the choice of which coordinates a layer transforms.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    coordinates: Literal["internal"] = "internal"
    rotor_layers: PositiveInt = 4
    rotor_hidden: PositiveInt = 64
    rotor_blocks: NonNegativeInt = 1
    rotor_bins: PositiveInt = 12
    narrow_layers: PositiveInt = 6
    narrow_hidden: PositiveInt = 128
    narrow_blocks: NonNegativeInt = 1
    narrow_bins: PositiveInt = 8
    narrow_transform: Literal["spline", "affine"] = "affine"
    spline_bound: float = Field(default=5.0, gt=0)
    whitening: Literal["full", "diagonal"] = "full"
    lag_times: tuple[float, ...] = Field(default=(math.inf,), min_length=1)
    context: PositiveInt = 32
    velocities: Literal[False] = False
    seed: int = 0

    @field_validator("lag_times")
    @classmethod
    def _positive(cls, lags: tuple[float, ...]) -> tuple[float, ...]:
        if any(math.isnan(lag) or lag <= 0 for lag in lags):
            raise ValueError(f"lag times must be positive, got {lags}")
        return lags
