"""Fitting a flow: seeded, checkpointed, stopped early on the held-out likelihood."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from ..curves import METRICS_FILE, append_metrics, truncate_metrics
from ..energies.base import BatchEnergy
from ..files import exclusive_lock, write_bytes_atomically
from ..flows.registry import build_flow
from ..flows.weights import restore_weights, save_tensors
from ..losses.batch import Batch
from ..losses.likelihood import negative_log_likelihood
from ..losses.prefetch import Prefetch
from ..losses.step import Step
from ..stages import Conflict, Done, Missing, Partial, Standing, refuse
from ..stored import DamagedFileError, conform
from ..workers.base import Workers
from .batches import BatchSource
from .checkpoints import (
    BEST_FILE,
    CHECKPOINT_REMEDY,
    CONFIG_FILE,
    LAST_FILE,
    LOCK_FILE,
    LastCheckpoint,
    Provenance,
    load_checkpoint,
    plot_curves,
)
from .config import TrainingConfig, parse_config
from .data import TrainingData, prepare_data
from .energy import make_energy
from .independence import draw, log_weights_of, run_chains

#: Steps in succession whose gradient may be infinite before training is given up.
MAX_BAD_STEPS = 20
#: Entries of a configuration that do not make another training. The data are told by content.
_NO_IDENTITY: dict[str, Any] = {
    "max_minutes": True,
    "energy_workers": True,
    "accelerator": True,
    "data": {"folder", "frame_weights", "independent", "learned_energy"},
}
#: Chains, from different test states, in which acceptance is measured.
ACCEPTANCE_CHAINS = 8


@dataclass
class Progress:
    """Where a run stands, as shown to the user and kept in the checkpoint."""

    step: int = 0
    seconds: float = 0.0
    train_loss: float = math.nan
    train_log_likelihood: float = math.nan
    test_loss: float = math.nan
    test_log_likelihood: float = -math.inf
    best_log_likelihood: float = -math.inf
    acceptance: float = math.nan
    acceptance_error: float = math.nan
    best_acceptance: float = -math.inf
    best_step: int = 0
    tests_without_gain: int = 0
    bad_steps: int = 0
    finished: bool = False

    def describe(self, tested: str) -> str:
        """Return where it stands in a few words, after the first test with what that `tested`."""
        if self.best_step == 0:
            return f"step {self.step}"
        return f"step {self.step}, loss {self.train_loss:.2f}, {tested}"


def train(
    config: TrainingConfig,
    out: str | Path,
    force: bool = False,
    minutes: float | None = None,
    report: Callable[[float, Progress], None] | None = None,
    initial: Mapping[str, torch.Tensor] | None = None,
    workers: Workers | None = None,
) -> Progress:
    """Fit a flow into the folder `out`, or go on with a run that was interrupted there.

    Parameters
    ----------
    config : TrainingConfig
    out : path
        Gets ``best.ckpt``, ``last.ckpt``, ``metrics.jsonl``, ``curves.png`` and ``config.yaml``.
    force : bool
        Replace the run that `out` holds.
    minutes : float, optional
        Instead of the configuration's `max_minutes`.
    report : callable, optional
        Called after each step with the part of the run that is done, in [0, 1], and its progress.
    initial : mapping of str to Tensor, optional
        Weights to start from, of a flow of the same configuration (`TrainedFlow.weights`).
    workers : Workers, optional
        Who computes energies, instead of the configuration's `energy_workers`.

    Returns
    -------
    progress : Progress

    Raises
    ------
    FileExistsError
        If `out` holds a finished run or one of another configuration.
    FileNotFoundError, ValueError
        If the data are missing or unsuitable, or the training diverges.
    """
    if minutes is not None:
        config = parse_config(config.model_copy(update={"max_minutes": minutes}).to_yaml())
    out = Path(out)
    data = prepare_data(config)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(out / LOCK_FILE):
        trainer = _Trainer(config, data, out, initial, workers)
        trainer.resume(force)
        trainer.run(report)
        plot_curves(out)
    return trainer.progress


def training_standing(config: TrainingConfig, out: str | Path) -> Standing:
    """Tell whether `out` holds this training: of this configuration and of these data.

    The time that it may take and the processes that compute its energies are no part of it.
    """
    last = Path(out) / LAST_FILE
    return _standing(last, config, prepare_data(config).provenance) if last.exists() else Missing()


def learning_rate(config: TrainingConfig, step: int, done: float) -> float:
    """Return the learning rate: a linear warm-up, then a half cosine over the run.

    Parameters
    ----------
    step : int
        Counted from 0.
    done : float
        The part of the run that is done, in [0, 1].
    """
    floor = min(config.final_learning_rate, config.learning_rate)
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    rate = floor + (config.learning_rate - floor) * cosine
    return rate * min(1.0, (step + 1) / max(1, config.warmup_steps))


def test_pairs(source: BatchSource, config: TrainingConfig) -> Batch:
    """Return the pairs of every test: the same ones, whatever the training has drawn."""
    return source.draw(config.evaluation_pairs, torch.Generator().manual_seed(config.seed + 1))


class _Trainer:
    def __init__(
        self,
        config: TrainingConfig,
        data: TrainingData,
        out: Path,
        initial: Mapping[str, torch.Tensor] | None,
        workers: Workers | None,
    ) -> None:
        # Fabric announces its devices; the progress bar is the place for news.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        self.config = config
        self.out = out
        self.data = data
        self.progress = Progress()
        self._generator = torch.Generator().manual_seed(config.seed)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            flow = build_flow(config.flow, data.provenance.molecule)
        if initial is not None:
            flow.load_state_dict(initial)
        else:
            flow.fit_normalisation(*data.train.frames())
        for part in (data.train, data.test):
            part.leave_out(flow.check_support(part.frames()[0]))
        self._average = copy.deepcopy(flow).requires_grad_(False)
        self._fabric = Fabric(accelerator=config.accelerator, devices=1)
        optimizer = torch.optim.AdamW(
            flow.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self._flow, self._optimizer = self._fabric.setup(flow, optimizer)
        for method in ("log_prob", "sample", "invert"):
            self._flow.mark_forward_method(method)
        self._average.to(self._fabric.device)
        self._energy: BatchEnergy | None = None
        self._terms = config.loss.used()
        if config.acceptance_draws or any(term.needs_energy for term in self._terms):
            self._energy = make_energy(config, data.provenance, workers or config.energy_workers)
        self._prefetch = Prefetch()
        self._starts = self._acceptance_starts()
        self._train_pairs = test_pairs(data.train, config).to(self._fabric.device)
        self._test_pairs = test_pairs(data.test, config).to(self._fabric.device)
        self._losses: list[float] = []

    def resume(self, force: bool) -> None:
        """Take up the run in the folder, or clear the way for a new one."""
        last = self.out / LAST_FILE
        match Missing() if force else _standing(last, self.config, self.data.provenance):
            case Conflict(differences):
                raise refuse(self.out, "a run of another configuration", differences)
            case Done():
                raise FileExistsError(
                    f"{self.out} holds a finished run; pass --force to replace it"
                )
            case Partial():
                self._restore(last)
                truncate_metrics(self.out, self.progress.step)
                return
        for name in (LAST_FILE, BEST_FILE, METRICS_FILE):
            (self.out / name).unlink(missing_ok=True)
        write_bytes_atomically(self.out / CONFIG_FILE, self.config.to_yaml().encode())

    def _restore(self, path: Path) -> None:
        content = load_checkpoint(path, LastCheckpoint)
        restore_weights(self._flow, content["flow"], path, CHECKPOINT_REMEDY)
        restore_weights(self._average, content["weights"], path, CHECKPOINT_REMEDY)
        try:
            self._optimizer.load_state_dict(content["optimizer"])
            self._generator.set_state(content["generator"])
        except Exception as error:  # torch raises by what does not fit
            raise DamagedFileError(path, str(error), CHECKPOINT_REMEDY) from error
        self.progress = _read_progress(path, content)

    def run(self, report: Callable[[float, Progress], None] | None) -> None:
        """Train until the steps, the time or the patience are used up."""
        progress = self.progress
        began = time.monotonic() - progress.seconds
        while not progress.finished:
            self._step()
            progress.seconds = time.monotonic() - began
            if progress.step % self.config.evaluation_interval == 0 or self._done() >= 1:
                self._test()
                progress.finished = self._done() >= 1 or self._out_of_patience()
                self._save()
            if report is not None:
                report(self._done(), progress)

    def _done(self) -> float:
        """Return the part of the run that is done, in [0, 1]."""
        done = self.progress.step / self.config.max_steps
        if self.config.max_minutes is not None:
            done = max(done, self.progress.seconds / (60 * self.config.max_minutes))
        return min(done, 1.0)

    def _out_of_patience(self) -> bool:
        return 0 < self.config.patience <= self.progress.tests_without_gain

    def _step(self) -> None:
        config = self.config
        rate = learning_rate(config, self.progress.step, self._done())
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        loss = self._loss()
        self._prefetch.begin()
        self._fabric.backward(loss)
        self._prefetch.settle()
        norm = self._fabric.clip_gradients(
            self._flow, self._optimizer, max_norm=config.gradient_clip, error_if_nonfinite=False
        )
        self.progress.step += 1
        if not (torch.isfinite(loss) and norm is not None and torch.isfinite(norm)):
            self._skip_step()
            return
        self.progress.bad_steps = 0
        self._optimizer.step()
        self._update_average()
        self._losses.append(loss.item())

    def _skip_step(self) -> None:
        self.progress.bad_steps += 1
        if self.progress.bad_steps >= MAX_BAD_STEPS:
            raise ValueError(
                f"training diverged: {MAX_BAD_STEPS} steps up to step {self.progress.step} had no "
                "finite loss or gradient; lower learning_rate"
            )

    def _loss(self) -> torch.Tensor:
        step = Step(
            self._flow,
            self._draw,
            self.config.batch_size,
            self._generator,
            self._energy,
            self._prefetch,
            own_context=self.config.flow.part is not None,
        )
        loss = torch.zeros((), dtype=torch.float64, device=self._fabric.device)
        for term in self._terms:
            loss = loss + term.weight * term.value(step)
        return loss

    def _draw(self, count: int) -> Batch:
        return self.data.train.draw(count, self._generator).to(self._fabric.device)

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early on, a long memory would hold the untrained weights. Buffers do not change.
        decay = min(self.config.ema_decay, self.progress.step / (10 + self.progress.step))
        torch._foreach_lerp_(
            list(self._average.parameters()), list(self._flow.parameters()), 1 - decay
        )

    def _test(self) -> None:
        progress = self.progress
        self._prefetch.finish()
        if self._losses:
            progress.train_loss = sum(self._losses) / len(self._losses)
        self._losses.clear()
        progress.train_log_likelihood = self._log_likelihood(self._train_pairs)
        progress.test_log_likelihood = self._log_likelihood(self._test_pairs)
        progress.test_loss = -progress.test_log_likelihood
        better = progress.test_log_likelihood > progress.best_log_likelihood
        if self.config.acceptance_draws > 0:
            self._measure_acceptance()
            better = progress.acceptance > progress.best_acceptance
        if better:
            progress.best_log_likelihood = progress.test_log_likelihood
            progress.best_acceptance = progress.acceptance
            progress.best_step = progress.step
            progress.tests_without_gain = 0
        else:
            progress.tests_without_gain += 1

    @torch.no_grad()
    def _log_likelihood(self, batch: Batch) -> float:
        total = 0.0
        for first in range(0, len(batch), self.config.batch_size):
            part = batch[first : first + self.config.batch_size]
            total -= float(negative_log_likelihood(self._average, part)) * len(part)
        return total / len(batch)

    def _acceptance_starts(self) -> torch.Tensor:
        """Return the states that chains start from: test states, spread over the trajectories."""
        if self.config.acceptance_draws == 0:
            return torch.empty(0)
        frames, weights = self.data.test.frames()
        likely = torch.nonzero(weights > 0).flatten()
        spread = torch.linspace(0, len(likely) - 1, ACCEPTANCE_CHAINS).round().long()
        return frames[likely[spread]].to(self._fabric.device)

    def _measure_acceptance(self) -> None:
        assert self._energy is not None
        # The same noise at each test, so that differences are the weights'.
        generator = torch.Generator().manual_seed(self.config.seed + 2)
        of_part = self.config.flow.part is not None
        draws = draw(
            self._average,
            self._energy,
            self._starts if of_part else self._starts[0],
            self.config.acceptance_draws,
            generator,
        )
        starts = log_weights_of(self._average, self._energy, self._starts, of_part)
        chains = run_chains(draws, starts, np.random.default_rng(self.config.seed + 2))
        self.progress.acceptance, self.progress.acceptance_error = chains.mean, chains.error

    def _save(self) -> None:
        progress = self.progress
        weights = {name: value.cpu() for name, value in self._average.state_dict().items()}
        common = {
            "config": self.config.to_yaml(),
            "provenance": self.data.provenance.to_json(),
            "weights": weights,
        }
        append_metrics(
            self.out,
            {
                "step": progress.step,
                "seconds": round(progress.seconds, 2),
                "learning_rate": self._optimizer.param_groups[0]["lr"],
                "train_loss": progress.train_loss,
                "test_loss": progress.test_loss,
                "train_log_likelihood": progress.train_log_likelihood,
                "test_log_likelihood": progress.test_log_likelihood,
                "acceptance": progress.acceptance,
            },
        )
        if progress.best_step == progress.step:
            best = {
                "step": progress.step,
                "seconds": progress.seconds,
                "test_log_likelihood": progress.test_log_likelihood,
                "train_log_likelihood": progress.train_log_likelihood,
            }
            save_tensors(self.out / BEST_FILE, {**common, **best})
        last = {
            "flow": self._flow.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "progress": vars(progress),
        }
        save_tensors(self.out / LAST_FILE, {**common, **last})


def _read_progress(path: Path, content: LastCheckpoint) -> Progress:
    try:
        return conform(content["progress"], Progress)
    except ValueError as error:
        raise DamagedFileError(path, f"progress: {error}", CHECKPOINT_REMEDY) from error


def _standing(last: Path, config: TrainingConfig, provenance: Provenance) -> Standing:
    """Tell where the run with the checkpoint `last` stands."""
    if not last.exists():
        return Missing()
    content = load_checkpoint(last, LastCheckpoint)
    theirs = parse_config(content["config"]).model_dump(exclude=_NO_IDENTITY)
    mine = config.model_dump(exclude=_NO_IDENTITY)
    different = [name for name, value in mine.items() if theirs[name] != value]
    their_data = Provenance.from_json(content["provenance"]).data
    if any(their_data.get(name) != provenance.data[name] for name in ("sha256", "inputs")):
        different.append("the data themselves")
    if different:
        return Conflict(tuple(different))
    progress = _read_progress(last, content)
    return Done() if progress.finished else Partial(progress.seconds)
