"""What is asked of a fit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from ..bounds import ACCEPTANCE_TARGET, MINUTES, SEED, TEMPERATURE, WORKERS
from ..flows.internal.config import InternalFlowConfig
from ..molecule.in_place import Fragment


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
    moved : tuple of int, optional
        The atoms that the model moves, and sees the others as context; by default all.
    constraints : {None, "HBonds"}
        Of the System in which acceptance is measured at the end. Data are made without any, so that
        one model serves Systems with constraints and without.
    later_parts : tuple of tuple of int
        Atoms that the model makes after all others that it moves, part after part, each given what
        is there; by default it makes all together.
    flow : InternalFlowConfig, optional
        The flow that is trained, but for the atoms that it moves; by default one whose networks
        are larger where a whole molecule is given much time (`budget.network_sizes`).
    weight_bits : int, optional
        Significant bits of the weights in the model file; by default all.
    fragment : Fragment, optional
        The atoms that the model knows and moves of a structure that holds others
        (`simulation.surroundings`); in place of `moved`.
    """

    minutes: float = 30.0
    temperature: float = 310.0
    target: float = 0.9
    seed: int = 1
    workers: int = 2
    moved: tuple[int, ...] | None = None
    constraints: Literal["HBonds"] | None = None
    later_parts: tuple[tuple[int, ...], ...] = ()
    flow: InternalFlowConfig | None = None
    weight_bits: int | None = None
    fragment: Fragment | None = None

    def __post_init__(self) -> None:
        MINUTES.check("minutes", self.minutes)
        TEMPERATURE.check("temperature", self.temperature)
        ACCEPTANCE_TARGET.check("target", self.target)
        SEED.check("seed", self.seed)
        WORKERS.check("workers", self.workers)
        if self.fragment is not None and (self.moved is not None or self.later_parts):
            raise ValueError("a fragment in place says itself what is moved, all of it together")
        later = {atom for part in self.later_parts for atom in part}
        if self.moved is not None and not later < set(self.moved):
            raise ValueError(
                "later parts must name some of the atoms that are moved, and not all of them"
            )

    @property
    def chooses_sizes(self) -> bool:
        """Whether the time says how large networks are; of parts that was not measured."""
        whole = self.moved is None and self.fragment is None
        return self.flow is None and whole and not self.later_parts

    def identity(self) -> dict[str, object]:
        """Return what makes two fits of one molecule the same.

        More time, another target, other workers, constraints and bits go on with what is there,
        with networks of the size that they have.
        """
        identity: dict[str, object] = {
            "temperature": self.temperature,
            "seed": self.seed,
            "moved": None if self.moved is None else list(self.moved),
            "later_parts": [list(part) for part in self.later_parts] or None,
        }
        if self.fragment is not None:
            identity["fragment"] = {k: list(v) for k, v in asdict(self.fragment).items()}
        if self.flow is not None and self.flow != InternalFlowConfig():
            identity["flow"] = self.flow.model_dump(mode="json", exclude={"lag_times", "moved"})
        return identity
