"""A model for a potential: the whole way, interrupted everywhere, and what comes of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from command_line import run
from distributed import LocalCluster
from quick_fits import QUICK as QUICK_FIT
from quick_fits import SETTINGS as QUICK_SETTINGS
from quick_fits import SMALL, known_plans

from timewarp_openmm.contract import read_metadata
from timewarp_openmm.potentials.registry import find_potential
from timewarp_openmm.potentials.surrogates import surrogate_file
from timewarp_openmm.simulation.systems import load_molecule, structure_file, with_potential
from timewarp_openmm.workers.base import Workers
from timewarp_openmm.workers.cluster import open_cluster
from timewarp_openmm.workflows import fit_target as target_module
from timewarp_openmm.workflows.fit_target import TargetValidation, fit_target
from timewarp_openmm.workflows.target_budget import TargetBudget

PDB = Path(str(structure_file("alanine-dipeptide")))
POTENTIAL = "potential_functions:altered"
#: Small, since exporting and checking a flow takes most of the time here.
SETTINGS = replace(QUICK_SETTINGS, flow=SMALL)
QUICK_FORCE_FIELD = QUICK_FIT.model_copy(update={"chains": 2, "iterations": 30})
QUICK = TargetBudget(
    force_field_share=0.7,
    dynamics_share=0.5,
    cycles=1,
    least_basins=2,
    most_frames=100,
    most_draws=200,
    least_draws=100,
    refine_draws=400,
    refine_rounds=1,
    chains=2,
    iterations=40,
    least_acceptance=0.0,
)
STAGES = ["force field", "dynamics of the potential"]
CYCLE = ["energies", "learn", "refine"]


@pytest.fixture(autouse=True, scope="module")
def known_costs() -> Iterator[None]:
    """Plans that do not depend on how busy the machine is, and a clock that stands still."""
    with known_plans(target_module), pytest.MonkeyPatch.context() as patch:
        patch.setattr("timewarp_openmm.workflows.fit_target.measure_energy", lambda *_: 0.001)
        yield


class Record:
    """A display that remembers, and stops at the n-th time of a stage as Ctrl-C would."""

    def __init__(self, stop_at: str = "", time: int = 1) -> None:
        self.stages: list[str] = []
        self._stop_at, self._time = stop_at, time

    def stage(self, name: str) -> None:
        self._time -= name == self._stop_at
        if name == self._stop_at and self._time == 0:
            raise KeyboardInterrupt
        self.stages.append(name)

    def update(self, done: float, note: str) -> None:
        assert done <= 1 + 1e-9

    def tell(self, message: str) -> None:
        self.stages.append(message)


def fit_here(
    out: Path,
    work: Path,
    record: Record,
    minutes: float = 0.1,
    workers: Workers | None = None,
) -> TargetValidation:
    molecule = load_molecule(PDB)
    return fit_target(
        molecule,
        with_potential(molecule, POTENTIAL),
        find_potential(POTENTIAL),
        out,
        replace(SETTINGS, minutes=minutes),
        record,
        work,
        budget=QUICK,
        force_field_budget=QUICK_FORCE_FIELD,
        workers=workers,
    )


@dataclass(frozen=True)
class Finished:
    out: Path
    work: Path
    result: TargetValidation
    record: Record


@pytest.fixture(scope="module")
def finished(known_costs: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A fit that was interrupted before most stages, and went on each time."""
    folder = tmp_path_factory.mktemp("target")
    out, work = folder / "model.pt", folder / "work"
    kept: dict[str, bytes] = {}
    for stop_at, number, made in (
        ("energies", 1, "dynamics/run.json"),
        ("learn", 1, "energies-1/energies-00000.npz"),
        ("export and measure", 1, "learned-1/correction.npz"),
    ):
        with pytest.raises(KeyboardInterrupt):
            fit_here(out, work, Record(stop_at, number))
        kept[made] = (work / made).read_bytes()
        assert not out.exists()
    record = Record()
    result = fit_here(out, work, record)
    assert {name: (work / name).read_bytes() for name in kept} == kept
    return Finished(out, work, result, record)


def test_an_interrupted_fit_goes_on_to_a_model_of_the_potential(finished: Finished) -> None:
    assert finished.record.stages == [*STAGES, *CYCLE, "export and measure"]
    metadata = read_metadata(finished.out)
    assert metadata.force_field == [POTENTIAL]
    made = metadata.provenance["fit"]
    assert made["target"]["subchain"] == finished.result.subchain
    assert made["measured"]["energies"]["acceptance"] == finished.result.energies.acceptance
    assert len(made["target"]["learned"]) == 1
    for learned in made["target"]["learned"]:
        assert learned["after"] < learned["before"]
    card = finished.out.with_suffix(".md").read_text()
    assert f"{finished.result.energies.acceptance:.1%}" in card
    assert "begun with a flow for amber99sbildn.xml, amber99_obc.xml" in card


def test_what_is_there_is_neither_overwritten_nor_mixed_up(
    finished: Finished, tmp_path: Path
) -> None:
    with pytest.raises(FileExistsError, match=r"model\.pt exists"):
        fit_here(finished.out, finished.work, Record())
    surrogate_file(tmp_path / "other.pt").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"other\.surrogate\.pt exists"):
        fit_here(tmp_path / "other.pt", finished.work, Record())
    molecule = load_molecule(PDB)
    name = "potential_functions:well"
    with pytest.raises(FileExistsError, match=r"another fit \(different: target"):
        fit_target(
            molecule,
            with_potential(molecule, name),
            find_potential(name),
            tmp_path / "new.pt",
            SETTINGS,
            Record(),
            finished.work,
        )


def test_more_time_adds_a_cycle(finished: Finished, tmp_path: Path) -> None:
    work = shutil.copytree(finished.work, tmp_path / "work")
    before = (work / "refine-1" / "best.ckpt").read_bytes()
    fit_here(tmp_path / "m.pt", work, Record(), minutes=0.13)
    assert (work / "refine-1" / "best.ckpt").read_bytes() == before
    assert (work / "refine-2" / "best.ckpt").exists()
    assert len(read_metadata(tmp_path / "m.pt").provenance["fit"]["target"]["learned"]) == 2


def test_sample_runs_on_the_potential_with_the_surrogate(
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A function of the model's is only run if it is named; then with the measured subchain."""
    arguments = ["sample", "--model", str(finished.out), "--pdb", str(PDB), "--steps", "20"]
    arguments += ["--out", str(tmp_path / "s.dcd"), "--seed", "1"]
    code, _, error = run(arguments, monkeypatch, capsys)
    assert code == 2
    assert f"made for the function {POTENTIAL}, which is only run if you name it" in error
    assert not (tmp_path / "s.dcd").exists()
    subchains = []
    from timewarp_openmm.integrator import TimewarpMCMCIntegrator

    original = TimewarpMCMCIntegrator.setSurrogate

    def watched(self: TimewarpMCMCIntegrator, energy: object, subchain: int) -> None:
        subchains.append((energy, subchain))
        original(self, energy, subchain)

    monkeypatch.setattr(TimewarpMCMCIntegrator, "setSurrogate", watched)
    code, out, error = run([*arguments, "--target", POTENTIAL], monkeypatch, capsys)
    assert (code, error.count("error")) == (0, 0)
    assert "2 frames, acceptance" in out
    assert subchains == [(str(surrogate_file(finished.out)), finished.result.subchain)]
    code, *_ = run(
        [*arguments, "--force", "--force-field", "amber99sbildn.xml", "amber99_obc.xml"],
        monkeypatch,
        capsys,
    )
    assert code == 0
    assert len(subchains) == 1, "the surrogate is of the potential, not of the force field"


def test_too_little_time_for_the_potential_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "measure_energy", lambda *_: 0.5)
    record = Record()
    with pytest.raises(ValueError, match=r"too few for potential_functions:altered.*takes 0\.5 s"):
        fit_here(tmp_path / "m.pt", tmp_path / "work", record)
    assert record.stages == []
    assert not (tmp_path / "m.pt").exists()


def test_parts_and_constraints_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in (["--moved", "sidechain"], ["--constraints", "HBonds"]):
        arguments = ["fit", str(PDB), "--out", str(tmp_path / "m.pt"), "--target", POTENTIAL]
        code, _, error = run([*arguments, *more], monkeypatch, capsys)
        assert code == 2
        assert "a potential is of a whole molecule without constraints" in error
    assert list(tmp_path.iterdir()) == []


def test_the_surrogate_is_near_the_potential(finished: Finished) -> None:
    """Of frames of the potential's dynamics: nearer than the force field, in its spread."""
    import torch

    from timewarp_openmm.energies.correction import load_corrected
    from timewarp_openmm.energies.reduced import ReducedEnergy
    from timewarp_openmm.trajectories.pairs import load_trajectories
    from timewarp_openmm.units import thermal_energy

    frames = load_trajectories(finished.work / "dynamics").trajectories[0].positions
    molecule = load_molecule(PDB)
    found = [
        ReducedEnergy(system, 310.0, "Reference").evaluate(frames.astype(float), forces=False)[0]
        for system in (molecule.system, with_potential(molecule, POTENTIAL).system)
    ]
    energy = load_corrected(finished.work / "learned-1")
    with torch.no_grad():
        learned = energy(torch.from_numpy(frames)).numpy() / thermal_energy(310.0)
    assert np.std(found[1] - learned) < np.std(found[1] - found[0])
    assert isinstance(load_molecule(PDB).system, openmm.System)


@pytest.mark.long
def test_a_fit_on_a_cluster(tmp_path: Path) -> None:
    """Whose workers find the potential by its name, as this process does."""
    out = tmp_path / "model.pt"
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        open_cluster(cluster.scheduler_address) as workers,
    ):
        found = fit_here(out, tmp_path / "work", Record(), workers=workers)
    assert found.proposals.chains == QUICK.chains
    assert surrogate_file(out).exists()
    assert read_metadata(out).provenance["fit"]["threads"] == 2
