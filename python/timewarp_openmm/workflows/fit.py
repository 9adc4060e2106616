"""From a structure to a validated model: explore, simulate, train, refine, export, measure."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openmm
import torch
from openmm import app

from .. import __version__
from ..bounds import (
    ACCEPTANCE_TARGET,
    FIT_MINUTES,
    SEED,
    TEMPERATURE,
    WORKERS,
    shifted_seed,
)
from ..files import exclusive_lock, refuse_existing, write_bytes_atomically
from ..flows.internal.config import InternalFlowConfig
from ..flows.registry import build_flow
from ..molecule.graph import molecule_from_topology
from ..simulation.explore import Basins, ExploreSettings, basin_populations, load_or_find_basins
from ..simulation.protocol import Protocol as SimulationProtocol
from ..simulation.run import default_platform, simulate
from ..simulation.systems import MolecularSystem, make_platform
from ..training.checkpoints import TrainedFlow, load_trained
from ..training.config import AugmentationConfig, DataConfig, TrainingConfig
from ..training.export import export_trained
from ..training.loop import Progress, train
from ..training.refine import Measurement, RefineSettings, describe, refine
from ..trajectories.pairs import load_trajectories
from ..trajectories.weights import BasinMap, frame_weights, save_weights
from ..units import PICOSECOND

STATE_FILE = "fit.json"
LOCK_FILE = ".lock"
#: Shares of the time for each stage; what one leaves over goes to refining.
EXPLORE_SHARE, SIMULATE_SHARE, TRAIN_SHARE = 0.07, 0.12, 0.1
#: A machine that has become busy since its speed was measured gets so much longer to simulate.
SIMULATE_PATIENCE = 1.5
#: Rounds of refining: shorter ones cost more by the learning rate's fall and rise than they bring.
MINUTES_PER_ROUND, MOST_ROUNDS = 6.0, 3
#: Minutes kept for the export and the measurement.
LAST_MINUTES = 0.5
#: Trajectories that start in each basin; the last of them is held out.
RUNS_PER_BASIN = 4
#: ps before the first frame, and the most frames that are worth keeping.
EQUILIBRATION = 5.0
#: Long enough to see what else the machine is busy with.
SPEED_SECONDS = 3.0
#: ps; least length of a walker and of a trajectory.
SHORTEST = 10.0
MOST_FRAMES = 60_000
#: Chains and their iterations for the measurement that goes into the card.
CHAINS, ITERATIONS = 8, 1000


@dataclass(frozen=True)
class FitSettings:
    """What is asked of a fit.

    Attributes
    ----------
    minutes : float
        Wall time for everything.
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
        FIT_MINUTES.check("minutes", self.minutes)
        TEMPERATURE.check("temperature", self.temperature)
        ACCEPTANCE_TARGET.check("target", self.target)
        SEED.check("seed", self.seed)
        WORKERS.check("workers", self.workers)


@dataclass(frozen=True)
class Validation:
    """Acceptance of the exported model in the integrator's own chain.

    Attributes
    ----------
    acceptance, error, lowest : float
        Mean over the chains, its standard error, and the lowest one.
    chains, iterations : int
        Each chain starts in another basin as far as there are so many.
    iterations_per_second : float
    """

    acceptance: float
    error: float
    lowest: float
    chains: int
    iterations: int
    iterations_per_second: float


class Display(Protocol):
    """Shows where a fit stands."""

    def stage(self, name: str) -> None: ...

    def update(self, done: float, note: str) -> None: ...


class _Plan:
    """What has been decided and measured, kept in the work folder so that a fit can go on."""

    def __init__(self, work: Path, identity: dict[str, Any]) -> None:
        self._path = work / STATE_FILE
        self.content: dict[str, Any] = {"identity": identity, "seconds": {}}
        if self._path.exists():
            stored = json.loads(self._path.read_text())
            different = [k for k, v in identity.items() if stored["identity"].get(k) != v]
            if different:
                raise FileExistsError(
                    f"{work} holds another fit (different: {', '.join(different)}); name another "
                    "folder with --work or remove it"
                )
            self.content = stored
        self._began = time.monotonic() - sum(self.content["seconds"].values())

    def elapsed_minutes(self) -> float:
        return float(time.monotonic() - self._began) / 60

    def decide(self, name: str, choose: Callable[[], Any]) -> Any:
        """Return what was decided under `name`, by an earlier call or by `choose` now."""
        if name not in self.content:
            self.content[name] = choose()
            self._save()
        return self.content[name]

    def finish_stage(self, name: str, began: float) -> None:
        seconds = self.content["seconds"]
        seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - began, 1)
        self._save()

    def _save(self) -> None:
        write_bytes_atomically(self._path, (json.dumps(self.content, indent=1) + "\n").encode())


def fit(
    molecule: MolecularSystem,
    out: str | Path,
    settings: FitSettings,
    work: str | Path | None = None,
    display: Display | None = None,
    force: bool = False,
) -> Validation:
    """Make a model for one molecule, from its structure and force field alone.

    Parameters
    ----------
    molecule : MolecularSystem
    out : path
        The model file; a card of the same name with ``.md`` is written beside it.
    settings : FitSettings
    work : path, optional
        Where the stages leave their files; by default ``<out>.work``. The same call goes on with
        what an interrupted one has left there.
    display : Display, optional
    force : bool
        Replace the model that is there.

    Raises
    ------
    FileExistsError
        If `out` exists and `force` is false, or `work` holds a fit of something else.
    ValueError
        If the molecule has no internal coordinates or a stage fails; the message says why.
    """
    out = Path(out)
    refuse_existing(out, force)
    work = Path(work) if work is not None else out.with_name(f"{out.stem}.work")
    # Refused before an hour is spent: several molecules, straight angles, water.
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    build_flow(InternalFlowConfig(), atoms)
    work.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(work / LOCK_FILE):
        return _Fit(molecule, out, settings, work, display or _Silent()).run()


class _Silent:
    def stage(self, name: str) -> None:
        pass

    def update(self, done: float, note: str) -> None:
        pass


class _Fit:
    def __init__(
        self,
        molecule: MolecularSystem,
        out: Path,
        settings: FitSettings,
        work: Path,
        display: Display,
    ) -> None:
        self._molecule = molecule
        self._atoms = molecule_from_topology(molecule.topology, molecule.system)
        self._out, self._settings, self._work, self._display = out, settings, work, display
        identity = {
            "molecule": molecule.name,
            "temperature": settings.temperature,
            "seed": settings.seed,
            "minutes": settings.minutes,
            "force_field": list(molecule.force_field),
        }
        self._plan = _Plan(work, identity)

    def run(self) -> Validation:
        # Matrices this small gain little from a second thread, and on busy cores two threads that
        # wait for each other were measured to be 30 times slower.
        torch.set_num_threads(1)
        basins = self._stage("explore", self._explore)
        self._stage("simulate", lambda: self._simulate(basins))
        self._stage("train", self._train)
        measurements = self._stage("refine", self._refine)
        validation: Validation = self._stage(
            "export and measure", lambda: self._export(basins, measurements)
        )
        return validation

    def _stage(self, name: str, work: Callable[[], Any]) -> Any:
        self._display.stage(name)
        began = time.monotonic()
        try:
            return work()
        finally:
            self._plan.finish_stage(name, began)

    def _speed(self) -> float:
        """Return how many ps each worker simulates per second of wall time, all at work."""
        workers = self._settings.workers
        with ThreadPoolExecutor(workers) as pool:
            speeds = list(pool.map(lambda _: self._speed_of_one(), range(workers)))
        return float(np.mean(speeds))

    def _speed_of_one(self) -> float:
        platform = make_platform(default_platform(self._atoms.num_atoms))
        integrator = openmm.LangevinMiddleIntegrator(
            self._settings.temperature, 1.0, 0.001 * PICOSECOND
        )
        context = openmm.Context(self._molecule.system, integrator, *platform)
        context.setPositions(self._molecule.positions)
        openmm.LocalEnergyMinimizer.minimize(context, maxIterations=100)
        integrator.step(100)
        began, steps = time.monotonic(), 0
        while time.monotonic() - began < SPEED_SECONDS:
            integrator.step(100)
            steps += 100
        return steps * 0.001 / (time.monotonic() - began)

    def _explore(self) -> Basins:
        speed = float(self._plan.decide("ps_per_second", self._speed))
        minutes = EXPLORE_SHARE * self._settings.minutes
        # Minimising takes about as long as the walks themselves.
        length = minutes * 60 * speed * self._settings.workers / 6 / 2
        settings = replace(
            ExploreSettings(),
            length=max(SHORTEST, float(min(300.0, round(length)))),
            max_minutes=2 * minutes,
            max_basins=_most_basins(self._atoms.num_atoms),
        )
        basins = load_or_find_basins(
            self._work / "data",
            self._molecule,
            settings,
            self._settings.seed,
            self._settings.workers,
            self._display.update,
        )
        self._hot = settings.temperatures
        return basins

    def _simulate(self, basins: Basins) -> None:
        protocol = self._protocol(basins)
        total = protocol.trajectories * protocol.frames
        note = f"{len(basins)} basins of {basins.found}, {basins.dropped} frames dropped"

        def report(frames: int) -> None:
            self._display.update(frames / total, note)

        folder = self._work / "data"
        try:
            simulate(
                self._molecule,
                protocol,
                folder,
                self._settings.workers,
                report=report,
                starts=basins.positions,
                max_minutes=SIMULATE_PATIENCE * SIMULATE_SHARE * self._settings.minutes,
            )
        except FileExistsError:
            run = json.loads((folder / "run.json").read_text())
            if protocol.differences(run["protocol"]) or not run["complete"]:
                raise
        populations = basin_populations(basins, self._settings.temperature, self._hot)
        found = load_trajectories(folder)
        weights = frame_weights(
            found.trajectories, BasinMap(self._atoms, basins.torsions), populations
        )
        save_weights(self._work / "weights.npz", weights)

    def _protocol(self, basins: Basins) -> SimulationProtocol:
        trajectories = RUNS_PER_BASIN * len(basins)

        def choose() -> dict[str, float]:
            speed = self._plan.content["ps_per_second"]
            minutes = SIMULATE_SHARE * self._settings.minutes
            total = minutes * 60 * speed * self._settings.workers
            length = max(SHORTEST, total / trajectories - EQUILIBRATION)
            interval = max(0.1, math.ceil(10 * length * trajectories / MOST_FRAMES) / 10)
            return {"length": round(length / interval) * interval, "interval": interval}

        times = self._plan.decide("simulate", choose)
        return SimulationProtocol(
            molecule=self._molecule.name,
            force_field=self._molecule.force_field,
            platform=default_platform(self._atoms.num_atoms),
            temperature=self._settings.temperature,
            friction=1.0,
            equilibration=EQUILIBRATION,
            trajectories=trajectories,
            starts="explored",
            seed=self._settings.seed,
            **times,
        )

    def _train(self) -> None:
        minutes = self._plan.decide("train_minutes", lambda: TRAIN_SHARE * self._settings.minutes)
        run = self._work / "train"

        def report(done: float, progress: Progress) -> None:
            self._display.update(done, _note(progress))

        try:
            train(self._training_config(minutes), run, report=report)
        except FileExistsError:
            load_trained(run)

    def _training_config(self, minutes: float) -> TrainingConfig:
        folder = self._work / "data"
        names = [t.name for t in load_trajectories(folder).trajectories]
        # Trajectory i starts in basin i mod K, so the last K start once in each.
        held_out = names[len(names) - len(names) // RUNS_PER_BASIN :]
        return TrainingConfig(
            flow=InternalFlowConfig(),
            data=DataConfig(
                folder=folder,
                test_trajectories=tuple(held_out),
                frame_weights=self._work / "weights.npz",
            ),
            augmentation=AugmentationConfig(permute_hydrogens=False),
            lag_times=(math.inf,),
            batch_size=512,
            max_steps=1_000_000,
            max_minutes=minutes,
            learning_rate=1e-3,
            gradient_clip=10.0,
            evaluation_interval=100,
            evaluation_pairs=2000,
            acceptance_draws=2000,
            patience=3,
            energy_workers=self._settings.workers,
            seed=self._settings.seed,
        )

    def _refine(self) -> tuple[Measurement, ...]:
        left = self._settings.minutes - self._plan.elapsed_minutes() - LAST_MINUTES
        minutes = self._plan.decide("refine_minutes", lambda: max(0.2, left))
        settings = RefineSettings(
            minutes=minutes,
            rounds=max(1, min(MOST_ROUNDS, int(minutes / MINUTES_PER_ROUND))),
            target=self._settings.target,
        )

        def report(done: float, number: int, progress: Progress) -> None:
            self._display.update(done, f"round {number}, {_note(progress)}")

        result = refine(self._work / "train", self._work / "refine", settings, report)
        return result.measurements

    def _export(self, basins: Basins, measurements: tuple[Measurement, ...]) -> Validation:
        trained = load_trained(self._work / "refine")
        provenance = {
            "fit": {
                "settings": asdict(self._settings),
                "seconds": dict(self._plan.content["seconds"]),
                "basins": {
                    "kept": len(basins),
                    "found": basins.found,
                    "dropped_frames": basins.dropped,
                },
                "refine_rounds": [describe(m) for m in measurements],
                "threads": self._settings.workers,
            }
        }
        candidate = self._work / "candidate.pt"
        export_trained(trained, candidate, provenance, overwrite=True)
        validation = validate(candidate, self._molecule, basins.positions, self._settings.seed)
        provenance["fit"]["measured"] = asdict(validation)
        provenance["fit"]["total_minutes"] = round(self._plan.elapsed_minutes(), 2)
        export_trained(trained, self._out, provenance, overwrite=True)
        write_bytes_atomically(
            self._out.with_suffix(".md"), write_card(self._out, trained, provenance).encode()
        )
        return validation


def _most_basins(num_atoms: int) -> int:
    """Return how many basins to keep: flexible molecules have more of them."""
    return 16 if num_atoms <= 25 else 24


def _note(progress: Progress) -> str:
    if progress.best_step == 0:
        return f"step {progress.step}"
    return (
        f"step {progress.step}, loss {progress.train_loss:.2f}, "
        f"acceptance {progress.acceptance:.1%} (best {progress.best_acceptance:.1%})"
    )


def validate(
    model: Path, molecule: MolecularSystem, starts: np.ndarray[Any, Any], seed: int
) -> Validation:
    """Measure acceptance with the integrator, in chains from different basins.

    Parameters
    ----------
    starts : array [K, N, 3], nm
        Minima; each chain first relaxes from its own by a little dynamics.
    """
    from ..integrator import TimewarpMCMCIntegrator

    rates, began, steps = [], time.monotonic(), 0
    for chain in range(CHAINS):
        relaxed = _relax(molecule, starts[chain % len(starts)], model, shifted_seed(seed, chain))
        integrator = TimewarpMCMCIntegrator(str(model))
        integrator.setRandomNumberSeed(shifted_seed(seed, chain))
        simulation = app.Simulation(
            molecule.topology, molecule.system, integrator, *make_platform("Reference")
        )
        simulation.context.setPositions(relaxed)
        integrator.step(ITERATIONS)
        rates.append(integrator.getAcceptanceRate())
        steps += ITERATIONS
    seconds = time.monotonic() - began
    return Validation(
        acceptance=round(float(np.mean(rates)), 4),
        error=round(float(np.std(rates, ddof=1) / math.sqrt(CHAINS)), 4),
        lowest=round(min(rates), 4),
        chains=CHAINS,
        iterations=ITERATIONS,
        iterations_per_second=round(steps / seconds, 1),
    )


def _relax(
    molecule: MolecularSystem, positions: np.ndarray[Any, Any], model: Path, seed: int
) -> np.ndarray[Any, Any]:
    from ..contract import read_metadata
    from ..simulation.starts import get_positions

    temperature = read_metadata(model).temperature
    integrator = openmm.LangevinMiddleIntegrator(temperature, 1.0, 0.001 * PICOSECOND)
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(molecule.system, integrator, *make_platform("Reference"))
    context.setPositions(positions)
    context.setVelocitiesToTemperature(temperature, seed)
    integrator.step(5000)
    return get_positions(context)


def write_card(path: Path, trained: TrainedFlow, provenance: dict[str, Any]) -> str:
    """Return the model's card in Markdown: what it is and what was measured."""
    made = provenance["fit"]
    measured, data = made["measured"], trained.provenance.data
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in made["seconds"].items())
    rounds = " -> ".join(f"{m['acceptance']:.1%}" for m in made["refine_rounds"])
    return "\n".join(
        [
            f"# {path.stem}",
            "",
            f"Independent draws for {trained.provenance.molecule.num_atoms} atoms at "
            f"{trained.provenance.temperature:g} K, {trained.provenance.force_field}.",
            "",
            f"- acceptance in the integrator's chain: {measured['acceptance']:.1%} +- "
            f"{measured['error']:.1%} (mean and standard error of {measured['chains']} chains of "
            f"{measured['iterations']} iterations from different basins; the lowest "
            f"{measured['lowest']:.1%})",
            f"- before refining and after each round, on the flow's own draws: {rounds}",
            f"- made in {made['total_minutes']:.1f} min of wall time with {made['threads']} "
            f"threads: {seconds}",
            f"- basins: {made['basins']['kept']} kept of {made['basins']['found']} found; "
            f"{made['basins']['dropped_frames']} frames of the exploration dropped for flipped "
            f"centres or amide bonds, {data['dropped_starts']} starts dropped",
            f"- data: {data['frames']} training frames, SHA-256 {data['sha256']}",
            f"- seed {made['settings']['seed']}, timewarp-openmm {__version__}",
            "",
        ]
    )
