"""Refining: exact chains on independent draws, the regression, and rounds that keep the best."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_data import TINY_INTERNAL

from timewarp_openmm.curves import read_metrics
from timewarp_openmm.energies.openmm_energy import OpenMMEnergy
from timewarp_openmm.flows import build_flow
from timewarp_openmm.losses.batch import Batch
from timewarp_openmm.losses.regression import begin_regression_states, regression_loss
from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.simulation.protocol import Protocol
from timewarp_openmm.simulation.run import simulate
from timewarp_openmm.simulation.systems import named_molecule
from timewarp_openmm.stages import Done, Partial
from timewarp_openmm.training import refine as refine_module
from timewarp_openmm.training.checkpoints import (
    LastCheckpoint,
    load_checkpoint,
    load_trained,
)
from timewarp_openmm.training.config import TrainingConfig
from timewarp_openmm.training.export import export_run
from timewarp_openmm.training.independence import Draws, draw, log_weights_of, run_chains
from timewarp_openmm.training.loop import Progress, train
from timewarp_openmm.training.refine import RefineSettings, refine, refine_standing
from timewarp_openmm.training.refine_record import Measurement, RefineRecord
from timewarp_openmm.trajectories.pairs import (
    PairSampler,
    Trajectory,
    load_independent,
    mix_frames,
    save_independent,
)
from timewarp_openmm.trajectories.weights import BasinMap


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "ala2"
    molecule = named_molecule("alanine-dipeptide")
    protocol = Protocol(
        molecule="alanine-dipeptide",
        force_field=molecule.force_field,
        platform="Reference",
        length=10.0,
        interval=0.05,
        equilibration=1.0,
        trajectories=3,
    )
    simulate(molecule, protocol, folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def trained(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "first"
    train(configure(data_folder), run)
    return run


def configure(folder: Path, **changes: object) -> TrainingConfig:
    settings: dict[str, object] = {
        "flow": TINY_INTERNAL,
        "data": {"folder": folder},
        "lag_times": [math.inf],
        "batch_size": 128,
        "max_steps": 60,
        "warmup_steps": 5,
        "learning_rate": 3e-3,
        "evaluation_interval": 30,
        "evaluation_pairs": 128,
        "gradient_clip": 10.0,
        **changes,
    }
    return TrainingConfig.model_validate(settings)


class Gaussian:
    """An independent draw of one number per state from N(0, width^2), as a flow."""

    noise_size = 1

    def __init__(self, width: float) -> None:
        self.width = width

    def sample(self, x, noise, lag):
        y = torch.zeros(len(noise), 1, 3)
        y[:, 0, 0] = self.width * noise[:, 0]
        return y, torch.zeros_like(y), self.log_prob(y, None, x, lag)

    def log_prob(self, y, w, x, lag):
        z = y[:, 0, 0].double() / self.width
        return -0.5 * z**2 - math.log(self.width)


class Unit:
    """U/kT of N(0, 1) in the first number."""

    def energies(self, positions):
        return 0.5 * positions[:, 0, 0].double() ** 2


def test_chain_on_draws_is_exact_and_its_acceptance_is_known() -> None:
    generator = torch.Generator().manual_seed(1)
    flow, energy = Gaussian(2.0), Unit()
    draws = draw(flow, energy, torch.zeros(1, 3), 40_000, generator)
    starts = log_weights_of(flow, energy, torch.zeros(4, 1, 3))
    chains = run_chains(draws, starts, np.random.default_rng(2))
    x = draws.positions[chains.visited[:, 100:].ravel(), 0, 0]
    assert x.var() == pytest.approx(1.0, abs=0.05)
    # Stationary acceptance of an independence sampler: 1 - (2/pi) ... by quadrature.
    grid = np.linspace(-12, 12, 1201)
    p = np.exp(-0.5 * grid**2)
    q = np.exp(-0.5 * (grid / 2) ** 2)
    p, q = p / p.sum(), q / q.sum()
    expected = np.minimum(p[:, None] * q[None], p[None] * q[:, None]).sum()
    assert chains.mean == pytest.approx(expected, abs=0.02)
    assert 0 < chains.error < 0.02
    assert draws.kish_share() == pytest.approx(1 / ((p**2 / q).sum()), abs=0.02)


class GaussianAround:
    """y of atom 1 is x of atom 0, which stays, plus a Gaussian of a width."""

    noise_size = 1

    def sample(self, x, noise, lag):
        y = x.expand(len(noise), 2, 3).clone()
        y[:, 1] = y[:, 0]
        y[:, 1, 0] += 2.0 * noise[:, 0]
        return y, torch.zeros_like(y), self.log_prob(y, None, x, lag)

    def log_prob(self, y, w, x, lag):
        z = (y[:, 1, 0] - x.expand_as(y)[:, 0, 0]).double() / 2.0
        return -0.5 * z**2 - math.log(2.0)


class Tethered:
    """U/kT of atom 1 at atom 0, which has an energy of its own."""

    def energies(self, positions):
        apart = (positions[:, 1, 0] - positions[:, 0, 0]).double()
        return 0.5 * apart**2 + 7.0 * positions[:, 0, 0].double()


def test_draws_of_a_part_are_made_and_tested_in_their_own_context() -> None:
    """Acceptance is that of one Gaussian whatever the energies of the contexts are."""
    starts = torch.zeros(4, 2, 3)
    starts[:, :, 0] = torch.tensor([0.0, 5.0, -3.0, 50.0]).unsqueeze(1)
    flow, energy = GaussianAround(), Tethered()
    draws = draw(flow, energy, starts, 20_000, torch.Generator().manual_seed(1))
    shares = draws.positions.reshape(4, 5000, 2, 3)
    assert (shares[:, :, 0, 0] == starts[:, :1, 0].numpy()).all()
    log_weights = log_weights_of(flow, energy, starts, own_context=True)
    chains = run_chains(draws, log_weights, np.random.default_rng(2))
    alone = draw(Gaussian(2.0), Unit(), torch.zeros(1, 3), 20_000, torch.Generator().manual_seed(3))
    expected = run_chains(alone, np.zeros(4), np.random.default_rng(4))
    # Each is the mean over 20,000 draws, known to about 0.006: four such errors.
    assert chains.mean == pytest.approx(expected.mean, abs=0.035)
    assert draws.kish_share() == pytest.approx(alone.kish_share(), abs=0.02)


def test_impossible_draws_are_never_visited() -> None:
    draws = Draws(np.zeros((100, 1, 3), np.float32), np.where(np.arange(100) % 2, 0.0, -np.inf))
    chains = run_chains(draws, np.zeros(2), np.random.default_rng(1))
    assert set(np.unique(chains.visited % 2)) == {1}
    assert chains.mean == pytest.approx(0.5)


def test_regression_brings_the_density_to_the_energy(data_folder: Path, trained: Path) -> None:
    """The misfit on fresh draws shrinks, where likelihood alone has stopped."""
    run = load_trained(trained)
    molecule = run.provenance.molecule
    system = named_molecule("alanine-dipeptide").system
    energy = OpenMMEnergy(system, 310.0, "Reference")
    flow = build_flow(run.config.flow, molecule)
    flow.load_state_dict(run.weights)
    frames = torch.tensor(run.provenance.reference_positions)[None].expand(4, -1, -1)
    lag = torch.full((4,), math.inf)
    generator = torch.Generator().manual_seed(1)
    batch = Batch(frames, frames, torch.randn(frames.shape, generator=generator), lag)
    optimizer = torch.optim.Adam(flow.parameters(), lr=2e-3)

    def kish() -> float:
        return misfit_quartile(flow, energy, frames[0])

    before = kish()
    for _ in range(40):
        optimizer.zero_grad()
        noise = torch.randn(128, flow.noise_size, generator=generator)
        states = begin_regression_states(flow, energy, batch, noise).result()
        loss = regression_loss(flow, states, 2.0)
        loss.backward()
        optimizer.step()
    assert kish() < 0.9 * before


def misfit_quartile(flow, energy, reference) -> float:
    """Return the interquartile range of log p - log q over fresh draws."""
    draws = draw(flow, energy, reference, 400, torch.Generator().manual_seed(5))
    low, high = np.quantile(draws.log_weights, [0.25, 0.75])
    return float(high - low)


def test_rounds_measure_keep_the_best_and_export(trained: Path, tmp_path: Path) -> None:
    settings = RefineSettings(minutes=0.1, rounds=1, draws=400, chains=4, evaluation_interval=20)
    result = refine(trained, tmp_path / "refined", settings)
    assert len(result.measurements) == 2
    first, second = result.measurements
    assert (result.best_round == 1) == (second.acceptance > first.acceptance)
    assert result.best.acceptance == max(first.acceptance, second.acceptance)
    round_run = load_trained(tmp_path / "refined" / "round-1")
    assert round_run.config.loss.regression.weight == 1.0
    assert all(entry["acceptance"] >= 0 for entry in read_metrics(tmp_path / "refined" / "round-1"))
    export_run(tmp_path / "refined", tmp_path / "model.pt")
    # The same call does nothing, and reports the same.
    assert refine_standing(trained, tmp_path / "refined", settings) == Done()
    again = refine(trained, tmp_path / "refined", settings)
    assert (again.measurements, again.best_round) == (result.measurements, result.best_round)
    assert again.seconds < 0.2 * 60 * settings.minutes
    # Whatever time and workers it has, it is the same refinement; with other settings it is not.
    others = {"minutes": 1.0, "workers": 2, "target": 0.5}
    for name, value in others.items():
        changed = replace(settings, **{name: value})
        assert refine_standing(trained, tmp_path / "refined", changed) == Done(), name
    with pytest.raises(FileExistsError, match="draws: 400 there, 300 now"):
        refine(trained, tmp_path / "refined", replace(settings, draws=300))
    # A refinement can itself be refined.
    more = refine(tmp_path / "refined", tmp_path / "more", replace(settings, minutes=0.02))
    assert len(more.measurements) == 2


@pytest.mark.parametrize("place", ["training", "measuring", "preparing"])
def test_an_interrupted_refinement_goes_on_and_is_never_mistaken_for_a_finished_one(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    settings = RefineSettings(minutes=2.0, rounds=1, draws=200, chains=4, evaluation_interval=2)
    folder = tmp_path / "refined"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def stop_in_round(done: float, number: int, progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    if place == "measuring":
        settings = replace(settings, minutes=0.02)
    with monkeypatch.context() as patch:
        if place == "preparing":
            patch.setattr(refine_module, "save_independent", stop)
        elif place == "measuring":
            measure = refine_module._Workshop.measure
            patch.setattr(
                refine_module._Workshop,
                "measure",
                lambda self, flow, number: measure(self, flow, number) if number == 0 else stop(),
            )
        with pytest.raises(KeyboardInterrupt):
            refine(trained, folder, settings, stop_in_round if place == "training" else None)
    assert isinstance(refine_standing(trained, folder, settings), Partial)
    steps: list[int] = []
    settings = replace(settings, minutes=0.02)
    result = refine(trained, folder, settings, lambda _, __, p: steps.append(p.step))
    assert len(result.measurements) == 2
    assert (steps == []) == (place == "measuring")
    assert place != "training" or steps[0] == 3
    last = load_checkpoint(folder / "round-1" / "last.ckpt", LastCheckpoint)
    assert last["progress"]["finished"]


def test_a_worse_round_is_thrown_away(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([0.4, 0.3])

    def measure(rounds, number):
        draws = Draws(np.zeros((10, 22, 3), np.float32), np.zeros(10))
        return draws, Measurement(next(rates), 0.01, 0.2, 0.1)

    monkeypatch.setattr(refine_module._Rounds, "_measure", measure)
    monkeypatch.setattr(refine_module._Rounds, "_prepare", lambda *_: None)
    monkeypatch.setattr(refine_module._Rounds, "_train", lambda *_: None)
    result = refine(trained, tmp_path / "refined", RefineSettings(rounds=3))
    assert result.best_round == 0
    assert len(result.measurements) == 2
    assert (tmp_path / "refined" / "best.ckpt").read_bytes() == (trained / "best.ckpt").read_bytes()


def test_more_rounds_go_on_where_fewer_have_ended() -> None:
    rising = tuple(Measurement(a, 0.01, 0.1, 0.1) for a in (0.2, 0.3))
    record = RefineRecord({}, rising)
    assert record.is_finished(rounds=1, target=0.9)
    assert not record.is_finished(rounds=2, target=0.9)
    assert record.is_finished(rounds=2, target=0.3)
    fallen = RefineRecord({}, (*rising, Measurement(0.25, 0.01, 0.1, 0.1)))
    assert fallen.is_finished(rounds=5, target=0.9)
    assert (record.best_round, fallen.best_round) == (1, 1)


def test_a_flow_without_independent_draws_is_refused(data_folder: Path, tmp_path: Path) -> None:
    config = configure(
        data_folder,
        lag_times=[0.1],
        flow={**TINY_INTERNAL, "lag_times": [0.1]},
        max_steps=2,
        evaluation_interval=2,
    )
    train(config, tmp_path / "finite")
    with pytest.raises(ValueError, match=r"needs one trained with \.inf"):
        refine(tmp_path / "finite", tmp_path / "refined", RefineSettings())


def test_draws_come_at_their_share_and_at_infinite_lag_only(tmp_path: Path) -> None:
    simulated = Trajectory("a", np.zeros((50, 4, 3), np.float32), 1.0)
    positions = np.ones((10, 4, 3), np.float32)
    test = np.arange(10) >= 8
    save_independent(tmp_path / "draws.npz", positions, np.arange(10.0), test, share=0.25)
    drawn, held_out = load_independent(tmp_path / "draws.npz", 4)
    assert (len(drawn.weights), len(held_out.weights)) == (8, 2)
    part, weights = mix_frames((simulated,), [np.full(50, 3.0, np.float32)], drawn)
    sampler = PairSampler(part, (1.0, math.inf), None, weights)
    x, y, lag = sampler.draw(4000, torch.Generator().manual_seed(1))
    infinite = torch.isinf(lag)
    assert float(y[infinite].mean()) == pytest.approx(0.25, abs=0.03)
    assert float(x[~infinite].abs().sum() + y[~infinite].abs().sum()) == 0.0
    with pytest.raises(ValueError, match="instead of float F 5 3"):
        load_independent(tmp_path / "draws.npz", 5)
    with pytest.raises(FileNotFoundError, match="no file of independent draws"):
        load_independent(tmp_path / "none.npz", 4)


def test_basins_of_data_that_were_not_explored() -> None:
    molecule = named_molecule("alanine-dipeptide")
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    basins = BasinMap.of_frames(atoms, np.stack([molecule.positions] * 5), seed=1)
    assert len(basins.centres) == 1
    assert basins.populations(molecule.positions[None], np.ones(1)).tolist() == [1.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"minutes": 0.0}, "minutes must be above 0"),
        ({"rounds": 0}, "rounds must be from 1"),
        ({"draw_share": 1.0}, "draw_share"),
        ({"target": 1.5}, "target must be above 0"),
        ({"chains": 1}, "chains must be from 2"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RefineSettings(**settings)


def test_measurements_are_plain_numbers() -> None:
    text = json.dumps(refine_module.describe(Measurement(0.51234, 0.01, 0.5, 0.4)))
    assert json.loads(text)["acceptance"] == 0.5123
