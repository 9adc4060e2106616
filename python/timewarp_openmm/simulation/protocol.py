"""How a set of trajectories is made: the numbers that identify it, and the named presets."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..bounds import (
    EQUILIBRATION,
    FRAME_INTERVAL,
    FRAMES,
    FRICTION,
    LENGTH,
    SEED,
    TEMPERATURE,
    TIMESTEP,
    TRAJECTORIES,
)
from .langevin import Langevin

#: (phi, psi) in degrees of the starts, ordered so that the first few already cover the basins of a
#: peptide: polyproline II, left-handed helix, right-handed helix, C7ax, C5 ...
BASINS = (
    (-70.0, 150.0),
    (55.0, 45.0),
    (-75.0, -20.0),
    (65.0, -60.0),
    (-150.0, 155.0),
    (-80.0, 70.0),
    (-120.0, 20.0),
    (-75.0, 140.0),
)


BOUNDS = {
    "temperature": TEMPERATURE,
    "friction": FRICTION,
    "timestep": TIMESTEP,
    "interval": FRAME_INTERVAL,
    "length": LENGTH,
    "equilibration": EQUILIBRATION,
    "trajectories": TRAJECTORIES,
    "seed": SEED,
}


@dataclass(frozen=True)
class Protocol:
    """Langevin dynamics at constant temperature, several trajectories.

    Attributes
    ----------
    molecule : str
    force_field : tuple of str
    temperature : float
        K.
    friction : float
        1/ps.
    timestep, interval, length, equilibration : float
        ps: the integration step, the time between frames, the recorded time of one trajectory
        and the time before its first frame.
    trajectories : int
    starts : str
        "given" (the given conformation, minimised), "basins" (driven there along phi and psi) or
        "explored" (from the basins that `explore` found).
    platform : str
        An OpenMM platform.
    seed : int
    """

    molecule: str
    force_field: tuple[str, ...]
    platform: str
    temperature: float = 310.0
    friction: float = 0.3
    timestep: float = 0.001
    interval: float = 2.0
    length: float = 752.0
    equilibration: float = 20.0
    trajectories: int = 4
    starts: str = "given"
    seed: int = 1

    def __post_init__(self) -> None:
        for name, bounds in BOUNDS.items():
            bounds.check(name, getattr(self, name))
        if self.starts not in ("given", "basins", "explored"):
            raise ValueError(f"starts must be 'given', 'basins' or 'explored', got {self.starts!r}")
        multiple(self.interval, self.timestep, "interval", "time step")
        FRAMES.check("frames of a trajectory", self.frames)

    @property
    def dynamics(self) -> Langevin:
        return Langevin(self.temperature, self.friction, self.timestep)

    @property
    def steps_per_frame(self) -> int:
        return multiple(self.interval, self.timestep, "interval", "time step")

    @property
    def frames(self) -> int:
        """Frames of one trajectory, the start and the end included."""
        return multiple(self.length, self.interval, "length", "interval") + 1

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "force_field": list(self.force_field)}

    def identity(self) -> dict[str, Any]:
        """Return what makes two runs of one System the same, without the names of its inputs.

        A longer run goes on with a shorter one, so that its length is no part of it.
        """
        return self.identity_of(self.to_dict())

    @staticmethod
    def identity_of(stored: dict[str, Any]) -> dict[str, Any]:
        """Return the `identity` of a protocol in the form of `to_dict`."""
        names = ("molecule", "force_field", "length")
        return {name: value for name, value in stored.items() if name not in names}


#: Settings of the presets beyond Protocol's defaults, which are the published ones.
PRESETS: dict[str, dict[str, Any]] = {
    "ala2-report": {"molecule": "alanine-dipeptide"},
    "ala2": {
        "molecule": "alanine-dipeptide",
        "starts": "basins",
        "trajectories": 16,
        "length": 3000.0,
        "interval": 0.5,
    },
}


def preset(name: str) -> dict[str, Any]:
    """Return the settings of a named preset.

    Raises
    ------
    ValueError
        If there is none of this name.

    Examples
    --------
    >>> preset("ala2")["trajectories"]
    16
    """
    if name not in PRESETS:
        raise ValueError(f"no preset named {name!r}; there are: {', '.join(PRESETS)}")
    return dict(PRESETS[name])


def with_settings(protocol: Protocol, **settings: Any) -> Protocol:
    """Return `protocol` with those settings that are not None replaced."""
    given = {name: value for name, value in settings.items() if value is not None}
    return replace(protocol, **given)


def multiple(whole: float, part: float, whole_name: str, part_name: str) -> int:
    """Return how often `part` goes into `whole`.

    Raises
    ------
    ValueError
        If it does not go a whole number of times, at least once.

    Examples
    --------
    >>> multiple(2.0, 0.5, "lag", "interval")
    4
    """
    count = round(whole / part)
    if count < 1 or not math.isclose(count * part, whole, rel_tol=1e-6):
        raise ValueError(
            f"the {whole_name} ({whole:g} ps) must be a multiple of the {part_name} ({part:g} ps)"
        )
    return count
