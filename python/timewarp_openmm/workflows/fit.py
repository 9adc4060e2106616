"""From a structure to a validated model: explore, simulate, train, refine, export, measure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from ..files import exclusive_lock, refuse_existing, write_bytes_atomically
from ..flows.base import FlowConfig
from ..flows.chained.config import ChainedFlowConfig
from ..flows.in_place.config import InPlaceFlowConfig
from ..flows.internal.config import InternalFlowConfig, ShapeFlowConfig
from ..flows.registry import build_flow
from ..molecule.graph import molecule_from_topology
from ..molecule.matching import match_atoms
from ..molecule.standard_residues import DOUBLE_BONDS
from ..potentials.serialization import serialize_system
from ..seeds import shifted_seed
from ..simulation.chains import ChainRuns, run_chains
from ..simulation.explore import (
    Basins,
    ExploreSettings,
    basin_populations,
    basins_standing,
    describe_found,
    load_or_find_basins,
)
from ..simulation.identity import content_of
from ..simulation.langevin import Langevin, default_platform
from ..simulation.protocol import Protocol as SimulationProtocol
from ..simulation.run import run_standing, simulate
from ..simulation.short_runs import relaxed_start
from ..simulation.start_checks import check_start
from ..simulation.systems import MolecularSystem, with_hydrogen_bonds_constrained
from ..stages import Conflict, Done, Missing, refuse
from ..training.checkpoints import TrainedFlow, load_trained
from ..training.config import AugmentationConfig, DataConfig, TrainingConfig
from ..training.export import export_trained
from ..training.loop import Progress, train, training_standing
from ..training.refine import RefineSettings, describe, refine, refine_standing
from ..training.refine_record import Measurement
from ..trajectories.pairs import load_trajectories
from ..trajectories.weights import BasinMap, frame_weights, save_weights
from ..workers.base import Workers
from ..workers.opening import using
from .budget import (
    TIMESTEP,
    TRAINED_STATES,
    Costs,
    FitBudget,
    describe_minutes,
    export_seconds,
    least_times,
    measure_costs,
    network_sizes,
    training_overhead,
)
from .card import write_card
from .record import FitRecord, fit_standing, last_pass, set_aside
from .settings import FitSettings

LOCK_FILE = ".lock"
#: Of the time for refining that goes into measuring the flow.
MEASURING_SHARE = 0.2
#: Rotatable torsions beyond which a failed fit is told that these may be the reason.
MANY_TORSIONS = 8

#: kJ/mol; the energies of minima in place have those of what is around the fragment in them.
_WINDOW_IN_PLACE = 150.0
#: Of distance geometry, of a molecule that hot walkers may not get around in: rings, macrocycles.
_CONFORMERS = 50
_T = TypeVar("_T")


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

    @staticmethod
    def of(runs: ChainRuns) -> Validation:
        """Return the figures of some chains, rounded for files."""
        found = runs.acceptance
        return Validation(
            acceptance=round(found.mean, 4),
            error=round(found.error, 4),
            lowest=round(found.lowest, 4),
            chains=len(found.chains),
            iterations=runs.iterations,
            iterations_per_second=round(runs.iterations_per_second, 1),
        )


class Display(Protocol):
    """Shows where a fit stands."""

    def stage(self, name: str) -> None: ...

    def update(self, done: float, note: str) -> None: ...

    def tell(self, message: str) -> None: ...


class _Silent:
    def stage(self, name: str) -> None:
        pass

    def update(self, done: float, note: str) -> None:
        pass

    def tell(self, message: str) -> None:
        pass


def fit(
    molecule: MolecularSystem,
    out: str | Path,
    settings: FitSettings,
    work: str | Path | None = None,
    display: Display | None = None,
    force: bool = False,
    budget: FitBudget | None = None,
    workers: Workers | None = None,
    measured_in: openmm.System | None = None,
) -> Validation:
    """Make a model for one molecule, from its structure and force field alone.

    The same call goes on with what an interrupted one has left in the work folder. A call with more
    minutes goes on with a finished one: its trajectories become longer and its flow is refined
    further; nothing is simulated or trained twice.

    Parameters
    ----------
    molecule : MolecularSystem
    out : path
        The model file; a card of the same name with ``.md`` is written beside it.
    settings : FitSettings
    work : path, optional
        Where the stages leave their files; by default ``<out>.work``.
    display : Display, optional
    force : bool
        Replace the model that is there. A work folder of another fit is renamed, not removed.
    budget : FitBudget, optional
    workers : Workers, optional
        Who explores, simulates and computes energies, instead of so many processes of this machine
        as the settings say. Training is done by this process.
    measured_in : openmm.System, optional
        The System in which acceptance is measured at the end; by default the molecule's, with the
        constraints of the settings.

    Raises
    ------
    FileExistsError
        If `out` exists, or `work` holds a fit of another System, structure, temperature or seed,
        and `force` is false; or another process works there.
    ValueError
        If nothing can start from the structure, the molecule has no internal coordinates, the time
        is too short, a stage fails or the model accepts next to nothing; the message says why.
    """
    with using(settings.workers if workers is None else workers) as where:
        settings = replace(settings, workers=where.count())
        display, budget = display or _Silent(), budget or FitBudget()
        return _fit(molecule, Path(out), settings, work, display, force, budget, where, measured_in)


def _fit(
    molecule: MolecularSystem,
    out: Path,
    settings: FitSettings,
    work: str | Path | None,
    display: Display,
    force: bool,
    budget: FitBudget,
    workers: Workers,
    measured_in: openmm.System | None,
) -> Validation:
    if settings.minutes < budget.least_minutes:
        raise ValueError(
            f"a fit needs at least {budget.least_minutes:g} minute, got {settings.minutes:g}"
        )
    refuse_existing(out, force)
    work = Path(work) if work is not None else out.with_name(f"{out.stem}.work")
    # Refused before time is spent: impossible starts; several molecules, straight angles, water;
    # bonds that cannot be constrained.
    if settings.constraints is not None:
        measured_in = with_hydrogen_bonds_constrained(molecule)
    check_start(molecule.topology, molecule.system, molecule.positions)
    build_flow(flow_config(settings), molecule_from_topology(molecule.topology, molecule.system))
    identity = fit_identity(molecule, settings)
    make_way(work, identity, display, force)
    if isinstance(fit_standing(work, identity), Missing):
        # What is refused for want of time leaves no folder behind.
        costs = _measure_costs(molecule, settings, budget, display, workers)
        _check_time(settings, 0.0, least_times(budget, costs, settings.workers).total, molecule)
    else:
        costs = None
    work.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(work / LOCK_FILE):
        record = FitRecord(work, identity)
        _open_pass(record, molecule, settings, budget, display, costs, workers)
        settings = _with_flow(settings, record)
        system = measured_in or molecule.system
        return _Fit(molecule, out, settings, budget, record, work, display, workers, system).run()


def weights_folder(work: Path, number: int) -> Path:
    """Return where the weights after a pass are; those of the training before the first."""
    return work / (f"refine-{number}" if number > 0 else "train")


def fitted_flow(work: Path) -> TrainedFlow:
    """Return the flow that a finished fit has made a model of."""
    return load_trained(weights_folder(work, last_pass(work)))


def flow_config(settings: FitSettings) -> FlowConfig:
    """Return the flow that a fit trains."""
    flow = (settings.flow or InternalFlowConfig()).model_copy(update={"moved": settings.moved})
    shared = flow.model_dump(
        include=set(ShapeFlowConfig.model_fields), exclude={"coordinates", "moved"}
    )
    if settings.fragment is not None:
        return InPlaceFlowConfig(**shared, **asdict(settings.fragment))
    if not settings.later_parts:
        return flow
    shared["moved"] = settings.moved
    return ChainedFlowConfig(**shared, later_parts=settings.later_parts)


def _with_flow(settings: FitSettings, record: FitRecord) -> FitSettings:
    """Return the settings with the flow that the fit's first pass has chosen, if it has."""
    if settings.flow is not None or not record.has_decided("flow", 1):
        return settings
    return replace(settings, flow=InternalFlowConfig(**record.decided("flow", 1)))


def fit_identity(molecule: MolecularSystem, settings: FitSettings) -> dict[str, object]:
    """Return what a work folder is told by."""
    return {**content_of(molecule), **settings.identity()}


def make_way(work: Path, identity: dict[str, object], display: Display, force: bool) -> None:
    """Refuse a work folder of another fit, or rename it if `force`."""
    standing = fit_standing(work, identity)
    if not isinstance(standing, Conflict):
        return
    if not force:
        raise refuse(work, "another fit", standing.differences)
    with exclusive_lock(work / LOCK_FILE):
        kept = set_aside(work)
    changed = "; ".join(standing.differences)
    display.tell(f"{work} held another fit ({changed}); it is kept as {kept}")


def _measure_costs(
    molecule: MolecularSystem,
    settings: FitSettings,
    budget: FitBudget,
    display: Display,
    workers: Workers,
) -> Costs:
    display.stage("measure speed")
    with one_torch_thread():
        return measure_costs(molecule, workers, budget, flow_config(settings))


def _check_time(
    settings: FitSettings, spent: float, needed: float, molecule: MolecularSystem
) -> None:
    """Refuse a fit that would take longer than it may: it has taken `spent` seconds, and takes
    `needed` more at the least."""
    if spent + needed <= 60 * settings.minutes:
        return
    # Speeds vary from one measurement to the next.
    least = describe_minutes(spent + 1.1 * needed)
    already = f" ({describe_minutes(spent)} of them are spent)" if spent > 0 else ""
    raise ValueError(
        f"{settings.minutes:g} minutes{already} are too few for {len(molecule.positions)} atoms on "
        f"this machine as busy as it is, with {settings.workers} workers: the least is about "
        f"--minutes {least}, and several times as much is better"
    )


def _open_pass(
    record: FitRecord,
    molecule: MolecularSystem,
    settings: FitSettings,
    budget: FitBudget,
    display: Display,
    costs: Costs | None,
    workers: Workers,
) -> None:
    """Go on with the current pass, or begin another one where there is more time."""
    before = record.minutes(record.number)
    if record.is_finished and settings.minutes > before:
        decisions: dict[str, Any] = {}
        if costs is None:
            known = _with_flow(settings, record)
            costs = _measure_costs(molecule, known, budget, display, workers)
            least = least_times(budget, costs, settings.workers).of_a_later_pass()
            _check_time(settings, 60 * record.elapsed_minutes(), least.total, molecule)
        elif settings.chooses_sizes and record.number == 0:
            decisions["flow"] = network_sizes(budget, costs, settings.minutes)
            costs = costs.of_larger_networks() if decisions["flow"] else costs
        record.begin_pass(settings.minutes, {**decisions, "costs": asdict(costs)})
    elif not record.is_finished and settings.minutes != before:
        record.extend_pass(settings.minutes)


class _Fit:
    def __init__(
        self,
        molecule: MolecularSystem,
        out: Path,
        settings: FitSettings,
        budget: FitBudget,
        record: FitRecord,
        work: Path,
        display: Display,
        workers: Workers,
        measured_in: openmm.System,
    ) -> None:
        self._molecule, self._workers, self._measured_in = molecule, workers, measured_in
        self._atoms = molecule_from_topology(molecule.topology, molecule.system)
        self._out, self._settings, self._budget, self._work = out, settings, budget, work
        self._record, self._display = record, display
        self._costs = Costs(**record.decide("costs", dict))
        fragment = settings.fragment
        self._num_moved = len(fragment.moved) if fragment else self._atoms.num_atoms
        self._least_acceptance = budget.least_in_place if fragment else budget.least_acceptance
        self._least = least_times(budget, self._costs, settings.workers)
        if record.number > 1:
            self._least = self._least.of_a_later_pass()
        # A finished pass is only written and measured again, whatever time it has taken.
        self._has_time = record.is_finished

    def run(self) -> Validation:
        with one_torch_thread():
            basins = self._stage("explore", self._explore)
            self._stage("simulate", lambda: self._simulate(basins))
            if self._record.number == 1:
                self._stage("train", self._train)
            result = self._stage("refine", self._refine)
            return self._stage("export and measure", lambda: self._export(basins, result))

    def _stage(self, name: str, work: Callable[[], _T]) -> _T:
        self._display.stage(name)
        began = time.monotonic()
        try:
            return work()
        finally:
            self._record.add_seconds(name, time.monotonic() - began)

    def _left(self) -> float:
        """Return the seconds until the end of the time for the whole fit."""
        return 60 * (self._settings.minutes - self._record.elapsed_minutes())

    def _require_time(self, stage: str) -> None:
        """Refuse to go on with a fit that was interrupted if its time does not suffice any more.

        To be called before whatever a stage does anew. Once it has begun, a call goes through.
        """
        if not self._has_time:
            spent = 60 * self._record.elapsed_minutes()
            _check_time(self._settings, spent, self._least.remaining(stage), self._molecule)
            self._has_time = True

    def _decide(self, stage: str, name: str, choose: Callable[[], _T]) -> _T:
        """Return what a stage has decided, or let it be chosen now if there is time for it."""
        if not self._record.has_decided(name, self._record.number):
            self._require_time(stage)
        chosen: _T = self._record.decide(name, choose)
        return chosen

    @property
    def _data(self) -> Path:
        return self._work / "data"

    def _explore(self) -> Basins:
        settings, seed = self._explore_settings(), self._settings.seed
        if basins_standing(self._data, self._molecule, settings, seed) != Done():
            self._require_time("explore")
            assert settings.max_minutes is not None
            most = min(settings.max_minutes, self._available("explore") / 60)
            settings = replace(settings, max_minutes=most)
        return load_or_find_basins(
            self._data,
            self._molecule,
            settings,
            seed,
            self._workers,
            self._display.update,
        )

    def _explore_settings(self) -> ExploreSettings:
        budget, costs, workers = self._budget, self._costs, self._settings.workers

        def choose() -> dict[str, Any]:
            seconds = self._seconds("explore", budget.explore_share)
            # Minimising takes about as long as the walks themselves.
            length = seconds * costs.ps_per_second * workers / ExploreSettings.walkers / 2
            run = budget.runs_per_basin * (budget.equilibration + budget.shortest)
            affordable = int(self._simulate_seconds() * costs.ps_per_second * workers / run)
            most = budget.basins_for(self._num_moved)
            return {
                "length": max(budget.shortest, float(min(300.0, round(length)))),
                "max_minutes": 2 * seconds / 60,
                "max_basins": max(min(budget.least_basins, most), min(most, affordable)),
                "conformers": _CONFORMERS if self._is_embedded() else 0,
            }

        # Basins are found once: later passes start from those of the first.
        if self._record.number == 1:
            chosen = self._decide("explore", "explore", choose)
        else:
            chosen = self._record.decided("explore", 1)
        settings = replace(ExploreSettings(), **chosen)
        if self._settings.fragment is None:
            return settings
        return replace(settings, fragment=self._settings.fragment, energy_window=_WINDOW_IN_PLACE)

    def _is_embedded(self) -> bool:
        """Tell whether distance geometry finds conformers: of a molecule by itself that is no
        peptide, whose torsions walkers turn."""
        if self._settings.fragment is not None:
            return False
        residues = self._molecule.topology.residues()
        return not all(residue.name in DOUBLE_BONDS for residue in residues)

    def _available(self, stage: str) -> float:
        """Return the seconds that are left for a stage if later ones take the least."""
        least = self._least.of(stage)
        return max(least, self._left() - self._least.remaining(stage) + least)

    def _seconds(self, stage: str, share: float) -> float:
        """Return what a stage may take: its share of the pass's own time, if so much is left."""
        number = self._record.number
        minutes = self._record.minutes(number) - self._record.minutes(number - 1)
        return min(max(self._least.of(stage), 60 * share * minutes), self._available(stage))

    def _simulate_seconds(self) -> float:
        return self._seconds("simulate", self._budget.simulate_share)

    def _simulate(self, basins: Basins) -> None:
        protocol = self._protocol(basins)
        if run_standing(self._data, self._molecule, protocol, basins.positions) != Done():
            self._require_time("simulate")
            self._run_trajectories(basins, protocol)
        # Written once: the training is told by it.
        if not self._weights_file.exists():
            found = load_trajectories(self._data)
            where = BasinMap(self._atoms, basins.torsions, self._settings.fragment)
            weights = frame_weights(found.trajectories, where, self._populations(basins))
            save_weights(self._weights_file, weights)

    def _populations(self, basins: Basins) -> NDArray[np.float64]:
        """Return a guess of the basins' populations [K]."""
        if self._settings.fragment is not None:
            # The energies of minima are mostly those of what is around the fragment.
            return np.full(len(basins), 1 / len(basins))
        hot = self._explore_settings().temperatures
        return basin_populations(basins, self._settings.temperature, hot)

    @property
    def _weights_file(self) -> Path:
        return self._work / "weights.npz"

    def _run_trajectories(self, basins: Basins, protocol: SimulationProtocol) -> None:
        total = protocol.trajectories * protocol.frames
        found = describe_found(basins.found, basins.images)
        note = f"{len(basins)} basins of {found}, {basins.dropped} frames dropped"

        def report(frames: int) -> None:
            self._display.update(frames / total, note)

        patience = self._budget.simulate_patience * self._simulate_seconds()
        seconds = min(patience, self._available("simulate"))
        simulate(
            self._molecule,
            protocol,
            self._data,
            self._workers,
            report=report,
            starts=basins.positions,
            max_minutes=seconds / 60,
            fragment=self._settings.fragment,
        )

    def _protocol(self, basins: Basins) -> SimulationProtocol:
        budget = self._budget
        trajectories = budget.runs_per_basin * len(basins)

        def choose() -> dict[str, float]:
            workers = self._settings.workers
            total = self._simulate_seconds() * self._costs.ps_per_second * workers
            if self._record.number > 1:
                return self._longer(total / trajectories, trajectories)
            length = max(budget.shortest, total / trajectories - budget.equilibration)
            most = budget.frames_for(self._atoms.num_atoms)
            interval = max(0.1, math.ceil(10 * length * trajectories / most) / 10)
            return {"length": round(length / interval) * interval, "interval": interval}

        times = self._decide("simulate", "simulate", choose)
        return SimulationProtocol(
            molecule=self._molecule.name,
            force_field=self._molecule.force_field,
            platform=default_platform(self._atoms.num_atoms),
            temperature=self._settings.temperature,
            friction=1.0,
            timestep=TIMESTEP,
            equilibration=budget.equilibration,
            trajectories=trajectories,
            starts="explored",
            seed=self._settings.seed,
            **times,
        )

    def _longer(self, more: float, trajectories: int) -> dict[str, float]:
        """Return the times of the last pass with `more` ps, as far as more frames are of use."""
        last: dict[str, float] = self._record.decided("simulate", self._record.number - 1)
        interval = last["interval"]
        frames = self._budget.frames_for(self._atoms.num_atoms)
        most = frames / trajectories * interval
        length = round(min(last["length"] + more, most) / interval) * interval
        return {"length": max(last["length"], length), "interval": interval}

    def _train(self) -> None:
        def choose() -> float:
            seconds = self._seconds("train", self._budget.train_share)
            return (seconds - training_overhead(self._costs)) / 60

        minutes = self._decide("train", "train_minutes", choose)
        run, config = self._work / "train", self._training_config(minutes)

        def report(done: float, progress: Progress) -> None:
            self._display.update(done, _note(progress))

        if training_standing(config, run) != Done():
            self._require_time("train")
            # An interrupted training counts what it has taken before.
            most = (self._record.seconds.get("train", 0.0) + self._available("train")) / 60
            most = min(minutes, most)
            train(config, run, minutes=most, report=report, workers=self._workers)

    def _training_config(self, minutes: float) -> TrainingConfig:
        names = [t.name for t in load_trajectories(self._data).trajectories]
        # Trajectory i starts in basin i mod K, so the last K start once in each.
        held_out = names[len(names) - len(names) // self._budget.runs_per_basin :]
        return TrainingConfig(
            flow=flow_config(self._settings),
            data=DataConfig(
                folder=self._data,
                test_trajectories=tuple(held_out),
                frame_weights=self._weights_file,
            ),
            augmentation=AugmentationConfig(permute_hydrogens=False),
            lag_times=(math.inf,),
            batch_size=TRAINED_STATES,
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

    def _refine_folder(self, number: int) -> Path:
        return weights_folder(self._work, number)

    def _refine(self) -> tuple[Measurement, ...]:
        number = self._record.number
        reserved = export_seconds(self._budget, self._costs, self._settings.workers)
        seconds = max(self._least.refine, self._left() - reserved)
        shape = self._decide("refine", "refine", lambda: self._choose_refining(seconds))
        settings = RefineSettings(
            minutes=seconds / 60,
            target=self._settings.target,
            workers=self._settings.workers,
            learning_rate=self._budget.refine_rate,
            **shape,
        )

        def report(done: float, number: int, progress: Progress) -> None:
            self._display.update(done, f"round {number}, {_note(progress)}")

        folders = self._refine_folder(number - 1), self._refine_folder(number)
        # A work folder may have been made elsewhere.
        data = load_trained(folders[0]).config.data.model_copy(update={"folder": self._data})
        if refine_standing(*folders, settings, data) != Done():
            self._require_time("refine")
        return refine(*folders, settings, report, data, self._workers).measurements

    def _choose_refining(self, seconds: float) -> dict[str, int]:
        budget, costs = self._budget, self._costs
        rounds = max(1, min(budget.most_rounds, int(seconds / 60 / budget.minutes_per_round)))
        each = costs.seconds_per_draw + costs.seconds_per_energy / self._settings.workers
        affordable = int(MEASURING_SHARE * seconds / (rounds + 1) / each)
        draws = max(budget.least_draws, min(budget.most_draws, affordable))
        return {"rounds": rounds, "draws": draws}

    def _export(self, basins: Basins, measurements: tuple[Measurement, ...]) -> Validation:
        self._require_time("export")
        trained = load_trained(self._refine_folder(self._record.number))
        provenance = {
            "fit": {
                "settings": {k: v for k, v in asdict(self._settings).items() if k != "flow"},
                "seconds": self._record.seconds,
                "basins": {
                    "kept": len(basins),
                    "found": basins.found,
                    "mirror_images": basins.images,
                    "dropped_frames": basins.dropped,
                },
                "refine_rounds": [describe(m) for m in measurements],
                "threads": self._settings.workers,
            }
        }
        candidate, bits = self._work / "candidate.pt", self._settings.weight_bits
        export_trained(trained, candidate, provenance, overwrite=True, weight_bits=bits)
        validation = self._validate(candidate, basins)
        self._record.finish_pass()
        if validation.acceptance < self._least_acceptance:
            raise ValueError(self._explain_failure(validation, measurements, trained.step, basins))
        provenance["fit"]["measured"] = asdict(validation)
        provenance["fit"]["total_minutes"] = round(self._record.elapsed_minutes(), 2)
        export_trained(trained, self._out, provenance, overwrite=True, weight_bits=bits)
        write_bytes_atomically(
            self._out.with_suffix(".md"), write_card(self._out, trained, provenance).encode()
        )
        return validation

    def _validate(self, model: Path, basins: Basins) -> Validation:
        budget, seed = self._budget, self._settings.seed
        minima = [basins.positions[k % len(basins)] for k in range(budget.chains)]
        return validate(
            model,
            replace(self._molecule, system=self._measured_in),
            minima,
            self._settings,
            budget,
            seed,
            self._left() - budget.export_starts * self._costs.seconds_to_start / 2,
            self._workers,
        )

    def _explain_failure(
        self,
        found: Validation,
        measurements: tuple[Measurement, ...],
        steps: int,
        basins: Basins,
    ) -> str:
        drawn = max(m.acceptance for m in measurements)
        torsions = basins.torsions.shape[1]
        reasons = []
        if drawn < 5 * self._least_acceptance:
            reasons.append(
                f"too little time: {steps} steps of the last training, in "
                f"{self._record.elapsed_minutes():.1f} minutes of all, for {self._num_moved} "
                f"atoms and {torsions} rotatable torsions"
            )
        else:
            reasons.append(
                f"chains that start where the data lack a basin: {drawn:.1%} are accepted on the "
                f"flow's own draws, and the lowest chain has {found.lowest:.1%}"
            )
        if self._settings.fragment is not None:
            reasons.append(
                "surroundings that leave the fragment room for one conformation only, as others "
                "need them to give way at the same time"
            )
        if torsions > MANY_TORSIONS:
            reasons.append(
                "too many torsions for independent draws of the whole molecule at once: each one "
                "multiplies what must be right together"
            )
        return (
            f"the model accepts {found.acceptance:.2%} of its proposals ({found.chains} chains of "
            f"{found.iterations} iterations), less than {self._least_acceptance:.1%}, so "
            f"that none was written. Likely reasons: {'; '.join(reasons)}. Data and training stay "
            f"in {self._work}; the same command with more --minutes goes on with them"
        )


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Have torch use one thread.

    Matrices this small gain little from a second thread, and on busy cores two threads that wait
    for each other were measured to be 30 times slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _note(progress: Progress) -> str:
    return progress.describe(
        f"acceptance {progress.acceptance:.1%} (best {progress.best_acceptance:.1%})"
    )


def validate(
    model: Path,
    molecule: MolecularSystem,
    minima: Sequence[NDArray[np.float64]],
    settings: FitSettings,
    budget: FitBudget,
    seed: int,
    max_seconds: float = math.inf,
    workers: int | Workers = 1,
) -> Validation:
    """Measure acceptance with the integrator, in chains from different basins.

    Parameters
    ----------
    molecule : MolecularSystem
        With the System in which it is measured.
    minima : sequence of array [N, 3], nm
        Each chain first relaxes from its own by a little dynamics.
    max_seconds : float
        After which the chains end, if they have not yet made the budget's iterations.
    workers : int or Workers
        Who relaxes the starts; the chains, whose speed is told, run in this process.
    """
    began = time.monotonic()
    dynamics = Langevin(settings.temperature, timestep=TIMESTEP)
    platform = default_platform(len(molecule.positions))
    xml = serialize_system(molecule.system)
    with using(workers) as where:
        pieces = [
            where.submit(
                relaxed_start,
                xml,
                start,
                dynamics,
                budget.relaxation,
                platform,
                shifted_seed(seed, chain),
                name=f"start {chain}",
            )
            for chain, start in enumerate(minima)
        ]
        starts = [piece.result() for piece in pieces]
    # The model of a part knows some of the atoms only, and may fit elsewhere in the molecule, too.
    own: Sequence[int] = ()
    among = settings.moved if settings.fragment is None else settings.fragment.moved
    if among is not None:
        own = match_atoms(model, molecule.topology, among, molecule.positions)
    left = max_seconds - (time.monotonic() - began)
    runs = run_chains(
        model, molecule.system, starts, budget.iterations, seed, own, platform, max_seconds=left
    )
    return Validation.of(runs)
