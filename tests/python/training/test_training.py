"""Training: configuration, symmetries, losses, resuming, early stopping and export."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import openmm
import pytest
import tables
import torch
from altered_systems import charges_scaled
from training_data import TINY_CARTESIAN

import timewarp_openmm.training.loop as trainer_module
from timewarp_openmm.contract import read_metadata
from timewarp_openmm.curves import read_metrics
from timewarp_openmm.energies.openmm_energy import OpenMMEnergy
from timewarp_openmm.files import sha256_of
from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.molecule.stereochemistry import Stereochemistry
from timewarp_openmm.simulation.protocol import Protocol, preset, with_settings
from timewarp_openmm.simulation.record import read_run, write_run
from timewarp_openmm.simulation.run import simulate
from timewarp_openmm.simulation.systems import load_system_xml, named_molecule
from timewarp_openmm.stages import Conflict, Done, Missing, Partial
from timewarp_openmm.training.augmentation import (
    HydrogenPermutation,
    permute_atoms,
    random_rotations,
)
from timewarp_openmm.training.checkpoints import (
    BestCheckpoint,
    LastCheckpoint,
    load_checkpoint,
    load_trained,
)
from timewarp_openmm.training.config import TrainingConfig, load_config, parse_config
from timewarp_openmm.training.data import prepare_data
from timewarp_openmm.training.export import export_run, export_trained
from timewarp_openmm.training.loop import Progress, learning_rate, train, training_standing
from timewarp_openmm.training.rigid_motion import small_rigid_motion
from timewarp_openmm.trajectories.pairs import PairSampler, load_trajectories

# Wide displacements are far from the data, so that there is something to learn.
TINY_FLOW = {
    **TINY_CARTESIAN,
    "d_model": 16,
    "mlp_hidden": [16],
    "feedforward": 16,
    "displacement_scale": 0.2,
}


FLOW = "flow: {coordinates: cartesian}\n"


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "ala2"
    molecule = named_molecule("alanine-dipeptide")
    protocol = Protocol(
        force_field=molecule.force_field, platform="Reference", **preset("ala2-report")
    )
    protocol = with_settings(protocol, length=2.0, interval=0.05, equilibration=0.5, trajectories=3)
    simulate(molecule, protocol, folder, workers=1)
    return folder


def settings(folder: Path, **changes: object) -> TrainingConfig:
    content = {
        "flow": TINY_FLOW,
        "data": {"folder": str(folder)},
        "lag_times": [0.5],
        "batch_size": 32,
        "max_steps": 60,
        "warmup_steps": 10,
        "learning_rate": 1e-3,
        "evaluation_interval": 20,
        "evaluation_pairs": 64,
        "ema_decay": 0.9,
        "accelerator": "cpu",
    }
    return TrainingConfig.model_validate({**content, **changes})


def test_config_goes_through_yaml(tmp_path: Path) -> None:
    config = settings(tmp_path, lag_times=[0.5, 1.0], lag_weights=[1.0, 3.0])
    assert parse_config(config.to_yaml()) == config
    assert config.lag_probabilities() == [0.25, 0.75]
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    assert load_config(tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flow: [", "is not YAML"),
        ("3", "must be a YAML mapping"),
        ("lag_times: [1.0]\ndata: {folder: x}", "flow: Field required"),
        (
            "flow: {coordinates: cartesian, d_modle: 3}\nlag_times: [1]\ndata: {folder: x}",
            r"d_modle: Extra inputs",
        ),
        (
            FLOW + "lag_times: [-1]\ndata: {folder: x}",
            r"lag_times\.0: .*greater than 0",
        ),
        (
            FLOW + "lag_times: [.inf]\ndata: {folder: x}",
            "cannot draw independently",
        ),
        (
            FLOW + "lag_times: [1]\nlag_weights: [1, 2]\ndata: {folder: x}",
            "1 lag_times but 2",
        ),
        (
            FLOW + "lag_times: [1]\ndata: {folder: x}\nloss: {likelihood: 0}",
            "must be positive",
        ),
    ],
)
def test_bad_configs_name_the_entry(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_config(text, "c.yaml")


def test_hydrogen_permutations_are_proper_and_uniform() -> None:
    alanine = named_molecule("alanine-dipeptide")
    molecule = molecule_from_topology(alanine.topology, alanine.system)
    permutation = HydrogenPermutation(molecule)
    assert permutation.groups == [(0, 2, 3), (11, 12, 13), (19, 20, 21)]
    order = permutation.draw(2700, torch.Generator().manual_seed(1))
    assert len(torch.unique(order, dim=0)) == 27
    assert (order.sort(1).values == torch.arange(22)).all()
    x = torch.from_numpy(alanine.positions)
    moved = permute_atoms(x.expand(2700, -1, -1), order)
    check = Stereochemistry(molecule, alanine.positions)
    assert all(check.find_flips(m) == [] for m in moved[:60].numpy())
    # The energy is the same up to the torsion of the group, which a rotation by 120 degrees keeps.
    energy = OpenMMEnergy(alanine.system, 310.0, "Reference")
    values, _ = energy.evaluate(moved[:27].numpy())
    assert np.ptp(values) < 5.0


def test_rotations_are_proper_and_isotropic() -> None:
    rotations = random_rotations(5000, torch.Generator().manual_seed(1))
    identity = rotations @ rotations.transpose(1, 2)
    torch.testing.assert_close(identity, torch.eye(3).expand_as(identity), atol=1e-5, rtol=0)
    assert (torch.linalg.det(rotations) > 0.99).all()
    assert float(rotations.mean(0).abs().max()) < 0.05


def test_small_rigid_motion_keeps_the_shape_and_moves_a_little() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(8, 7, 3, generator=generator)
    shaken = small_rigid_motion(x, 0.01, generator)
    torch.testing.assert_close(torch.cdist(shaken, shaken), torch.cdist(x, x), atol=2e-3, rtol=0)
    moved = (shaken - x).norm(dim=2).mean()
    assert 0.005 < float(moved) < 0.06


def test_openmm_energy_and_its_gradient() -> None:
    alanine = named_molecule("alanine-dipeptide")
    energy = OpenMMEnergy(alanine.system, 310.0, "Reference")
    generator = torch.Generator().manual_seed(0)
    x = torch.from_numpy(alanine.positions).expand(2, -1, -1)
    x = (x + 0.002 * torch.randn(x.shape, generator=generator)).requires_grad_()
    values = energy(x)
    (gradient,) = torch.autograd.grad(values.sum(), x)
    direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    h = 1e-6
    with torch.no_grad():
        numerical = (energy(x + h * direction) - energy(x - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).sum((1, 2)), numerical, rtol=1e-4, atol=1e-2)
    broken = x.detach().clone()
    broken[0, 3] = math.nan
    values, gradients = energy.evaluate(broken.numpy())
    assert values[0] > 1e9
    assert not gradients[0].any()
    assert values[1] < 0


def test_learning_rate_warms_up_and_decays(tmp_path: Path) -> None:
    config = settings(tmp_path, learning_rate=1.0, final_learning_rate=0.1, warmup_steps=10)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(config, 9, 0.0) == pytest.approx(1.0)
    assert learning_rate(config, 30, 0.5) == pytest.approx(0.55)
    assert learning_rate(config, 60, 1.0) == pytest.approx(0.1)


def test_batches_are_centred_seeded_and_laid_onto_x(data_folder: Path) -> None:
    data = prepare_data(settings(data_folder))
    batch = data.train.draw(16, torch.Generator().manual_seed(5))
    again = data.train.draw(16, torch.Generator().manual_seed(5))
    assert torch.equal(batch.y, again.y)
    assert torch.equal(batch.w, again.w)
    assert float(batch.x.mean(1).abs().max()) < 1e-6
    # Half a picosecond of drift and tumbling would be several times this.
    assert float((batch.y - batch.x).norm(dim=2).mean()) < 0.06
    assert data.provenance.temperature == 310.0
    assert data.provenance.force_field == ("amber99sbildn.xml", "amber99_obc.xml")


def test_training_learns_resumes_bit_for_bit_and_exports(data_folder: Path, tmp_path: Path) -> None:
    config = settings(data_folder)
    whole = train(config, tmp_path / "whole")
    metrics = read_metrics(tmp_path / "whole")
    assert [entry["step"] for entry in metrics] == [20, 40, 60]
    assert metrics[-1]["test_loss"] < metrics[0]["test_loss"] - 10
    assert (tmp_path / "whole" / "curves.png").stat().st_size > 1000

    # Stopped in the middle of the third interval: the run goes on from step 40.
    class StopError(Exception):
        pass

    def stop(done: float, progress: Progress) -> None:
        if progress.step == 53:
            raise StopError

    with pytest.raises(StopError):
        train(config, tmp_path / "stopped", report=stop)
    last = {run: tmp_path / run / "last.ckpt" for run in ("whole", "stopped")}
    assert load_checkpoint(last["stopped"], LastCheckpoint)["progress"]["step"] == 40
    steps: list[int] = []
    resumed = train(config, tmp_path / "stopped", report=lambda _, p: steps.append(p.step))
    assert steps[0] == 41
    assert resumed.test_log_likelihood == whole.test_log_likelihood
    for name, schema in (("last.ckpt", LastCheckpoint), ("best.ckpt", BestCheckpoint)):
        a, b = (load_checkpoint(tmp_path / run / name, schema) for run in ("whole", "stopped"))
        for key, value in a["weights"].items():
            assert torch.equal(value, b["weights"][key]), key
    a, b = (load_checkpoint(path, LastCheckpoint) for path in last.values())
    for key, value in a["flow"].items():
        assert torch.equal(value, b["flow"][key])

    with pytest.raises(FileExistsError, match="finished run"):
        train(config, tmp_path / "whole")
    with pytest.raises(FileExistsError, match="different: batch_size"):
        train(settings(data_folder, batch_size=16), tmp_path / "whole")

    path = tmp_path / "m.pt"
    export_run(tmp_path / "whole", path)
    metadata = read_metadata(path)
    assert metadata.temperature == 310.0
    assert metadata.lag_times == [0.5]
    assert metadata.molecule == load_trajectories(data_folder).molecule
    assert f"folder: {data_folder.name}" in metadata.provenance["config"]
    assert metadata.provenance["test_log_likelihood"] == whole.best_log_likelihood
    with pytest.raises(FileExistsError):
        export_run(tmp_path / "whole", path)
    with pytest.raises(FileNotFoundError, match=r"holds no best\.ckpt"):
        export_run(tmp_path, path)

    rounded = tmp_path / "rounded.pt"
    export_trained(load_trained(tmp_path / "whole"), rounded, weight_bits=10)
    assert rounded.stat().st_size < 0.9 * path.stat().st_size
    x = torch.tensor(metadata.reference_positions)
    noise = torch.randn(16, metadata.noise_size, generator=torch.Generator().manual_seed(1))
    lag = torch.full((16,), 0.5)
    (y, _, log_q), (other, _, other_log_q) = (
        torch.jit.load(str(file)).sample(x, noise, lag) for file in (path, rounded)
    )
    assert 0 < (y - other).abs().max() < 1e-2
    assert (log_q - other_log_q).abs().max() < 0.1


def test_a_training_says_where_it_stands_and_is_told_by_content(
    data_folder: Path, tmp_path: Path
) -> None:
    data, run = shutil.copytree(data_folder, tmp_path / "data"), tmp_path / "run"
    config = settings(data, max_steps=4, evaluation_interval=2)
    assert training_standing(config, run) == Missing()

    def stop(_: float, progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, run, report=stop)
    assert isinstance(training_standing(config, run), Partial)
    # Neither the workers, nor the time, nor where the same data lie make another training.
    moved = shutil.copytree(data, tmp_path / "moved")
    same = settings(moved, max_steps=4, evaluation_interval=2, energy_workers=7, max_minutes=5.0)
    assert isinstance(training_standing(same, run), Partial)
    train(same, run)
    assert training_standing(config, run) == Done()
    other = settings(data, max_steps=4, evaluation_interval=2, seed=2)
    assert training_standing(other, run) == Conflict(("seed",))
    changed = charges_scaled(load_system_xml(data / "system.xml"), 0.9)
    (data / "system.xml").write_text(openmm.XmlSerializer.serialize(changed))
    record = read_run(data)
    assert record is not None
    write_run(data, {**record, "system_file_sha256": sha256_of(data / "system.xml")})
    assert training_standing(config, run) == Conflict(("the data themselves",))
    with pytest.raises(FileExistsError, match="different: the data themselves"):
        train(config, run)


def test_patience_stops_early_and_keeps_the_best(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.0, 1.0, 0.0, 3.0, 0.0, 2.0, 0.0, 2.5, 0.0, 2.9])
    monkeypatch.setattr(
        trainer_module._Trainer, "_log_likelihood", lambda self, batch: next(values)
    )
    config = settings(data_folder, evaluation_interval=2, patience=3)
    progress = train(config, tmp_path / "run")
    assert (progress.step, progress.best_step, progress.best_log_likelihood) == (10, 4, 3.0)
    assert load_trained(tmp_path / "run").step == 4


def test_divergence_is_named(data_folder: Path, tmp_path: Path) -> None:
    config = settings(
        data_folder, learning_rate=1e30, warmup_steps=0, gradient_clip=1e30, max_steps=200
    )
    with pytest.raises(ValueError, match="training diverged"):
        train(config, tmp_path / "run")


def test_time_limit_ends_a_run(data_folder: Path, tmp_path: Path) -> None:
    config = settings(data_folder, max_steps=10**6, evaluation_interval=10**5)
    progress = train(config, tmp_path / "run", minutes=0.01)
    assert progress.finished
    assert progress.step < 10**4
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["step"] == progress.step


def test_acceptance_training_runs_end_to_end(data_folder: Path, tmp_path: Path) -> None:
    own = {"weight": 0.1, "states": 1, "proposals": 2}
    loss = {"likelihood": 1.0, "acceptance": own, "entropy": own}
    config = settings(data_folder, loss=loss, max_steps=4, evaluation_interval=2)
    progress = train(config, tmp_path / "run")
    assert math.isfinite(progress.train_loss)


def test_missing_temperature_is_asked_for(data_folder: Path, tmp_path: Path) -> None:
    for name in ("trajectory-000.h5", "trajectory-001.h5"):
        (tmp_path / name).write_bytes((data_folder / name).read_bytes())
    with pytest.raises(ValueError, match=r"set data\.temperature"):
        prepare_data(settings(tmp_path))
    given = {"folder": str(tmp_path), "temperature": 300, "force_field": ["a.xml"]}
    assert prepare_data(settings(tmp_path, data=given)).provenance.temperature == 300.0


def test_frames_that_the_flow_cannot_represent_stop_the_training(
    data_folder: Path, tmp_path: Path
) -> None:
    """A trajectory in which the alpha carbon has turned inside out."""
    folder = tmp_path / "data"
    shutil.copytree(data_folder, folder)
    path = sorted(folder.glob("*.h5"))[0]
    with tables.open_file(str(path), "a") as file:
        file.root.coordinates[:] = -file.root.coordinates[:]
    # Without the record of the run, which has the file's checksum.
    (folder / "run.json").unlink()
    data = {"folder": str(folder), "temperature": 310.0, "force_field": ["a.xml"]}
    config = settings(folder, data=data, flow={"coordinates": "internal"}, lag_times=[math.inf])
    with pytest.raises(ValueError, match=r"frames \(\d+\.\d%\) lie outside .*ALA2:CA .*chirality"):
        train(config, tmp_path / "run")


def test_frames_that_are_left_out_are_never_drawn(data_folder: Path) -> None:
    found = load_trajectories(data_folder)
    sampler = PairSampler(found.trajectories, [0.5, math.inf])
    outside = torch.arange(len(sampler.frames)) % 3 == 0
    sampler.leave_out(outside)
    assert not sampler.frame_weights[outside].any()
    x, y, _ = sampler.draw(500, torch.Generator().manual_seed(1))
    forbidden = sampler.frames[outside]
    for states in (x, y):
        assert not (states[:, None, 0] == forbidden[None, :, 0]).all(-1).any()
