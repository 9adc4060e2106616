"""What is asked of a fit."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class FitSettings:
    """What is asked of a fit.

    Attributes
    ----------
    minutes : float
        Wall time for everything, in all calls together.
    temperature : float
        K.
    target : float
        Acceptance of independent draws at which refining stops.
    seed : int
    workers : int
        Threads or processes.
    """

    minutes: float = 30.0
    temperature: float = 310.0
    target: float = 0.9
    seed: int = 1
    workers: int = 2

    def __post_init__(self) -> None:
        for name in ("minutes", "temperature"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, got {value:g}")
        if not 0 < self.target <= 1:
            raise ValueError(f"the target must be an acceptance in (0, 1], got {self.target:g}")
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")

    def identity(self) -> dict[str, object]:
        """Return what makes two fits of one molecule the same.

        More time, another target and other workers go on with what is there.
        """
        return {"temperature": self.temperature, "seed": self.seed}
