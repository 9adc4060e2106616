"""Files that the package writes for itself: whatever happens to one, it is named and told."""

from __future__ import annotations

import io
import json
import math
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from timewarp_openmm.curves import read_metrics
from timewarp_openmm.flows.weights import save_tensors
from timewarp_openmm.simulation.explore import ExploreSettings, load_or_find_basins, read_basins
from timewarp_openmm.simulation.protocol import Protocol, preset, with_settings
from timewarp_openmm.simulation.record import RUN_FILE, read_run
from timewarp_openmm.simulation.run import simulate
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule
from timewarp_openmm.stored import DamagedFileError, seal, write_arrays
from timewarp_openmm.training.checkpoints import load_trained
from timewarp_openmm.training.config import parse_config
from timewarp_openmm.training.export import export_run
from timewarp_openmm.training.loop import train
from timewarp_openmm.training.refine_record import (
    Measurement,
    RefineRecord,
    read_record,
    write_record,
)
from timewarp_openmm.trajectories.frames import expand_trajectories
from timewarp_openmm.trajectories.pairs import (
    Trajectory,
    load_independent,
    load_trajectories,
    load_weights,
    save_independent,
)
from timewarp_openmm.trajectories.weights import save_weights
from timewarp_openmm.workflows.record import FitRecord, fit_standing

FLOW = {
    "coordinates": "cartesian", "d_model": 8, "num_coupling_layers": 2, "mlp_hidden": [8],
    "num_transformer_layers": 1, "length_scales": [0.2], "feedforward": 8, "embedding_size": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def molecule() -> MolecularSystem:
    return named_molecule("alanine-dipeptide")


def short_protocol(molecule: MolecularSystem) -> Protocol:
    protocol = Protocol(
        force_field=molecule.force_field, platform="Reference", **preset("ala2-report")
    )
    times = {"length": 0.02, "interval": 0.002, "equilibration": 0.002, "trajectories": 2}
    return with_settings(protocol, **times)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, molecule: MolecularSystem) -> Path:
    """Write one of each kind, as the commands do."""
    folder = tmp_path_factory.mktemp("written")
    data = folder / "data"
    simulate(molecule, short_protocol(molecule), data, workers=1)
    settings = ExploreSettings(length=0.02, interval=0.02, walkers=1, temperatures=(300.0,))
    load_or_find_basins(data, molecule, settings, seed=1)
    found = load_trajectories(data).trajectories
    save_weights(
        data / "weights.npz",
        {t.name: np.ones(len(t.positions), dtype=np.float32) for t in found},
    )
    positions = found[0].positions
    held_out = np.arange(len(positions)) % 2 == 0
    save_independent(data / "draws.npz", positions, np.ones(len(positions)), held_out, share=0.25)
    config = {
        "flow": FLOW, "data": {"folder": str(data)}, "lag_times": [0.002], "max_steps": 4,
        "batch_size": 4, "evaluation_interval": 2, "evaluation_pairs": 4,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    train(parse_config(yaml.safe_dump(config)), folder / "run")
    measured = Measurement(acceptance=0.5, error=0.01, lowest=0.4, kish=0.3)
    write_record(folder / "run", RefineRecord({"seed": 1}, (measured,), ((0.5, 0.5),)))
    record = FitRecord(folder, {"seed": 1})
    record.begin_pass(2.0)
    record.decide("train_minutes", lambda: 0.5)
    record.add_seconds("explore", 3.0)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of it all, to be damaged."""
    return Path(shutil.copytree(written, tmp_path / "copy"))


FRAMES = [Trajectory(f"trajectory-00{i}", np.zeros((11, 22, 3), np.float32), 0.002) for i in (0, 1)]
#: How each file is read, by its place.
READERS: dict[str, Callable[[Path, MolecularSystem], object]] = {
    "data/run.json": lambda folder, _: read_run(folder / "data"),
    "data/basins.npz": lambda folder, _: read_basins(folder / "data" / "basins.npz"),
    "data/weights.npz": lambda folder, _: load_weights(folder / "data" / "weights.npz", FRAMES),
    "data/draws.npz": lambda folder, _: load_independent(folder / "data" / "draws.npz", 22),
    "data/system.xml": lambda folder, _: load_trajectories(folder / "data"),
    "data/trajectory-000.h5": lambda folder, _: expand_trajectories([folder / "data"]),
    "data/trajectory-001.h5": lambda folder, _: load_trajectories(folder / "data"),
    "run/best.ckpt": lambda folder, _: load_trained(folder / "run"),
    "run/last.ckpt": lambda folder, _: train(
        parse_config((folder / "config.yaml").read_text()), folder / "run"
    ),
    "run/metrics.jsonl": lambda folder, _: read_metrics(folder / "run"),
    "run/refine.json": lambda folder, _: read_record(folder / "run"),
    "fit.json": lambda folder, _: fit_standing(folder, {"seed": 1}),
}


def flip(content: bytes, place: float, bit: int = 4) -> bytes:
    changed = bytearray(content)
    changed[int(place * (len(content) - 1))] ^= 1 << bit
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: 2 * len(content) // 3],
    "zeros": lambda content: bytes(len(content)),
    "other archive": lambda content: an_archive(),
    "nested": lambda content: b"[" * 200_000 + b"\n",
    "null": lambda content: b"null\n",
    "huge number": lambda content: b'{"step": 1' + b"0" * 5000 + b"}\n",
    **{f"bit at {place}": lambda c, p=place: flip(c, p) for place in (0.1, 0.65)},
}


def an_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n(S'true'\ntR.")
        archive.writestr("positions.npy", b"\x93NUMPY\x01\x00v\x00")
    return buffer.getvalue()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_named(
    name: str, damage: str, folder: Path, molecule: MolecularSystem
) -> None:
    path = folder / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    if name == "run/metrics.jsonl" and damage in ("empty", "zeros", "truncated", "other archive"):
        # Without an end of line, it is a line that a kill has cut off.
        with_line_end = path.read_bytes() + b"\n"
        path.write_bytes(with_line_end)
    with pytest.raises(ValueError, match=r" is damaged or was changed: .*; ") as refused:
        READERS[name](folder, molecule)
    # Where the file is, and what to do.
    assert str(path) in str(refused.value)
    words = ("restore", "remove", "must hold", "again")
    assert any(word in str(refused.value) for word in words)


def changed_document(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda content: {**content, **changes}


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda content: {k: v for k, v in content.items() if k != name}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("data/run.json", without("protocol"), "protocol: Field required"),
        ("data/run.json", changed_document(complete=None), "complete: Input should be"),
        ("data/run.json", changed_document(complete="yes"), "complete: Input should be"),
        ("data/run.json", changed_document(wall_seconds=math.nan), "wall_seconds"),
        ("data/run.json", changed_document(wall_seconds=-1.0), "wall_seconds"),
        (
            "data/run.json",
            changed_document(dropped_starts=10**400),
            "Input should be less",
        ),
        ("data/run.json", changed_document(trajectories={}), "trajectories"),
        ("data/run.json", changed_document(trajectories=[{"file": "../x"}]), "trajectories.0.file"),
        ("data/run.json", changed_document(protocol={"seed": 1}), "molecule"),
        ("data/run.json", changed_document(more=1), "more"),
        ("fit.json", without("seconds"), "seconds: Field required"),
        ("fit.json", changed_document(seconds={"explore": "long"}), "seconds.explore"),
        ("fit.json", changed_document(passes=[{"minutes": 1e300}]), "minutes: must be above 0"),
        ("fit.json", changed_document(passes=[None]), "passes.0"),
    ],
)
def test_documents_have_a_schema(
    name: str,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    message: str,
    folder: Path,
    molecule: MolecularSystem,
) -> None:
    """What was changed together with its checksum, too."""
    content = json.loads((folder / name).read_text())
    content.pop("sha256")
    (folder / name).write_text(json.dumps(seal(change(content))))
    with pytest.raises(DamagedFileError, match=message):
        READERS[name](folder, molecule)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("data/basins.npz", {"energies": None}, "it has no energies"),
        ("data/basins.npz", {"energies": np.zeros(7)}, "energies is float64 .7. instead of"),
        ("data/basins.npz", {"torsions": np.array("text")}, "torsions is <U4 .. instead of"),
        ("data/basins.npz", {"positions": np.full((1, 22, 3), np.nan)}, "not finite"),
        ("data/basins.npz", {"dropped": np.array(-1)}, "out of range"),
        ("data/weights.npz", {"trajectory-001": None}, "it has no trajectory-001"),
        ("data/weights.npz", {"trajectory-001": np.full(11, -1.0)}, "below 0"),
        ("data/weights.npz", {"trajectory-001": np.full(11, np.inf)}, "not finite"),
        ("data/draws.npz", {"test": np.ones(11)}, "test is float64"),
        ("data/draws.npz", {"share": np.array(2.0)}, "out of range"),
        ("data/draws.npz", {"positions": np.zeros((11, 21, 3))}, "instead of float F 22 3"),
    ],
)
def test_arrays_have_a_schema(
    name: str,
    change: dict[str, Any],
    message: str,
    folder: Path,
    molecule: MolecularSystem,
) -> None:
    with np.load(folder / name) as stored:
        arrays = {k: v for k, v in {**stored, **change}.items() if v is not None}
    write_arrays(folder / name, arrays)
    with pytest.raises(DamagedFileError, match=message):
        READERS[name](folder, molecule)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("run/best.ckpt", {"weights": {}}, "do not fit its configuration"),
        ("run/best.ckpt", {"weights": [1.0]}, "weights: Input should be"),
        ("run/best.ckpt", {"step": None}, "step: Input should be"),
        ("run/best.ckpt", {"provenance": "{}"}, "provenance"),
        ("run/best.ckpt", {"provenance": "no JSON"}, "provenance"),
        ("run/best.ckpt", {"config": "nothing: [1"}, "is not YAML"),
        ("run/last.ckpt", {"progress": {"step": "one"}}, "step"),
        ("run/last.ckpt", {"flow": {"w": torch.zeros(2)}}, "do not fit its configuration"),
        ("run/last.ckpt", {"optimizer": {}}, "param_groups"),
        ("run/last.ckpt", {"generator": torch.zeros(3)}, "RNG state"),
    ],
)
def test_checkpoints_have_a_schema(
    name: str,
    change: dict[str, Any],
    message: str,
    folder: Path,
    molecule: MolecularSystem,
) -> None:
    content = torch.load(folder / name, weights_only=True)
    if name == "run/last.ckpt":
        content["progress"]["finished"] = False
    save_tensors(folder / name, {**content, **change})
    use = export_best if name == "run/best.ckpt" else READERS[name]
    with pytest.raises(ValueError, match=message):
        use(folder, molecule)


def export_best(folder: Path, molecule: MolecularSystem) -> None:
    export_run(folder / "run", folder / "m.pt")


def test_a_missing_trajectory_is_named(folder: Path) -> None:
    (folder / "data" / "trajectory-000.h5").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{RUN_FILE} names trajectory-000.h5"):
        load_trajectories(folder / "data")


def test_metrics_that_a_kill_cut_off_are_left_out(folder: Path) -> None:
    path = folder / "run" / "metrics.jsonl"
    whole = read_metrics(folder / "run")
    path.write_bytes(path.read_bytes()[:-20])
    assert read_metrics(folder / "run") == whole[:-1]


@pytest.mark.parametrize("damage", ["truncated", "bit at 0.65"])
@pytest.mark.parametrize("kind", ["chk", "h5"])
def test_simulations_do_not_go_on_from_damaged_files(
    kind: str, damage: str, written: Path, molecule: MolecularSystem, tmp_path: Path
) -> None:
    whole = load_trajectories(written / "data").trajectories

    class StopError(Exception):
        pass

    def stop(frames: int) -> None:
        if frames > 5:
            raise StopError

    protocol = short_protocol(molecule)
    with pytest.raises(StopError):
        simulate(molecule, protocol, tmp_path, 1, checkpoint_seconds=0, report=stop)
    path = tmp_path / f"trajectory-000.{kind}"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    try:
        simulate(molecule, protocol, tmp_path, 1)
    except DamagedFileError as error:
        message = str(error)
        assert f"{path} is damaged" in message
        assert "start again with --force" in message
        simulate(molecule, protocol, tmp_path, 1, force=True)
    else:
        # What holds no frames may be damaged: the file is made anew from the frames.
        assert (kind, damage[:3]) == ("h5", "bit")
    again = load_trajectories(tmp_path).trajectories
    for trajectory, expected in zip(again, whole, strict=True):
        np.testing.assert_array_equal(trajectory.positions, expected.positions)


def test_the_error_comes_through_from_another_process(tmp_path: Path) -> None:
    error = pickle.loads(pickle.dumps(DamagedFileError(tmp_path, "it is gone", "make it again")))
    assert str(error) == f"{tmp_path} is damaged or was changed: it is gone; make it again"
