"""A model for a potential: from the force field's, by learning what the two differ in.

An energy of the potential is dear, so that a flow is first made for the force field. Short dynamics
of the potential show how stiff coordinates shift. Then, in cycles: the flow draws, the potential
says the energies of the draws, a correction to the force field's energy is learned from them, and
the flow is refined on the corrected energy, which costs next to nothing. What was learned decides
first in chains, too (delayed acceptance); their last word is the potential's own.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..energies.correction import (
    CORRECTION_FILE,
    base_energy,
    load_corrected,
    save_corrected,
)
from ..energies.evaluated import evaluate_into
from ..files import exclusive_lock, refuse_existing, replace_atomically, write_bytes_atomically
from ..importance import UNPHYSICAL
from ..molecule.graph import molecule_from_topology
from ..potentials.base import Potential
from ..potentials.registry import short_name
from ..potentials.surrogates import surrogate_file
from ..simulation.chains import run_chains
from ..simulation.explore import BASINS_FILE, Basins, read_basins
from ..simulation.identity import content_of
from ..simulation.langevin import default_platform
from ..simulation.protocol import Protocol as SimulationProtocol
from ..simulation.run import run_standing, simulate
from ..simulation.systems import MolecularSystem
from ..stages import Done
from ..training.checkpoints import load_trained
from ..training.config import DataConfig
from ..training.correction import Labelled, learn_correction
from ..training.export import export_trained
from ..training.independence import Draws
from ..training.independence import run_chains as chains_of_draws
from ..training.loop import Progress
from ..training.refine import RefineSettings, describe, refine
from ..training.refine_record import Measurement
from ..trajectories.pairs import load_trajectories
from ..workers.base import Workers
from ..workers.opening import using
from .budget import FitBudget, describe_minutes
from .card import write_target_card
from .fit import LOCK_FILE, Display, Validation, fit, make_way, one_torch_thread
from .record import FitRecord
from .settings import FitSettings
from .target_budget import (
    TargetBudget,
    least_minutes,
    measure_energy,
    measure_proposal,
    plan_dynamics,
)
from .target_draws import read_draws, write_draws

_T = TypeVar("_T")


@dataclass(frozen=True)
class TargetValidation:
    """What the model accepts in chains of the potential.

    Attributes
    ----------
    proposals : Validation
        Of single proposals, each with an energy of the potential.
    energies : Validation
        Of energies of the potential, each after `subchain` proposals that the surrogate decided on.
    subchain : int
    """

    proposals: Validation
    energies: Validation
    subchain: int


def fit_target(
    molecule: MolecularSystem,
    on_target: MolecularSystem,
    potential: Potential,
    out: str | Path,
    settings: FitSettings,
    display: Display,
    work: str | Path | None = None,
    force: bool = False,
    budget: TargetBudget | None = None,
    force_field_budget: FitBudget | None = None,
    workers: Workers | None = None,
) -> TargetValidation:
    """Make a model of a molecule for a potential.

    The same call goes on with what an interrupted one has left in the work folder; one with more
    minutes, with a finished one.

    Parameters
    ----------
    molecule, on_target : MolecularSystem
        With the force field's System, and with the potential's (`with_potential`).
    potential : Potential
    out : path
        The model file; the surrogate, ``<out>.surrogate.pt``, and a card are written beside it.
    settings : FitSettings
        Of a whole molecule without constraints.
    force : bool
        Replace the files that are there.
    workers : Workers, optional
        As for `fit`; they need the potential, too.

    Raises
    ------
    FileExistsError
        If a file exists, or `work` holds another fit, and `force` is false.
    ValueError
        If the settings are of a part, the time is too short or a stage fails.
    """
    budget = budget or TargetBudget()
    if settings.moved is not None or settings.constraints is not None:
        raise ValueError(
            "a potential is of a whole molecule without constraints; leave out --moved, --last and "
            "--constraints, or --target"
        )
    out = Path(out)
    for path in (out, surrogate_file(out)):
        refuse_existing(path, force)
    work = Path(work) if work is not None else out.with_name(f"{out.stem}.work")
    # Refused before time is spent: what no surrogate can be made of.
    base_energy(molecule.system)
    identity = {
        **content_of(molecule),
        "target": content_of(on_target)["system"],
        **settings.identity(),
    }
    make_way(work, identity, display, force)
    work.mkdir(parents=True, exist_ok=True)
    with (
        using(settings.workers if workers is None else workers) as where,
        exclusive_lock(work / LOCK_FILE),
    ):
        settings = replace(settings, workers=where.count())
        record = FitRecord(work, identity)
        if record.number == 0 or (
            record.is_finished and settings.minutes > record.minutes(record.number)
        ):
            record.begin_pass(settings.minutes)
        elif not record.is_finished:
            record.extend_pass(settings.minutes)
        job = _TargetFit(molecule, on_target, potential, out, settings, budget, record, work, where)
        return job.run(display, force_field_budget)


class _TargetFit:
    def __init__(
        self,
        molecule: MolecularSystem,
        on_target: MolecularSystem,
        potential: Potential,
        out: Path,
        settings: FitSettings,
        budget: TargetBudget,
        record: FitRecord,
        work: Path,
        workers: Workers,
    ) -> None:
        self._molecule, self._on_target, self._potential = molecule, on_target, potential
        self._out, self._settings, self._budget = out, settings, budget
        self._record, self._work, self._workers = record, work, workers
        self._atoms = molecule_from_topology(molecule.topology, molecule.system)
        self._measured: list[Measurement] = []

    def run(self, display: Display, force_field_budget: FitBudget | None) -> TargetValidation:
        self._display = display
        if not self._record.has_decided("seconds_per_energy", 1):
            self._check_time()
        self._stage("force field", lambda: self._fit_force_field(force_field_budget))
        with one_torch_thread():
            self._stage("dynamics of the potential", self._simulate)
            for cycle in range(1, self._cycles() + 1):
                self._stage("energies", lambda c=cycle: self._label(c))  # type: ignore[misc]
                self._stage("learn", lambda c=cycle: self._learn(c))  # type: ignore[misc]
                self._stage("refine", lambda c=cycle: self._refine(c))  # type: ignore[misc]
            return self._stage("export and measure", self._export)

    def _stage(self, name: str, work: Callable[[], _T]) -> _T:
        self._display.stage(name)
        began = time.monotonic()
        try:
            return work()
        finally:
            self._record.add_seconds(name, time.monotonic() - began)

    def _check_time(self) -> None:
        """Refuse a fit whose time would go into a few energies of the potential."""
        cost = measure_energy(
            self._on_target.system, self._molecule.positions, self._settings.temperature
        )
        least = least_minutes(self._budget, cost, self._settings.workers)
        if self._settings.minutes < least:
            raise ValueError(
                f"{self._settings.minutes:g} minutes are too few for "
                f"{short_name(self._potential)}, of which an energy takes {cost:.2g} s on this "
                "machine as busy as it is: the least is about --minutes "
                f"{describe_minutes(60 * least)}, and several times as much is better"
            )
        self._record.decide("seconds_per_energy", lambda: cost)

    def _cycles(self) -> int:
        return self._budget.cycles + self._record.number - 1

    def _seconds(self, share: float) -> float:
        """Return a share of the current pass's time, as far as it is left."""
        number = self._record.number
        minutes = self._record.minutes(number) - self._record.minutes(number - 1)
        left = self._settings.minutes - self._record.elapsed_minutes()
        return 60 * max(min(share * minutes, left), 0.01 * share * minutes)

    # The flow of the force field.

    @property
    def _force_field_work(self) -> Path:
        return self._work / "force-field"

    def _fit_force_field(self, budget: FitBudget | None) -> None:
        model = self._work / "force-field.pt"
        if model.exists():
            return
        minutes = self._record.decide(
            "force_field_minutes",
            lambda: self._budget.force_field_share * self._settings.minutes,
        )
        settings = replace(
            self._settings, minutes=max(minutes, (budget or FitBudget()).least_minutes)
        )
        folder, display = self._force_field_work, self._display
        try:
            fit(
                self._molecule,
                model,
                settings,
                folder,
                display,
                budget=budget,
                workers=self._workers,
            )
        except ValueError as error:
            raise ValueError(
                f"the flow for the force field, which has {self._budget.force_field_share:.0%} of "
                f"the minutes of a fit for a potential, cannot be made: {error}"
            ) from error

    def _flow_folder(self, cycle: int) -> Path:
        """Return where the weights after a cycle are; after 0, those for the force field."""
        if cycle > 0:
            return self._work / f"refine-{cycle}"
        number = len(list(self._force_field_work.glob("refine-*")))
        return self._force_field_work / f"refine-{number}"

    # Dynamics of the potential.

    @property
    def _data(self) -> Path:
        return self._work / "dynamics"

    def _basins(self) -> Basins:
        return read_basins(self._force_field_work / "data" / BASINS_FILE).basins

    def _energy_cost(self) -> float:
        cost: float = self._record.decide(
            "seconds_per_energy",
            lambda: measure_energy(
                self._on_target.system, self._molecule.positions, self._settings.temperature
            ),
        )
        return cost

    def _simulate(self) -> None:
        basins, seconds = self._basins(), self._seconds(self._budget.dynamics_share)
        if self._record.number == 1:
            chosen = self._record.decide(
                "dynamics",
                lambda: asdict(
                    plan_dynamics(
                        self._budget,
                        len(basins),
                        seconds,
                        self._energy_cost(),
                        self._settings.workers,
                    )
                ),
            )
        else:
            chosen = self._record.decided("dynamics", 1)
        starts = basins.positions[: chosen["basins"]]
        protocol = self._protocol(len(starts), chosen["length"])
        if run_standing(self._data, self._on_target, protocol, starts) != Done():
            total = protocol.trajectories * protocol.frames
            simulate(
                self._on_target,
                protocol,
                self._data,
                self._workers,
                report=lambda frames: self._display.update(frames / total, f"{len(starts)} basins"),
                starts=starts,
                max_minutes=1.5 * seconds / 60,
            )
        if not (self._data / BASINS_FILE).exists():
            shutil.copyfile(self._force_field_work / "data" / BASINS_FILE, self._data / BASINS_FILE)

    def _protocol(self, basins: int, length: float) -> SimulationProtocol:
        return SimulationProtocol(
            molecule=self._molecule.name,
            force_field=self._on_target.force_field,
            platform=default_platform(self._atoms.num_atoms),
            temperature=self._settings.temperature,
            friction=1.0,
            timestep=self._budget.timestep,
            equilibration=self._budget.equilibration,
            trajectories=self._budget.runs_per_basin * basins,
            starts="explored",
            seed=self._settings.seed,
            length=length,
            interval=self._budget.interval,
        )

    # Energies of the potential.

    def _label(self, cycle: int) -> None:
        seconds, least = self._seconds(self._budget.energies_share), self._budget.least_draws
        if cycle == 1:
            self._evaluate(0, self._frames(), seconds / 2, least)
            seconds /= 2
        self._evaluate(cycle, self._draws(cycle), seconds, least)

    def _frames(self) -> NDArray[np.float64]:
        """Return frames of the dynamics, evenly chosen."""
        found = load_trajectories(self._data).trajectories
        frames = np.concatenate([t.positions for t in found]).astype(float)
        every = math.ceil(len(frames) / self._budget.most_frames)
        return frames[::every]

    def _draws_file(self, cycle: int) -> Path:
        return self._work / f"draws-{cycle}.npz"

    def _draws(self, cycle: int) -> NDArray[np.float64]:
        """Return the flow's draws before a cycle, made once."""
        path = self._draws_file(cycle)
        if not path.exists():
            cost = self._energy_cost()
            affordable = self._seconds(self._budget.energies_share) * self._settings.workers / cost
            count = int(min(self._budget.most_draws, max(self._budget.least_draws, affordable)))
            source = load_trained(self._flow_folder(cycle - 1))
            write_draws(path, source, self._frames(), count, cycle)
        return read_draws(path).positions

    def _evaluate(
        self, number: int, positions: NDArray[np.float64], seconds: float, least: int = 0
    ) -> Labelled:
        energies, gradients = evaluate_into(
            self._work / f"energies-{number}",
            self._on_target.system,
            positions,
            self._settings.temperature,
            self._workers,
            seconds,
            least,
            # Reading what there is need not be shown.
            self._display.update if seconds > 0 else lambda *_: None,
        )
        return Labelled(positions[: len(energies)], energies, gradients)

    def _labelled(self, cycle: int) -> Labelled:
        """Return all that has energies by a cycle, none of them computed now."""
        sets = [self._frames(), *(self._draws(c) for c in range(1, cycle + 1))]
        parts = [self._evaluate(number, found, 0.0) for number, found in enumerate(sets)]
        for part in parts:
            part.energies[part.energies >= UNPHYSICAL] = np.nan
        return Labelled.joined(parts)

    # Learning and refining.

    def _learned(self, cycle: int) -> Path:
        return self._work / f"learned-{cycle}"

    def _learn(self, cycle: int) -> None:
        if (self._learned(cycle) / CORRECTION_FILE).exists():
            return
        correction, quality = learn_correction(
            base_energy(self._molecule.system),
            self._labelled(cycle),
            self._settings.temperature,
            self._seconds(self._budget.learn_share),
            self._settings.seed,
            self._display.update,
        )
        self._record.decide(f"learned_{cycle}", lambda: asdict(quality))
        save_corrected(self._learned(cycle), self._molecule.system, correction)

    def _refine(self, cycle: int) -> None:
        folders = self._flow_folder(cycle - 1), self._flow_folder(cycle)
        names = [t.name for t in load_trajectories(self._data).trajectories]
        held_out = names[len(names) - len(names) // self._budget.runs_per_basin :]
        data = DataConfig(
            folder=self._data,
            test_trajectories=tuple(held_out),
            learned_energy=self._learned(cycle),
        )
        settings = self._refine_settings(cycle)

        def report(done: float, number: int, progress: Progress) -> None:
            tested = f"acceptance {progress.acceptance:.1%} of the learned energy"
            self._display.update(done, f"round {number}, {progress.describe(tested)}")

        self._measured += refine(*folders, settings, report, data).measurements

    def _refine_settings(self, cycle: int) -> RefineSettings:
        budget = self._budget
        remaining = max(1, self._cycles() - cycle + 1)
        later = (remaining - 1) * (budget.energies_share + budget.learn_share)
        reserved = self._seconds(later + budget.validate_share)
        left = 60 * (self._settings.minutes - self._record.elapsed_minutes()) - reserved
        return RefineSettings(
            minutes=max(left / remaining, 1.0) / 60,
            rounds=budget.refine_rounds,
            target=self._settings.target,
            draws=budget.refine_draws,
            learning_rate=budget.refine_rate * 0.6 ** (cycle - 1),
            workers=1,
        )

    # The model.

    def _export(self) -> TargetValidation:
        cycles = self._cycles()
        trained = load_trained(self._flow_folder(cycles))
        name = short_name(self._potential)
        trained = replace(trained, provenance=replace(trained.provenance, force_field=(name,)))
        provenance: dict[str, Any] = {"fit": self._provenance(cycles)}
        candidate = self._work / "candidate.pt"
        export_trained(trained, candidate, provenance, overwrite=True)
        surrogate = surrogate_file(candidate)
        energy = load_corrected(self._learned(cycles)).traced()
        replace_atomically(surrogate, lambda path: torch.jit.save(energy, path))  # type: ignore[no-untyped-call]
        found = self._validate(candidate, surrogate)
        self._record.finish_pass()
        if found.energies.acceptance < self._budget.least_acceptance:
            raise ValueError(
                f"the model accepts {found.energies.acceptance:.2%} of energies of {name} "
                f"({found.energies.chains} chains of {found.energies.iterations}), less than "
                f"{self._budget.least_acceptance:.1%}, so that none was written. What was made "
                f"stays in {self._work}; the same command with more --minutes goes on with it"
            )
        provenance["fit"]["target"] |= {"subchain": found.subchain}
        provenance["fit"]["measured"] = asdict(found)
        provenance["fit"]["total_minutes"] = round(self._record.elapsed_minutes(), 2)
        export_trained(trained, self._out, provenance, overwrite=True)
        write_bytes_atomically(surrogate_file(self._out), surrogate.read_bytes())
        card = write_target_card(self._out, trained, provenance)
        write_bytes_atomically(self._out.with_suffix(".md"), card.encode())
        return found

    def _provenance(self, cycles: int) -> dict[str, Any]:
        learned = [
            self._record.decided(f"learned_{cycle}", max(1, cycle - self._budget.cycles + 1))
            for cycle in range(1, cycles + 1)
        ]
        return {
            "settings": {k: v for k, v in asdict(self._settings).items() if k != "flow"},
            "seconds": self._record.seconds,
            "force_field": list(self._molecule.force_field),
            "refine_rounds": [describe(m) for m in self._measured],
            "threads": self._settings.workers,
            "target": {
                "potential": short_name(self._potential),
                "version": self._potential.version,
                "learned": learned,
                "acceptance_of_draws": [
                    round(self._acceptance_of_draws(cycle), 4) for cycle in range(1, cycles + 1)
                ],
            },
        }

    def _acceptance_of_draws(self, cycle: int) -> float:
        """Return what chains accept of the flow's draws before a cycle, by the potential."""
        drawn = read_draws(self._draws_file(cycle))
        energies = self._evaluate(cycle, drawn.positions, 0.0).energies
        plain = drawn.plain[: len(energies)]
        if not plain.any():
            return 0.0
        log_weights = (-energies - drawn.log_density[: len(energies)])[plain]
        positions = drawn.positions[: len(energies)][plain].astype(np.float32)
        start = np.array([np.median(log_weights)])
        rng = np.random.default_rng([self._settings.seed, cycle])
        return chains_of_draws(Draws(positions, log_weights), start, rng).mean * drawn.plain_share

    def _subchain(self, model: Path, surrogate: Path) -> int:
        """Return how many proposals take about as long as an energy of the potential.

        Half of the time for each is within a factor of two of the best, whatever is accepted.
        """
        cost = measure_energy(
            self._on_target.system, self._molecule.positions, self._settings.temperature
        )
        of_proposal = measure_proposal(model, surrogate, self._molecule.positions)
        return max(1, min(self._budget.longest_subchain, round(cost / of_proposal)))

    def _validate(self, model: Path, surrogate: Path) -> TargetValidation:
        budget, seed = self._budget, self._settings.seed
        found = load_trajectories(self._data).trajectories
        held_out = found[len(found) - len(found) // budget.runs_per_basin :]
        starts = [held_out[k % len(held_out)].positions[-1] for k in range(budget.chains)]
        seconds = self._seconds(budget.validate_share) / 2
        single = Validation.of(
            run_chains(
                model,
                self._on_target.system,
                starts,
                budget.iterations,
                seed,
                max_seconds=seconds,
            )
        )
        subchain = self._subchain(model, surrogate)
        after_subchain = Validation.of(
            run_chains(
                model,
                self._on_target.system,
                starts,
                budget.iterations,
                seed,
                max_seconds=seconds,
                surrogate=surrogate,
                subchain=subchain,
            )
        )
        return TargetValidation(single, after_subchain, subchain)
