"""The bounds of every number that a user may set: one home, one message.

Command lines and training configurations put them on their fields (``seed: Seed``), dataclasses
call `Bounds.check` when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True)
class Bounds:
    """The values that a number may have.

    Attributes
    ----------
    lowest, highest : float
    unit : str
    open_below : bool
        `lowest` itself is left out.

    Examples
    --------
    >>> Bounds(0, 5, "ps").check("length", 7)
    Traceback (most recent call last):
    ValueError: length must be from 0 to 5 ps, got 7
    """

    lowest: float
    highest: float
    unit: str = ""
    open_below: bool = False

    def __str__(self) -> str:
        low, high = _text(self.lowest), _text(self.highest)
        words = f"above {low} and at most {high}" if self.open_below else f"from {low} to {high}"
        return f"{words} {self.unit}".rstrip()

    def __contains__(self, value: float) -> bool:
        # Written so that NaN is outside.
        above = self.lowest < value if self.open_below else self.lowest <= value
        return above and value <= self.highest

    def check(self, name: str, value: float) -> None:
        """Refuse a value that is out of bounds.

        Raises
        ------
        ValueError
            Naming `name`, the bounds and the value.
        """
        if value not in self:
            raise ValueError(f"{name} must be {self}, got {_text(value)}")

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._validate, handler(source))

    def _validate(self, value: float) -> float:
        if value not in self:
            raise PydanticCustomError(
                "out_of_bounds",
                "must be {bounds}, got {value}",
                {"bounds": str(self), "value": _text(value)},
            )
        return value


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


SEED = Bounds(0, 2**31 - 1)
MINUTES = Bounds(0, 1e5, "min", open_below=True)
#: All stages of a fit together.
FIT_MINUTES = Bounds(1, 1e5, "min")
TEMPERATURE = Bounds(0, 1e4, "K", open_below=True)
FRICTION = Bounds(0, 1e4, "/ps", open_below=True)
TIMESTEP = Bounds(1e-5, 0.02, "ps")
#: Of a recorded trajectory, or of a walker.
LENGTH = Bounds(0, 1e9, "ps", open_below=True)
FRAME_INTERVAL = Bounds(0, 1e6, "ps", open_below=True)
EQUILIBRATION = Bounds(0, 1e6, "ps")
LAG_TIME = Bounds(0, 1e6, "ps", open_below=True)
TRAJECTORIES = Bounds(1, 10_000)
#: Frames of one trajectory, and frames that a command counts in.
FRAMES = Bounds(1, 100_000_000)
FRAME_INDEX = Bounds(0, 100_000_000)
BASINS = Bounds(1, 10_000)
WORKERS = Bounds(1, 4096)
#: Of several chains, whose differences give an error.
CHAINS = Bounds(2, 1000)
#: Of distance geometry, to explore from.
CONFORMERS = Bounds(0, 10_000)
#: What several chains are run until; R-hat of independent samples is a little above 1.
RHAT = Bounds(1, 10, open_below=True)
EFFECTIVE_SAMPLES = Bounds(1, 10**9)
ITERATIONS = Bounds(10, 10_000_000)
STEPS = Bounds(1, 10**12)
#: A DCD file keeps it in 32 bits.
STEP_INTERVAL = Bounds(1, 2**31 - 1)
#: Of a block, to measure what it accepts.
PROPOSALS = Bounds(0, 1_000_000)
#: Of all blocks, and time steps, in a round of both.
BLOCK_PROPOSALS = Bounds(1, 1_000_000)
#: Residues of peptides that are moved whole, and at the ends of other chains.
WHOLE_PEPTIDE = Bounds(0, 1000)
END_OF_CHAIN = Bounds(1, 1000)
DYNAMICS_STEPS = Bounds(1, 10_000_000)
CUTOFF = Bounds(0, 100, "nm", open_below=True)
#: Of conformers that are one.
RMSD = Bounds(0, 10, "nm", open_below=True)
HYDROGEN_MASS = Bounds(1, 10, "dalton")
SUBCHAIN = Bounds(0, 1_000_000)
ROUNDS = Bounds(1, 1000)
ACCEPTANCE_TARGET = Bounds(0, 1, open_below=True)
SHARE = Bounds(0, 1)
#: Of a model, without a chain.
DRAWS = Bounds(100, 100_000_000)
#: Of an estimate, for its error.
RESAMPLES = Bounds(10, 10_000)

#: Of a training: steps, pairs in a batch, tests.
COUNT = Bounds(1, 2**31 - 1)
COUNT_OR_NONE = Bounds(0, 2**31 - 1)
#: Of a network: features, layers, bins.
SIZE = Bounds(1, 65_536)
SIZE_OR_NONE = Bounds(0, 65_536)

Count = Annotated[int, COUNT]
CountOrNone = Annotated[int, COUNT_OR_NONE]
Size = Annotated[int, SIZE]
SizeOrNone = Annotated[int, SIZE_OR_NONE]
# Lengths, weights and rates may be anything finite.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, SEED]
Minutes = Annotated[float, MINUTES]
Temperature = Annotated[float, TEMPERATURE]
Workers = Annotated[int, WORKERS]
