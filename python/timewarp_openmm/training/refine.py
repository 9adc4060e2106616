"""Training on a flow's own samples: draw with frozen weights, weigh, retrain, measure, repeat."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..bounds import ACCEPTANCE_TARGET, CHAINS, MINUTES, ROUNDS
from ..energies.openmm_energy import OpenMMEnergy
from ..files import replace_atomically
from ..flows.registry import build_flow
from ..losses.registry import losses
from ..simulation.explore import BASINS_FILE
from ..simulation.run import SYSTEM_FILE, default_platform
from ..simulation.systems import load_system_xml
from ..trajectories.pairs import (
    TrajectorySet,
    load_trajectories,
    save_independent,
    split_by_trajectory,
)
from ..trajectories.weights import BasinMap, frame_weights, save_weights
from .checkpoints import BEST_FILE, TrainedFlow, load_trained
from .config import TrainingConfig, parse_config
from .independence import Chains, Draws, draw, log_weights_of, run_chains
from .loop import Progress, train

DRAWS_FILE = "draws.npz"
WEIGHTS_FILE = "weights.npz"
#: Draws worth of trust in the populations so far, against the effective number of new ones.
_PRIOR_DRAWS = 20.0
#: Part of the draws that is held out.
_TEST_PART = 0.2
#: Of the simulated states in a regression that are spread evenly over the basins. A regression may
#: take its states from anywhere, and a basin seldom seen is where a chain would get stuck.
_EVEN_SHARE = 0.3


@dataclass(frozen=True)
class RefineSettings:
    """How a run is refined.

    Attributes
    ----------
    minutes : float
        For all rounds together.
    rounds : int
        At most so many; they share the time.
    target : float
        Acceptance at which refining stops.
    draws : int
        Of the frozen flow at the start of each round, and for the last measurement.
    chains : int
        From different test states, in which acceptance is measured.
    draw_share : float
        Of the flow's own draws in the data; the rest are simulated frames.
    learning_rate : float
        Of the first round; each later one starts at `decay` of the one before.
    likelihood, regression : float
        Weights of the losses.
    """

    minutes: float = 10.0
    rounds: int = 3
    target: float = 0.95
    draws: int = 16_000
    chains: int = 8
    draw_share: float = 0.25
    learning_rate: float = 5e-4
    decay: float = 0.6
    likelihood: float = 0.0
    regression: float = 1.0
    evaluation_interval: int = 100

    def __post_init__(self) -> None:
        MINUTES.check("minutes", self.minutes)
        ROUNDS.check("rounds", self.rounds)
        ACCEPTANCE_TARGET.check("target", self.target)
        CHAINS.check("chains", self.chains)
        if not 0 < self.draw_share < 1:
            raise ValueError(f"draw_share must be between 0 and 1, got {self.draw_share}")


@dataclass(frozen=True)
class Measurement:
    """A flow as it is: what its frozen weights do in fresh chains.

    Attributes
    ----------
    acceptance, error : float
        Mean over the chains, and its standard error.
    lowest : float
        Of the chains.
    kish : float
        Kish's effective sample size per draw.
    """

    acceptance: float
    error: float
    lowest: float
    kish: float


@dataclass(frozen=True)
class RefineResult:
    """What refining did: the measurements, the first one before any round, and the best one."""

    measurements: tuple[Measurement, ...]
    best_round: int
    seconds: float

    @property
    def best(self) -> Measurement:
        return self.measurements[self.best_round]


Report = Callable[[float, int, Progress], None]


def refine(
    run: str | Path,
    out: str | Path,
    settings: RefineSettings,
    report: Report | None = None,
) -> RefineResult:
    """Refine the flow of a training run into the folder `out`.

    Each round draws from the frozen flow, measures acceptance in chains from different test
    states, takes the basins' populations and the draws' weights from the importance weights, and
    trains on from the weights of the round before. `out` gets a folder per round and the best
    ``best.ckpt``. Rounds that an interrupted call has finished are not repeated.

    Parameters
    ----------
    run : path
        A training run with ``.inf`` among its lag times.
    report : callable, optional
        Called with the part that is done, in [0, 1], the round and the round's progress.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no run or it cannot draw independently.
    """
    began = time.monotonic()
    run, out = Path(run), Path(out)
    first = load_trained(run)
    _check_independent(run, first)
    out.mkdir(parents=True, exist_ok=True)
    workshop = _Workshop(first, settings)
    source, best_file = first, run / BEST_FILE
    measurements: list[Measurement] = []
    best_round = 0
    for number in range(settings.rounds + 1):
        draws, measured = workshop.measure(source, number)
        measurements.append(measured)
        if number > 0 and not _is_better(measured, measurements[best_round]):
            break
        if number > 0:
            best_file, best_round = out / f"round-{number}" / BEST_FILE, number
        _keep(best_file, out / BEST_FILE)
        if number == settings.rounds or measured.acceptance >= settings.target:
            break
        folder = out / f"round-{number + 1}"
        config = workshop.prepare_round(folder, number, draws, source)

        def show(done: float, progress: Progress, number: int = number) -> None:
            if report is not None:
                report((number + done) / settings.rounds, number + 1, progress)

        _train_round(config, folder, source, show)
        source = load_trained(folder)
    return RefineResult(tuple(measurements), best_round, time.monotonic() - began)


def _is_better(new: Measurement, old: Measurement) -> bool:
    return new.acceptance > old.acceptance


def _keep(source: Path, target: Path) -> None:
    if source != target:
        replace_atomically(target, lambda temporary: _copy(source, temporary))


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _check_independent(run: Path, trained: TrainedFlow) -> None:
    if math.inf not in trained.config.lag_times:
        raise ValueError(
            f"{run} holds a flow that makes no independent draws (lag_times "
            f"{list(trained.config.lag_times)}); refining needs one trained with .inf among them"
        )


def _train_round(
    config: TrainingConfig,
    folder: Path,
    source: TrainedFlow,
    show: Callable[[float, Progress], None],
) -> None:
    try:
        train(config, folder, report=show, initial=source.weights)
    except FileExistsError:
        # Finished by an earlier call of the same settings; anything else is not ours to replace.
        if load_trained(folder).config.loss != config.loss:
            raise


class _Workshop:
    """What all rounds share: the data, the energy, and the basins."""

    def __init__(self, first: TrainedFlow, settings: RefineSettings) -> None:
        self._settings = settings
        self._config = first.config
        self._molecule = first.provenance.molecule
        self._data: TrajectorySet = load_trajectories(first.config.data.folder)
        train_part, test_part = split_by_trajectory(
            self._data.trajectories,
            first.config.data.test_fraction,
            first.config.seed,
            first.config.data.test_trajectories,
        )
        self._basins = self._find_basins(first)
        simulated = np.concatenate([t.positions for t in train_part])
        self._populations = self._basins.populations(simulated, np.ones(len(simulated)))
        self._starts = self._choose_starts(np.concatenate([t.positions for t in test_part]))
        self._energy = OpenMMEnergy(
            load_system_xml(first.config.data.folder / SYSTEM_FILE),
            first.provenance.temperature,
            default_platform(self._molecule.num_atoms),
            workers=first.config.energy_workers,
        )

    def _find_basins(self, first: TrainedFlow) -> BasinMap:
        path = first.config.data.folder / BASINS_FILE
        if path.exists():
            with np.load(path) as content:
                return BasinMap(self._molecule, content["torsions"])
        frames = np.concatenate([t.positions for t in self._data.trajectories])
        return BasinMap.of_frames(self._molecule, frames, first.config.seed)

    def _choose_starts(self, frames: NDArray[np.float32]) -> torch.Tensor:
        """Return test states from different basins, in turn until there are enough."""
        where = self._basins.assign(frames)
        present = [np.flatnonzero(where == k) for k in np.unique(where)]
        chosen = []
        for number in range(self._settings.chains):
            members = present[number % len(present)]
            turn = number // len(present)
            chosen.append(members[(len(members) // 2 + 37 * turn) % len(members)])
        starts = torch.from_numpy(frames[chosen])
        return starts - starts.mean(1, keepdim=True)

    def measure(self, trained: TrainedFlow, number: int) -> tuple[Draws, Measurement]:
        """Draw from the frozen weights and run chains from the starts."""
        flow = build_flow(trained.config.flow, self._molecule)
        flow.load_state_dict(trained.weights)
        flow.eval()
        generator = torch.Generator().manual_seed(self._config.seed + 1000 + number)
        draws = draw(flow, self._energy, self._starts[0], self._settings.draws, generator)
        rng = np.random.default_rng([self._config.seed, number])
        chains: Chains = run_chains(draws, log_weights_of(flow, self._energy, self._starts), rng)
        return draws, Measurement(
            chains.mean, chains.error, float(chains.acceptance.min()), draws.kish_share()
        )

    def prepare_round(
        self, folder: Path, number: int, draws: Draws, source: TrainedFlow
    ) -> TrainingConfig:
        """Write the round's weights and draws, and return its configuration."""
        settings = self._settings
        folder.mkdir(parents=True, exist_ok=True)
        weights = draws.weights()
        trust = draws.kish_share() * len(weights)
        usable = np.isfinite(draws.log_weights)
        found = self._basins.populations(draws.positions[usable], weights[usable])
        self._populations = (trust * found + _PRIOR_DRAWS * self._populations) / (
            trust + _PRIOR_DRAWS
        )
        shares = self._populations
        if settings.likelihood == 0:
            shares = (1 - _EVEN_SHARE) * shares + _EVEN_SHARE / len(shares)
        save_weights(
            folder / WEIGHTS_FILE, frame_weights(self._data.trajectories, self._basins, shares)
        )
        truncated = truncate_weights(weights[usable])
        test = np.arange(usable.sum()) % round(1 / _TEST_PART) == 0
        save_independent(
            folder / DRAWS_FILE, draws.positions[usable], truncated, test, settings.draw_share
        )
        loss = losses(likelihood=settings.likelihood, regression=settings.regression)
        changes: dict[str, Any] = {
            "data": source.config.data.model_copy(
                update={
                    "frame_weights": folder / WEIGHTS_FILE,
                    "independent": folder / DRAWS_FILE,
                }
            ),
            "loss": loss,
            "batch_size": 256,
            "learning_rate": settings.learning_rate * settings.decay**number,
            "warmup_steps": 50,
            "max_steps": 1_000_000,
            "max_minutes": settings.minutes / settings.rounds,
            "evaluation_interval": settings.evaluation_interval,
            "acceptance_draws": 4000,
            "patience": 0,
            "seed": self._config.seed,
        }
        return parse_config(source.config.model_copy(update=changes).to_yaml())


def truncate_weights(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return importance weights cut off at sqrt(F) times their mean (Ionides 2008), sum 1.

    Examples
    --------
    >>> truncate_weights(np.array([97.0, 1.0, 1.0, 1.0])).round(3).tolist()
    [0.943, 0.019, 0.019, 0.019]
    """
    cut = np.minimum(weights, math.sqrt(len(weights)) * weights.mean())
    normalised: NDArray[np.float64] = cut / cut.sum()
    return normalised


def describe(measurement: Measurement) -> dict[str, float]:
    """Return a measurement as plain numbers for files."""
    return {name: round(value, 4) for name, value in asdict(measurement).items()}
