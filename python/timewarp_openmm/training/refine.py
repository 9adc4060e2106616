"""Training on a flow's own samples: draw with frozen weights, weigh, retrain, measure, repeat."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..bounds import ACCEPTANCE_TARGET, CHAINS, MINUTES, ROUNDS
from ..energies.correction import CORRECTION_FILE
from ..files import exclusive_lock, replace_atomically, sha256_of
from ..flows.registry import build_flow
from ..flows.weights import restore_weights
from ..losses.registry import losses
from ..simulation.explore import BASINS_FILE, read_basins
from ..simulation.record import SYSTEM_FILE
from ..stages import Conflict, Done, Missing, Partial, Standing, compare, refuse
from ..trajectories.pairs import (
    TrajectorySet,
    load_trajectories,
    save_independent,
    split_by_trajectory,
)
from ..trajectories.weights import BasinMap, frame_weights, save_weights
from ..workers.base import Workers
from .checkpoints import BEST_FILE, CHECKPOINT_REMEDY, LOCK_FILE, TrainedFlow, load_trained
from .config import DataConfig, TrainingConfig, parse_config
from .energy import make_energy
from .independence import Chains, Draws, draw, log_weights_of, run_chains
from .loop import Progress, train, training_standing
from .refine_record import Measurement, RefineRecord, read_record, write_record

DRAWS_FILE = "draws.npz"
WEIGHTS_FILE = "weights.npz"
#: Draws worth of trust in the populations so far, against the effective number of new ones.
_PRIOR_DRAWS = 20.0
#: Part of the draws that is held out.
_TEST_PART = 0.2
#: Of the simulated states in a regression that are spread evenly over the basins. A regression may
#: take its states from anywhere, and a basin seldom seen is where a chain would get stuck.
_EVEN_SHARE = 0.3
#: Settings with which a refinement remains the same.
_NO_IDENTITY = ("minutes", "rounds", "target", "workers")
#: Minutes; a round that the time has run out for is trained so long all the same.
_SHORTEST_ROUND = 0.02


@dataclass(frozen=True)
class RefineSettings:
    """How a run is refined.

    Attributes
    ----------
    minutes : float
        Wall time of all rounds together, measurements included.
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
    workers : int, optional
        Processes that evaluate energies; by default as many as the training had.
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
    workers: int | None = None

    def __post_init__(self) -> None:
        MINUTES.check("minutes", self.minutes)
        ROUNDS.check("rounds", self.rounds)
        ACCEPTANCE_TARGET.check("target", self.target)
        CHAINS.check("chains", self.chains)
        if not 0 < self.draw_share < 1:
            raise ValueError(f"draw_share must be between 0 and 1, got {self.draw_share}")


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
    data: DataConfig | None = None,
    workers: Workers | None = None,
) -> RefineResult:
    """Refine the flow of a training run into the folder `out`.

    Each round draws from the frozen flow, measures acceptance in chains from different test
    states, takes the basins' populations and the draws' weights from the importance weights, and
    trains on from the weights of the round before. `out` gets a folder per round and the best
    ``best.ckpt``. What an interrupted call has finished is not repeated, and more rounds go on
    where fewer have ended.

    Parameters
    ----------
    run : path
        A training run, or a refinement of one, with ``.inf`` among its lag times.
    report : callable, optional
        Called with the part that is done, in [0, 1], the round and the round's progress.
    data : DataConfig, optional
        Instead of those that the run was trained with: to refine it for another energy, or where
        they lie elsewhere now.
    workers : Workers, optional
        Who computes energies, instead of those of the settings.

    Raises
    ------
    FileExistsError
        If `out` holds a refinement of other weights, data or settings, or another process works
        in it.
    FileNotFoundError, ValueError
        If there is no run or it cannot draw independently.
    """
    began = time.monotonic()
    run, out = Path(run), Path(out)
    first = _source_of(run, data)
    _check_independent(run, first)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(out / LOCK_FILE):
        identity = _identity(run, first, settings)
        standing = _standing(out, identity, settings)
        if isinstance(standing, Conflict):
            raise refuse(out, "another refinement", standing.differences)
        record = read_record(out) or RefineRecord(identity)
        if not isinstance(standing, Done):
            record = _Rounds(run, first, out, settings, record, report, workers).run()
    return RefineResult(record.measurements, record.best_round, time.monotonic() - began)


def _source_of(run: Path, data: DataConfig | None) -> TrainedFlow:
    first = load_trained(run)
    if data is None:
        return first
    return replace(first, config=first.config.model_copy(update={"data": data}))


def refine_standing(
    run: str | Path, out: str | Path, settings: RefineSettings, data: DataConfig | None = None
) -> Standing:
    """Tell whether `out` holds this refinement: of these weights, data and settings.

    The time, the rounds, the target and the workers are no part of it: more of them go on with it.
    """
    run, out = Path(run), Path(out)
    return _standing(out, _identity(run, _source_of(run, data), settings), settings)


def _standing(out: Path, identity: dict[str, object], settings: RefineSettings) -> Standing:
    record = read_record(out)
    if record is None:
        return Missing()
    if different := compare(record.identity, identity):
        return Conflict(different)
    return Done() if record.is_finished(settings.rounds, settings.target) else Partial()


def _identity(run: Path, first: TrainedFlow, settings: RefineSettings) -> dict[str, object]:
    folder, learned = first.config.data.folder, first.config.data.learned_energy
    chosen = {k: v for k, v in asdict(settings).items() if k not in _NO_IDENTITY}
    return {
        "weights": sha256_of(run / BEST_FILE),
        "data": load_trajectories(folder).sha256(),
        "system": sha256_of(folder / SYSTEM_FILE),
        **({} if learned is None else {"learned_energy": sha256_of(learned / CORRECTION_FILE)}),
        **chosen,
    }


class _Rounds:
    """The rounds of one refinement, each recorded when it is finished."""

    def __init__(
        self,
        run: Path,
        first: TrainedFlow,
        out: Path,
        settings: RefineSettings,
        record: RefineRecord,
        report: Report | None,
        workers: Workers | None,
    ) -> None:
        self._first, self._first_file = first, run / BEST_FILE
        self._out, self._settings, self._record, self._report = out, settings, record, report
        self._workers = workers
        self._deadline = time.monotonic() + 60 * settings.minutes
        # Seconds of a measurement, and of what a training takes beside its steps; the first
        # measurement, which starts processes and draws as a training does, stands in for that.
        self._measuring, self._overhead = 0.0, math.nan
        self._workshop = _Workshop(first, settings, record.populations, workers)

    def run(self) -> RefineRecord:
        while not self._record.is_finished(self._settings.rounds, self._settings.target):
            number = len(self._record.measurements)
            draws = None
            if number > 0:
                self._train(number)
            draws, measured = self._measure(number)
            self._update(measurements=(*self._record.measurements, measured))
            _keep(self._file(self._record.best_round), self._out / BEST_FILE)
            if not self._record.is_finished(self._settings.rounds, self._settings.target):
                self._prepare(number + 1, draws)
        return self._record

    def _update(self, **changes: Any) -> None:
        self._record = replace(self._record, **changes)
        write_record(self._out, self._record)

    def _folder(self, number: int) -> Path:
        return self._out / f"round-{number}"

    def _file(self, number: int) -> Path:
        return self._folder(number) / BEST_FILE if number > 0 else self._first_file

    def _source(self, number: int) -> TrainedFlow:
        """Return the flow after round `number`."""
        return load_trained(self._folder(number)) if number > 0 else self._first

    def _measure(self, number: int) -> tuple[Draws, Measurement]:
        began = time.monotonic()
        found = self._workshop.measure(self._source(number), number)
        self._measuring = time.monotonic() - began
        if math.isnan(self._overhead):
            self._overhead = self._measuring
        return found

    def _prepare(self, number: int, draws: Draws) -> None:
        """Write the inputs of a round, once: a training is told by them."""
        self._folder(number).mkdir(parents=True, exist_ok=True)
        populations = self._workshop.prepare_round(self._folder(number), draws)
        self._update(populations=(*self._record.populations, tuple(populations.tolist())))

    def _train(self, number: int) -> None:
        if len(self._record.populations) < number:
            # Interrupted between a measurement and the inputs of the next round.
            draws, _ = self._measure(number - 1)
            self._prepare(number, draws)
        folder, source = self._folder(number), self._source(number - 1)
        config = self._workshop.configure_round(folder, number - 1, source)
        standing = training_standing(config, folder)
        if isinstance(standing, Done):
            return
        earlier = standing.seconds if isinstance(standing, Partial) else 0.0
        config = config.model_copy(update={"max_minutes": self._minutes(number) + earlier / 60})

        def show(done: float, progress: Progress) -> None:
            if self._report is not None:
                self._report((number - 1 + done) / self._settings.rounds, number, progress)

        began = time.monotonic()
        progress = train(config, folder, report=show, initial=source.weights, workers=self._workers)
        self._overhead = time.monotonic() - began - (progress.seconds - earlier)

    def _minutes(self, number: int) -> float:
        """Return the time of a round, so that all that remain and their measurements fit."""
        rounds = self._settings.rounds - number + 1
        overhead = 0.0 if math.isnan(self._overhead) else self._overhead
        left = self._deadline - time.monotonic() - rounds * (self._measuring + overhead)
        return max(_SHORTEST_ROUND, left / rounds / 60)


def _keep(source: Path, target: Path) -> None:
    replace_atomically(target, lambda temporary: _copy(source, temporary))


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _check_independent(run: Path, trained: TrainedFlow) -> None:
    if math.inf not in trained.config.lag_times:
        raise ValueError(
            f"{run} holds a flow that makes no independent draws (lag_times "
            f"{list(trained.config.lag_times)}); refining needs one trained with .inf among them"
        )


class _Workshop:
    """What all rounds share: the data, the energy, and the basins."""

    def __init__(
        self,
        first: TrainedFlow,
        settings: RefineSettings,
        populations: tuple[tuple[float, ...], ...],
        workers: Workers | None,
    ) -> None:
        self._settings = settings
        self._config = first.config
        self._moves_part = first.config.flow.part is not None
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
        self._populations = (
            np.array(populations[-1])
            if populations
            else self._basins.populations(simulated, np.ones(len(simulated)))
        )
        self._starts = self._choose_starts(np.concatenate([t.positions for t in test_part]))
        count = settings.workers or first.config.energy_workers
        self._energy = make_energy(first.config, first.provenance, workers or count)

    def _find_basins(self, first: TrainedFlow) -> BasinMap:
        path = first.config.data.folder / BASINS_FILE
        if path.exists():
            centres = read_basins(path).basins.torsions
            return BasinMap(self._molecule, centres, first.config.flow.fragment)
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
        restore_weights(flow, trained.weights, trained.path, CHECKPOINT_REMEDY)
        flow.eval()
        generator = torch.Generator().manual_seed(self._config.seed + 1000 + number)
        starts = self._starts if self._moves_part else self._starts[0]
        draws = draw(flow, self._energy, starts, self._settings.draws, generator)
        rng = np.random.default_rng([self._config.seed, number])
        log_weights = log_weights_of(flow, self._energy, self._starts, self._moves_part)
        chains: Chains = run_chains(draws, log_weights, rng)
        return draws, Measurement(
            chains.mean, chains.error, float(chains.acceptance.min()), draws.kish_share()
        )

    def prepare_round(self, folder: Path, draws: Draws) -> NDArray[np.float64]:
        """Write the round's weights and draws, and return the basins' populations [K].

        Draws in given contexts say nothing of the populations, and each is of one context only: a
        part is refined on the simulated states, and draws that are made in training.
        """
        settings = self._settings
        if self._moves_part:
            self._save_frame_weights(folder)
            return self._populations
        weights = draws.weights()
        trust = draws.kish_share() * len(weights)
        usable = np.isfinite(draws.log_weights)
        if not usable.any():
            raise ValueError(
                f"none of {len(usable)} draws of the flow has a finite energy: it has learned too "
                "little to be refined; train it for longer, or with more data"
            )
        found = self._basins.populations(draws.positions[usable], weights[usable])
        self._populations = (trust * found + _PRIOR_DRAWS * self._populations) / (
            trust + _PRIOR_DRAWS
        )
        self._save_frame_weights(folder)
        truncated = truncate_weights(weights[usable])
        test = np.arange(usable.sum()) % round(1 / _TEST_PART) == 0
        save_independent(
            folder / DRAWS_FILE, draws.positions[usable], truncated, test, settings.draw_share
        )
        return self._populations

    def _save_frame_weights(self, folder: Path) -> None:
        shares = self._populations
        if self._settings.likelihood == 0:
            shares = (1 - _EVEN_SHARE) * shares + _EVEN_SHARE / len(shares)
        save_weights(
            folder / WEIGHTS_FILE, frame_weights(self._data.trajectories, self._basins, shares)
        )

    def configure_round(self, folder: Path, number: int, source: TrainedFlow) -> TrainingConfig:
        """Return the configuration of a round that is prepared, counted from 0."""
        settings = self._settings
        loss = losses(likelihood=settings.likelihood, regression=settings.regression)
        changes: dict[str, Any] = {
            "data": self._config.data.model_copy(
                update={
                    "frame_weights": folder / WEIGHTS_FILE,
                    "independent": None if self._moves_part else folder / DRAWS_FILE,
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
            "energy_workers": settings.workers or self._config.energy_workers,
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
