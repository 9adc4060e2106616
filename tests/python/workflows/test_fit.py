"""The command from a structure to a measured model: the whole of it, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openmm
import pytest
import torch
from altered_systems import charges_scaled
from distributed import Client, LocalCluster
from filelock import FileLock
from openmm import app
from quick_fits import QUICK, SETTINGS, SMALL, Record, known_plans

from timewarp_openmm import cli, files
from timewarp_openmm.contract import read_metadata
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.loading import load_module
from timewarp_openmm.flows.weights import save_tensors
from timewarp_openmm.molecule.selection import select_atoms
from timewarp_openmm.molecule.structure_files import load_structure
from timewarp_openmm.simulation.identity import system_digest
from timewarp_openmm.simulation.record import read_run, write_run
from timewarp_openmm.simulation.systems import (
    MolecularSystem,
    build_system,
    load_molecule,
    load_system_xml,
    make_platform,
    structure_file,
    with_hydrogen_bonds_constrained,
)
from timewarp_openmm.stored import read_document, write_document
from timewarp_openmm.training.checkpoints import (
    LastCheckpoint,
    load_checkpoint,
    load_trained,
)
from timewarp_openmm.trajectories.pairs import load_trajectories
from timewarp_openmm.workers.base import Piece
from timewarp_openmm.workers.cluster import ClusterWorkers
from timewarp_openmm.workflows import budget as budget_module
from timewarp_openmm.workflows import fit as fit_module
from timewarp_openmm.workflows.budget import Costs, FitBudget
from timewarp_openmm.workflows.fit import Validation, fit, validate
from timewarp_openmm.workflows.record import FitContent, FitRecord
from timewarp_openmm.workflows.settings import FitSettings

PDB = Path(str(structure_file("alanine-dipeptide")))
MOLECULES = Path(__file__).parents[3] / "examples" / "molecules"


@pytest.fixture(autouse=True, scope="module")
def known_costs() -> Iterator[None]:
    with known_plans():
        yield


@dataclass(frozen=True)
class Finished:
    """A fit that was interrupted at every stage, and went on each time."""

    out: Path
    work: Path
    molecule: MolecularSystem
    result: Validation
    record: Record


@pytest.fixture(scope="module")
def finished(known_costs: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("fit")
    out, work, molecule = folder / "model.pt", folder / "work", load_molecule(PDB)
    kept: dict[str, bytes] = {}
    for stop_at, made in (
        ("simulate", "data/basins.npz"),
        ("train", "data/run.json"),
        ("refine", "train/config.yaml"),
        ("export and measure", "refine-1/best.ckpt"),
    ):
        with pytest.raises(KeyboardInterrupt):
            fit(molecule, out, SETTINGS, work, Record(stop_at), budget=QUICK)
        kept[made] = (work / made).read_bytes()
        assert not out.exists()
        if stop_at == "refine":
            # As if it had been stopped within the training.
            last = work / "train" / "last.ckpt"
            content = load_checkpoint(last, LastCheckpoint)
            content["progress"]["finished"] = False
            save_tensors(last, content)
    record = Record()
    settings = replace(SETTINGS, workers=2)
    result = fit(molecule, out, settings, work, record, budget=QUICK)
    assert {name: (work / name).read_bytes() for name in kept} == kept
    return Finished(out, work, molecule, result, record)


def test_the_size_of_networks_is_chosen_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time of the first call; costs, and the training, are those of that size."""
    larger = {"rotatable_layers": 3, "rotatable_hidden": 8, "stiff_layers": 2, "stiff_hidden": 8}
    monkeypatch.setattr(budget_module, "LARGER", larger)
    measured: list[InternalFlowConfig] = []
    costs = fit_module.measure_costs(load_molecule(PDB), 1, QUICK)

    def measure(*given: Any) -> Costs:
        measured.append(given[3])
        return costs

    monkeypatch.setattr(fit_module, "measure_costs", measure)
    patient = QUICK.model_copy(update={"larger_steps": 1})
    hurried = QUICK.model_copy(update={"larger_steps": 1_000_000})
    more = replace(SETTINGS, minutes=0.2)
    for name, first, second, sizes in (
        ("larger", patient, hurried, larger),
        ("default", hurried, patient, {}),
    ):
        work = tmp_path / f"{name}.work"
        chosen = InternalFlowConfig(**sizes)
        record = _begin(work, SETTINGS, first, "refine" if sizes else "explore")
        assert record.decided("flow", 1) == sizes
        if sizes:
            trained = load_trained(work / "train").config.flow
            assert trained == chosen
            assert record.decided("costs", 1)["seconds_per_step"] > costs.seconds_per_step
        record.finish_pass()
        again = _begin(work, more, second, "explore")
        assert again.number == 2
        assert not again.has_decided("flow", 2)
        assert measured[-2:] == [InternalFlowConfig(), chosen]

    own = _begin(tmp_path / "own.work", replace(SETTINGS, flow=SMALL), patient, "explore")
    assert not own.has_decided("flow", 1)
    assert measured[-1] == SMALL
    assert not replace(SETTINGS, moved=(7, 8)).chooses_sizes
    assert not replace(SETTINGS, later_parts=((7, 8),)).chooses_sizes


def _begin(work: Path, settings: FitSettings, budget: FitBudget, stop_at: str) -> FitRecord:
    """Return the record of a fit that was stopped before a stage."""
    molecule, out = load_molecule(PDB), work.with_suffix(".pt")
    with pytest.raises(KeyboardInterrupt):
        fit(molecule, out, settings, work, Record(stop_at), budget=budget)
    return FitRecord(work, fit_module.fit_identity(molecule, settings))


class Watched(ClusterWorkers):
    """Remembers what it is given, and kills the first process that has simulated for a while."""

    def __init__(self, client: Client, address: str) -> None:
        super().__init__(client, address)
        self.given: list[str] = []
        self.killed = 0
        self._processes = client.run(os.getpid)
        # So short that any machine needs several.
        self.piece_seconds = 0.02

    def submit(
        self, function: Callable[..., Any], *arguments: Any, name: str, near: str = ""
    ) -> Piece[Any]:
        self.given.append(name)
        if near and name.startswith("trajectory") and not self.killed:
            self.killed = self._processes[near]
            threading.Timer(0.05, os.kill, (self.killed, signal.SIGKILL)).start()
        return super().submit(function, *arguments, name=name, near=near)


def test_a_fit_on_a_cluster_of_which_a_worker_is_killed(tmp_path: Path) -> None:
    out, settings = tmp_path / "model.pt", replace(SETTINGS, flow=SMALL)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        Watched(client, cluster.scheduler_address) as workers,
    ):
        result = fit(load_molecule(PDB), out, settings, budget=QUICK, workers=workers)
        assert workers.killed not in client.run(os.getpid).values()
    assert result.chains == QUICK.chains
    assert workers.killed
    assert {"walker-0", "trajectory-000", "energies", "start-0"} <= {
        name.replace(" ", "-") for name in workers.given
    }
    provenance = read_metadata(out).provenance["fit"]
    assert provenance["threads"] == 2


def test_an_interrupted_fit_goes_on_and_measures_its_model(finished: Finished) -> None:
    out, result = finished.out, finished.result
    assert finished.record.stages == [
        *("explore", "simulate", "train", "refine", "export and measure")
    ]
    # An interrupted training was finished, though with other workers, before it was refined.
    last = load_checkpoint(finished.work / "train" / "last.ckpt", LastCheckpoint)
    assert last["progress"]["finished"]
    made = read_metadata(out).provenance["fit"]
    assert made["measured"]["acceptance"] == result.acceptance
    assert 0 <= result.lowest <= result.acceptance <= 1
    assert made["settings"]["seed"] == 3
    card = out.with_suffix(".md").read_text()
    assert f"{result.acceptance:.1%}" in card
    assert "amber99sbildn.xml, amber99_obc.xml" in card
    assert read_metadata(out).provenance["data"]["sha256"] in card
    with pytest.raises(FileExistsError, match=r"model\.pt exists"):
        fit(finished.molecule, out, SETTINGS, finished.work, budget=QUICK)
    state = json.loads((finished.work / "fit.json").read_text())
    assert set(state["seconds"]) == set(finished.record.stages)


def test_a_finished_fit_is_given_more_time_without_losing_what_it_has(
    finished: Finished, tmp_path: Path
) -> None:
    work = shutil.copytree(finished.work, tmp_path / "work")
    names = ("data/basins.npz", "train/best.ckpt", "train/last.ckpt", "refine-1/best.ckpt")
    before = {name: (work / name).read_bytes() for name in names}
    frames = {t.name: t.positions for t in load_trajectories(work / "data").trajectories}
    longer = replace(SETTINGS, minutes=SETTINGS.minutes + 0.05, target=0.95)
    with pytest.raises(KeyboardInterrupt):
        fit(
            finished.molecule,
            tmp_path / "m.pt",
            longer,
            work,
            Record("refine"),
            budget=QUICK,
        )
    record = Record()
    fit(finished.molecule, tmp_path / "m.pt", longer, work, record, budget=QUICK)
    assert "train" not in record.stages
    assert {name: (work / name).read_bytes() for name in names} == before
    more = load_trajectories(work / "data").trajectories
    for trajectory in more:
        old = frames[trajectory.name]
        assert (trajectory.positions[: len(old)] == old).all()
    assert sum(len(t.positions) for t in more) > sum(map(len, frames.values()))
    assert (work / "refine-2" / "best.ckpt").exists()
    assert read_metadata(tmp_path / "m.pt").provenance["data"]["frames"] > 0


def test_a_model_that_accepts_next_to_nothing_is_an_error_and_no_card(
    finished: Finished, tmp_path: Path
) -> None:
    work = shutil.copytree(finished.work, tmp_path / "work")
    out = tmp_path / "m.pt"
    budget = QUICK.model_copy(update={"least_acceptance": 0.999})
    with pytest.raises(ValueError, match=r"less than 99\.9%.*Likely reasons: .*more --minutes"):
        fit(finished.molecule, out, SETTINGS, work, budget=budget)
    assert not out.exists()
    assert not out.with_suffix(".md").exists()
    assert (work / "refine-1" / "best.ckpt").exists()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda m: replace(m, system=charges_scaled(m.system, 0.9)), "system"),
        (lambda m: replace(m, positions=m.positions + 0.001), "structure"),
        (lambda m: replace(SETTINGS, temperature=300.0), "temperature"),
        (lambda m: replace(SETTINGS, seed=4), "seed"),
    ],
)
def test_what_a_fit_is_of_is_told_by_content_and_never_mixed(
    finished: Finished, tmp_path: Path, change: Callable[[MolecularSystem], object], name: str
) -> None:
    work = shutil.copytree(finished.work, tmp_path / "work")
    run = (work / "data" / "run.json").read_bytes()
    changed = change(finished.molecule)
    settings = changed if isinstance(changed, FitSettings) else SETTINGS
    molecule = changed if isinstance(changed, MolecularSystem) else finished.molecule
    out = tmp_path / "m.pt"
    with pytest.raises(FileExistsError, match=f"another fit .different: {name}: "):
        fit(molecule, out, settings, work, budget=QUICK)
    assert (work / "data" / "run.json").read_bytes() == run
    # Names alone make no other fit.
    renamed = replace(finished.molecule, name="other", force_field=("other.xml",))
    with pytest.raises(KeyboardInterrupt):
        fit(renamed, out, SETTINGS, work, Record("export and measure"), budget=QUICK)
    if name != "system":
        return
    # With force, the data are of the new System, and the old ones are kept.
    record = Record("train")
    with pytest.raises(KeyboardInterrupt):
        fit(molecule, out, settings, work, record, force=True, budget=QUICK)
    assert any("kept as" in note for note in record.notes)
    assert (tmp_path / "work.old-1" / "data" / "run.json").read_bytes() == run
    system = load_system_xml(work / "data" / "system.xml")
    assert system_digest(system) == system_digest(molecule.system)


def test_too_little_time_is_said_at_once(tmp_path: Path) -> None:
    budget = QUICK.model_copy(update={"shortest": 1e6})
    record = Record()
    with pytest.raises(ValueError, match=r"^0\.1 minutes are too few for 22 atoms.*--minutes \d"):
        fit(load_molecule(PDB), tmp_path / "m.pt", SETTINGS, display=record, budget=budget)
    assert record.stages == ["measure speed"]
    assert list(tmp_path.iterdir()) == []


#: What each stage leaves, and under which name it decides something.
LEFT = {
    "explore": (["data/basins.npz"], ["explore"]),
    "simulate": (["data/run.json", "data/trajectory-*"], ["simulate"]),
    "train": (["train/last.ckpt"], ["train_minutes"]),
    "refine": (["refine-1/refine.json"], ["refine"]),
    "export and measure": ([], []),
}


def interrupt(work: Path, stage: str, spent: float, decided: bool) -> None:
    """Make a finished fit one that was interrupted within a stage, after `spent` seconds."""
    record = read_document(work / "fit.json", FitContent, "")
    record["seconds"] = {"explore": spent}
    last = record["passes"][-1]
    last["finished"] = False
    stages = list(LEFT)
    for later in stages[stages.index(stage) :]:
        files, decisions = LEFT[later]
        for path in [path for pattern in files for path in work.glob(pattern)]:
            path.unlink()
        for name in [] if decided and later == stage else decisions:
            del last["decisions"][name]
    write_document(work / "fit.json", record)


def content_of_all(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith("lock")
    }


@pytest.mark.parametrize(
    ("stage", "decided"),
    [(stage, decided) for stage in LEFT for decided in (False, True) if LEFT[stage][1] or decided],
)
def test_too_little_time_for_the_rest_of_an_interrupted_fit_is_said_at_once(
    finished: Finished, tmp_path: Path, stage: str, decided: bool
) -> None:
    work = shutil.copytree(finished.work, tmp_path / "work")
    interrupt(work, stage, 60 * SETTINGS.minutes - 0.1, decided)
    before = content_of_all(work)
    decisions = read_document(work / "fit.json", FitContent, "")["passes"][-1]["decisions"]
    out, record = tmp_path / "m.pt", Record()
    expected = rf"^{SETTINGS.minutes} minutes \(0\.\d of them are spent\) are too few for 22 atoms"
    with pytest.raises(ValueError, match=expected) as refused:
        fit(finished.molecule, out, SETTINGS, work, record, budget=QUICK)
    assert record.stages[-1] == stage
    # Nothing was done, nor decided for want of time; the stages' times are told in fit.json.
    after = content_of_all(work)
    assert {name for name, content in after.items() if content != before[name]} <= {"fit.json"}
    left = read_document(work / "fit.json", FitContent, "")["passes"][-1]["decisions"]
    assert left == decisions
    # With what it asks for, it goes on; writing the model takes too long for this test.
    (asked,) = re.findall(r"the least is about --minutes ([\d.]+),", str(refused.value))
    following = [*LEFT, ""][list(LEFT).index(stage) + 1]
    if following:
        more = replace(SETTINGS, minutes=float(asked))
        with pytest.raises(KeyboardInterrupt):
            fit(finished.molecule, out, more, work, Record(following), budget=QUICK)


@pytest.mark.parametrize("name", [".lock", "data/.lock", "train/.lock"])
def test_a_stage_in_use_is_not_taken_for_a_finished_one(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.2)
    work = shutil.copytree(finished.work, tmp_path / "work")
    record = read_document(work / "fit.json", FitContent, "")
    record["passes"][-1]["finished"] = False
    write_document(work / "fit.json", record)
    run = read_run(work / "data")
    assert run is not None
    run["complete"] = "data" not in name
    write_run(work / "data", run)
    (work / "train" / "last.ckpt").unlink()
    (work / "refine-1" / "refine.json").unlink()
    with FileLock(work / name), pytest.raises(FileExistsError, match="another process"):
        fit(finished.molecule, tmp_path / "m.pt", SETTINGS, work, budget=QUICK)
    assert not (work / "refine-1" / "refine.json").exists()


def water_box(folder: Path, molecules: int) -> Path:
    lines = []
    for i in range(molecules):
        for name, x, y in (("O", 0.0, 0.0), ("H1", 0.957, 0.0), ("H2", -0.24, 0.927)):
            serial = len(lines) + 1
            lines.append(
                f"HETATM{serial:5d}  {name:3} HOH A{i + 1:4d}    "
                f"{x + 4 * i:8.3f}{y:8.3f}{0.0:8.3f}  1.00  0.00           {name[0]}"
            )
    path = folder / "water.pdb"
    path.write_text("\n".join([*lines, "END", ""]))
    return path


def test_bad_input_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def message(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["timewarp-openmm", "fit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    out = ("--out", tmp_path / "m.pt")
    water = ("--force-field", "amber99sbildn.xml", "tip3p.xml")
    assert "no structure file" in message(tmp_path / "none.pdb", *out)
    assert "at least 4 atoms" in message(water_box(tmp_path, 1), *out, *water)
    several = message(water_box(tmp_path, 2), *out, *water)
    assert "2 separate parts" in several
    assert "HOH2:O (atom 3)" in several
    assert "--minutes must be from 1 to" in message(PDB, *out, "--minutes", 0.1)
    assert "--target-acceptance must be above 0" in message(PDB, *out, "--target-acceptance", 2)
    assert "do not hang together" in message(PDB, *out, "--last", "name CA")
    assert "are equivalent and must be made together" in message(PDB, *out, "--last", "name HB1")
    assert "not all of them" in message(PDB, *out, "--moved", "11,12,13", "--last", "sidechain")
    assert "has 0 such planes; give a dipeptide" in message(PDB, *out, "--moved", "plane")
    (tmp_path / "m.pt").touch()
    assert "m.pt exists" in message(PDB, *out)
    assert not (tmp_path / "m.work").exists()


def test_a_part_is_fitted_and_measured_in_a_constrained_system(tmp_path: Path) -> None:
    """The data have no constraints: the lengths of all bonds are learned.

    However short the training, proposals of the same model are accepted more often where they need
    not hit the lengths of bonds to hydrogen. With a density that still had a part in these they
    would not be.
    """
    molecule = load_molecule(PDB)
    moved = select_atoms(molecule.topology, "sidechain")
    settings = replace(SETTINGS, moved=moved, constraints="HBonds")
    result = fit(molecule, tmp_path / "m.pt", settings, budget=QUICK)
    metadata = read_metadata(tmp_path / "m.pt")
    # A model of the atoms that the flow looks at: without the hydrogens of the caps.
    assert metadata.molecule is not None
    names = metadata.molecule.atom_names
    assert [names[i] for i in metadata.moved or ()] == ["HB1", "HB2", "HB3"]
    assert [(names[a], names[b]) for a, b in metadata.stretches or ()] == [
        ("CB", "HB1"),
        ("CB", "HB2"),
        ("CB", "HB3"),
    ]
    assert metadata.num_atoms() < molecule.topology.getNumAtoms() - 5
    assert 0 < result.acceptance <= 1
    budget = QUICK.model_copy(update={"iterations": 500})
    starts = [load_structure(PDB)[1]] * 4
    systems = (molecule.system, with_hydrogen_bonds_constrained(molecule))
    free, constrained = (
        validate(
            tmp_path / "m.pt", replace(molecule, system=s), starts, settings, budget, seed=5
        ).acceptance
        for s in systems
    )
    assert constrained > max(0.01, 1.2 * free)
    card = (tmp_path / "m.md").read_text()
    assert "bonds to hydrogen constrained; 3 atoms moved" in card
    assert load_trajectories(tmp_path / "m.work" / "data").run["protocol"]["timestep"] > 0
    other = replace(settings, moved=moved[:2])
    with pytest.raises(FileExistsError, match="moved"):
        fit(molecule, tmp_path / "other.pt", other, tmp_path / "m.work", budget=QUICK)


def test_side_chains_are_made_last(tmp_path: Path) -> None:
    """New noise of the side chain leaves the backbone where it is, in the exported model."""
    molecule = load_molecule(PDB)
    settings = replace(SETTINGS, later_parts=(select_atoms(molecule.topology, "sidechain"),))
    result = fit(molecule, tmp_path / "m.pt", settings, budget=QUICK)
    assert 0 <= result.acceptance <= 1
    metadata = read_metadata(tmp_path / "m.pt")
    assert metadata.coordinates == "chained"
    assert metadata.moved is None
    assert ", the last 3 of them given the others, at" in (tmp_path / "m.md").read_text()
    model = load_module(tmp_path / "m.pt")
    x = torch.tensor(metadata.reference_positions, dtype=torch.float64)
    noise = torch.randn((1, metadata.noise_size), generator=torch.Generator().manual_seed(1))
    # 3N - 6 of the shape, of which the last 9 are the side chain's.
    other, shape = noise.clone(), 3 * len(x) - 6
    other[:, shape - 9 : shape] += 0.5
    lag = torch.tensor([torch.inf], dtype=torch.float64)
    y, y_other = (model.sample(x, z.double(), lag)[0][0] for z in (noise, other))
    last = list(settings.later_parts[0])
    others = [i for i in range(len(x)) if i not in last]
    assert torch.equal(y[others], y_other[others])
    assert not torch.equal(y[last], y_other[last])
    together = replace(settings, later_parts=())
    with pytest.raises(FileExistsError, match="later_parts"):
        fit(molecule, tmp_path / "other.pt", together, tmp_path / "m.work", budget=QUICK)


@pytest.mark.parametrize(("moved", "last"), [((3, 4), (4, 5)), ((3, 4), (3, 4))])
def test_what_is_made_last_is_a_part_of_what_is_moved(
    moved: tuple[int, ...], last: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="later parts must name some of the atoms that are moved"):
        FitSettings(moved=moved, later_parts=(last,))


def test_constraints_are_those_of_the_force_field() -> None:
    topology, positions = load_structure(PDB)
    force_field = app.ForceField("amber99sbildn.xml")
    theirs = force_field.createSystem(topology, constraints=app.HBonds, removeCMMotion=False)
    ours = with_hydrogen_bonds_constrained(load_molecule(PDB, ["amber99sbildn.xml"]))
    constraints, energies = [], []
    for system in (ours, theirs):
        found = [system.getConstraintParameters(i) for i in range(system.getNumConstraints())]
        constraints.append({(min(i, j), max(i, j), length._value) for i, j, length in found})
        context = openmm.Context(
            system, openmm.VerletIntegrator(0.001), *make_platform("Reference")
        )
        context.setPositions(positions)
        context.applyConstraints(1e-8)
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
    assert len(constraints[0]) == 12
    assert constraints[0] == constraints[1]
    assert energies[0] == pytest.approx(energies[1], abs=1e-6)


def test_bonds_of_no_known_length_cannot_be_constrained(tmp_path: Path) -> None:
    molecule = load_molecule(PDB)
    system = openmm.XmlSerializer.clone(molecule.system)
    bonds = next(
        i
        for i, force in enumerate(system.getForces())
        if isinstance(force, openmm.HarmonicBondForce)
    )
    system.removeForce(bonds)
    with pytest.raises(ValueError, match="no HarmonicBondForce of the System says how long"):
        fit(
            replace(molecule, system=system),
            tmp_path / "m.pt",
            replace(SETTINGS, constraints="HBonds"),
            budget=QUICK,
        )
    assert not list(tmp_path.iterdir())


def test_a_constrained_system_is_refused(tmp_path: Path) -> None:
    from openmm import XmlSerializer

    topology, _ = load_structure(PDB)
    force_field = app.ForceField("amber99sbildn.xml")
    system = force_field.createSystem(topology, constraints=app.HBonds)
    path = tmp_path / "system.xml"
    path.write_text(XmlSerializer.serialize(system))
    with pytest.raises(ValueError, match="constraints=None"):
        load_molecule(PDB, system_xml=path)


@pytest.mark.parametrize(
    ("name", "torsions"),
    [
        ("leucine-dipeptide", 4),
        ("glycine-proline", 5),  # phi and psi of glycine, psi of proline, two of its ring
        ("gemfibrozil", 7),
        ("valproic-acid", 6),
    ],
)
def test_the_example_molecules_have_parameters_and_internal_coordinates(
    name: str, torsions: int
) -> None:
    from timewarp_openmm.molecule import molecule_from_topology
    from timewarp_openmm.molecule.rotatable_torsions import rotatable_torsions

    xml = MOLECULES / f"{name}.system.xml"
    molecule = load_molecule(MOLECULES / f"{name}.pdb", None, xml if xml.exists() else None)
    atoms = molecule_from_topology(molecule.topology, molecule.system)
    assert len(rotatable_torsions(atoms)) == torsions


def test_the_default_system_is_the_one_that_the_models_are_for() -> None:
    topology, _ = load_structure(PDB)
    assert build_system(topology).getNumConstraints() == 0
