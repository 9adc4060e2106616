"""``free-energy`` on molecules whose free energy is known, and what it refuses.

Chains of atoms on springs (benchmarks/harmonic_chain.py) have an integral that is a product of
quadratures. Comparisons allow four standard errors, with fixed seeds: a right program fails one in
16,000.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import openmm
import pytest
import torch
from alanine_samples import umbrella_reference
from command_line import run
from openmm import app
from reference_models import any_molecule, save_model
from torch import Tensor

from timewarp_openmm import commands, pretrained
from timewarp_openmm.flows import export_model
from timewarp_openmm.simulation.systems import structure_file
from timewarp_openmm.units import thermal_energy

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data"
ALANINE = str(structure_file("alanine-dipeptide"))
FEW = ("--draws", "3000", "--iterations", "500", "--chains", "2", "--resamples", "30")
#: Enough for what is refused before anything is sampled.
NONE = ("--draws", "100", "--iterations", "30")

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def chain() -> Any:
    """The molecule, as benchmarks/harmonic_chain.py makes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        from harmonic_chain import HarmonicChain

        return HarmonicChain("HSSSH")


@pytest.fixture(scope="module")
def folder(chain: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its structure, Systems of two torsion barriers, and two models, of which one is too wide."""
    path = tmp_path_factory.mktemp("chain")
    chain.write(path)
    stiffer = type(chain)("HSSSH", barrier=4.0)
    (path / "stiffer.xml").write_text(openmm.XmlSerializer.serialize(stiffer.system()))
    for name, temperature in (("model", 300.0), ("wide", 450.0)):
        flow = chain.flow(temperature)
        export_model(flow, chain.metadata(flow), path / f"{name}.pt")
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> tuple[int, str, str]:
        return run(["free-energy", *map(str, arguments)], monkeypatch, capsys)

    return call


@pytest.fixture
def of_chain(command: Command, folder: Path) -> Command:
    """The command for the molecule; later arguments win."""

    def call(*arguments: object, system: str = "HSSSH.xml", model: str = "model.pt") -> Any:
        files = ("--model", folder / model, "--pdb", folder / "HSSSH.pdb")
        return command(*files, "--system", folder / system, *arguments)

    return call


@pytest.mark.parametrize("temperature", [300.0, 330.0])
def test_a_known_molecule(
    of_chain: Command, chain: Any, tmp_path: Path, temperature: float
) -> None:
    out = tmp_path / "F.json"
    code, text, error = of_chain(*FEW, "--temperature", temperature, "--out", out)
    assert code == 0
    assert "warning" not in error
    assert "nm^12" in text
    record = json.loads(out.read_text())
    exact = chain.free_energy(temperature)
    kT = thermal_energy(temperature)
    for way in ("importance_weighting", "bar", "mbar"):
        found = record["systems"][0]["free_energy"][way]
        assert 0 < found["kT_error"] < 0.02
        assert abs(found["kT"] - exact) < 4 * found["kT_error"]
        assert found["kJ_mol"] == pytest.approx(kT * found["kT"])
    # The other temperature would be seen.
    assert abs(chain.free_energy(300.0) - chain.free_energy(330.0)) > 20 * found["kT_error"]


def test_two_systems_and_a_model_of_each(of_chain: Command, chain: Any, folder: Path) -> None:
    out = folder / "two.json"
    second = ("--system2", folder / "stiffer.xml", "--model2", folder / "wide.pt")
    code, text, _ = of_chain(*FEW, *second, "--out", out)
    assert code == 0
    assert "System 2 less System 1" in text
    record = json.loads(out.read_text())
    stiffer = type(chain)("HSSSH", barrier=4.0)
    for system, of in zip(record["systems"], (chain, stiffer), strict=True):
        for found in system["free_energy"].values():
            assert abs(found["kT"] - of.free_energy()) < 4 * found["kT_error"]
    exact = stiffer.free_energy() - chain.free_energy()
    ways = ("importance_weighting", "bar_between_chains", "bar_through_flow", "mbar")
    for way in ways:
        found = record["difference"][way]
        assert 0 < found["kT_error"] < 0.1
        assert abs(found["kT"] - exact) < 4 * found["kT_error"]
    assert record["difference"]["overlap"] > 0.03
    assert set(record["models"]) == {"model.pt", "wide.pt"}


def test_basins_of_alanine_dipeptide_are_those_of_umbrella_sampling(
    command: Command, tmp_path: Path
) -> None:
    reference: dict[str, Any] = umbrella_reference("alanine-dipeptide-umbrella")
    out = tmp_path / "F.json"
    basins = ("--basin", "window=phi:0:137.51", "--basin", "left=phi:-180:0")
    basins += ("--basin", "right=phi:0:180")
    files = ("--model", pretrained("alanine-dipeptide"), "--pdb", ALANINE)
    code, text, _ = command(*files, *FEW, *basins, "--out", out)
    assert code == 0
    assert "window" in text
    found = json.loads(out.read_text())["systems"][0]["basins"]
    share = found["window"]["population"]
    error = math.hypot(share["error"], reference["p_phi_positive_error"])
    # The reference's errors are those of five blocks.
    assert abs(share["value"] - reference["p_phi_positive"]) < 4 * error
    assert share["error"] < 0.01
    right, left = (found[name]["free_energy"] for name in ("right", "left"))
    difference = right["kJ_mol"] - left["kJ_mol"]
    error = math.hypot(
        right["kJ_mol_error"], left["kJ_mol_error"], reference["free_energy_phi_positive_error"]
    )
    assert abs(difference - reference["free_energy_phi_positive"]) < 4 * error


def test_a_second_system_far_away_is_doubted(of_chain: Command, folder: Path) -> None:
    """The exit code stays 0, and the message says that the number is not to be trusted."""
    system = openmm.XmlSerializer.deserialize((folder / "HSSSH.xml").read_text())
    bonds = system.getForce(0)
    for number in range(bonds.getNumBonds()):
        i, j, length, stiffness = bonds.getBondParameters(number)
        bonds.setBondParameters(number, i, j, 1.2 * length, stiffness)
    (folder / "longer.xml").write_text(openmm.XmlSerializer.serialize(system))
    few = ("--draws", "1000", "--iterations", "100", "--resamples", "10")
    code, _, error = of_chain(*few, "--system2", folder / "longer.xml")
    assert code == 0
    assert "System 2: importance weighting is not to be trusted" in error
    # The flow proposes nothing of that System, so that its chains stay at what they come upon.
    assert "System 2: its chains" in error


class Faulty(torch.nn.Module):
    """A flow whose densities there and back are wrong alike, which no chain would notice."""

    def __init__(self, flow: torch.nn.Module, constant: float, volume: float) -> None:
        super().__init__()
        self.flow, self.constant, self.volume = flow, constant, volume

    def fault(self, y: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(y[:, 4] - y[:, 3], dim=-1)
        return self.constant + self.volume * 2 * torch.log(length.double())

    @torch.jit.export
    def sample(self, x: Tensor, noise: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, w, log_q = self.flow.sample(x, noise, lag)
        return y, w, log_q + self.fault(y)

    @torch.jit.export
    def log_prob(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return self.flow.log_prob(y, w, x, lag) + self.fault(y)

    @torch.jit.export
    def invert(self, y: Tensor, w: Tensor, x: Tensor, lag: Tensor) -> Tensor:
        return self.flow.invert(y, w, x, lag)


@pytest.mark.parametrize(
    ("constant", "volume"), [(0.01, 0.0), (0.0, 1.0)], ids=["constant", "volume element"]
)
def test_a_density_that_is_not_that_of_the_draws(
    of_chain: Command, chain: Any, folder: Path, constant: float, volume: float
) -> None:
    flow = torch.jit.script(chain.flow())
    save_model(Faulty(flow, constant, volume), chain.metadata(chain.flow()), folder / "faulty.pt")
    code, _, error = of_chain(*NONE, model="faulty.pt")
    assert code == 2
    assert "from the density of its draws" in error


def changed(folder: Path, change: Callable[[openmm.System], object]) -> str:
    """Write a changed System, and return its file's name."""
    system = openmm.XmlSerializer.deserialize((folder / "HSSSH.xml").read_text())
    change(system)
    (folder / "changed.xml").write_text(openmm.XmlSerializer.serialize(system))
    return "changed.xml"


def restrain(system: openmm.System) -> None:
    force = openmm.CustomExternalForce("10*(x^2+y^2+z^2)")
    force.addParticle(0)
    system.addForce(force)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda system: system.addConstraint(0, 1, 0.134),
            "a length that is kept has no integral",
        ),
        (restrain, "is moved and turned as a whole"),
        (lambda system: system.addParticle(1.0), "6 particles"),
    ],
    ids=["constraints", "restraint", "another molecule"],
)
def test_systems_without_such_a_free_energy(
    of_chain: Command, folder: Path, change: Callable[[openmm.System], object], message: str
) -> None:
    name = changed(folder, change)
    for arguments in ({"system": name}, {}):
        second = () if arguments else ("--system2", folder / name)
        code, _, error = of_chain(*NONE, *second, **arguments)
        assert code == 2
        assert message in error
        assert "Traceback" not in error


def test_models_without_independent_draws(of_chain: Command, command: Command, chain: Any,
                                          folder: Path) -> None:  # fmt: skip
    """Of finite lag times, of a part, of all Cartesian coordinates: each is refused by name."""
    metadata = chain.metadata(chain.flow())
    metadata.lag_times, metadata.lag_weights = [2.0], [1.0]
    save_model(chain.flow(), metadata, folder / "lagged.pt")
    code, _, error = of_chain(*NONE, model="lagged.pt")
    assert (code, "has no independent draws: its lag times are 2.0 ps" in error) == (2, True)
    cartesian = any_molecule(30, lag_times=[math.inf], reference_positions=[[0.0] * 3] * 5)
    save_model(chain.flow(), cartesian, folder / "cartesian.pt")
    code, _, error = of_chain(*NONE, model="cartesian.pt")
    assert (code, "not that of a molecule's shape" in error) == (2, True)
    part = DATA / "valine-sidechain-small.pt"
    code, _, error = command("--model", part, "--pdb", ALANINE, *NONE)
    assert (code, "moves a part of its molecule" in error) == (2, True)


def test_the_wrong_molecule(command: Command, folder: Path) -> None:
    code, _, error = command("--model", folder / "model.pt", "--pdb", ALANINE, *NONE)
    assert code == 2
    assert "molecule" in error
    # The molecule twice: which of them is meant, and how do they feel each other?
    pdb = app.PDBFile(str(folder / "HSSSH.pdb"))
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.add(pdb.topology, pdb.positions)
    with (folder / "dimer.pdb").open("w") as handle:
        app.PDBFile.writeFile(modeller.topology, modeller.positions, handle)
    single = openmm.XmlSerializer.deserialize((folder / "HSSSH.xml").read_text())
    for _ in range(5):
        single.addParticle(10.0)
    (folder / "dimer.xml").write_text(openmm.XmlSerializer.serialize(single))
    files = ("--model", folder / "model.pt", "--pdb", folder / "dimer.pdb")
    code, _, error = command(*files, "--system", folder / "dimer.xml", *NONE)
    assert code == 2
    assert "molecule" in error


def test_what_is_there_is_kept(of_chain: Command, folder: Path) -> None:
    out = folder / "kept.json"
    out.write_text("mine")
    code, _, error = of_chain(*NONE, "--out", out)
    assert (code, "kept.json exists" in error, out.read_text()) == (2, True, "mine")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model2", "m.pt"), "--model2 is of a second System"),
        (("--basin", "chi1:0:60"), "no torsion named 'chi1'"),
        (("--basin", "phi"), "TORSION:LOW:HIGH"),
        (("--basin", "x:0:1", "--reference", "md"), "either --basin or --reference"),
        (("--chains", "1"), "--chains must be from 2"),
        (("--draws", "1"), "--draws must be from 100"),
        (("--platform", "Abacus"), "no OpenMM platform"),
        (("--iterations", "10"), "10 iterations leave 9 frames of each chain"),
        (("--interval", "100"), "leave 0 frames of each chain"),
    ],
)
def test_mistakes_are_one_message(
    of_chain: Command, arguments: tuple[str, ...], message: str
) -> None:
    code, _, error = of_chain(*NONE, *arguments)
    assert code == 2
    assert message in error
    assert "Traceback" not in error


def test_without_pymbar(of_chain: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "find_spec", lambda name: None if name == "pymbar" else name)
    code, _, error = of_chain(*NONE)
    assert code == 2
    assert 'free-energy needs pymbar; install them with pip install "timewarp-openmm' in error


def test_basins_are_the_metastable_states_of_md(
    of_chain: Command, chain: Any, folder: Path
) -> None:
    """Found in a trajectory that stays where one torsion is positive or negative for a while; by
    symmetry, either half holds half of the molecules."""
    frames = type(chain)("HSSSH", barrier=4.0).conformations(2000)
    topology = mdtraj.load_pdb(str(folder / "HSSSH.pdb")).topology
    torsion = mdtraj.compute_dihedrals(mdtraj.Trajectory(frames, topology), [[0, 1, 2, 3]])[:, 0]
    positive, negative = frames[torsion > 0][:900], frames[torsion < 0][:900]
    halves = zip(np.split(positive, 9), np.split(negative, 9), strict=True)
    stays = np.concatenate([part for pair in halves for part in pair])
    mdtraj.Trajectory(stays, topology).save_dcd(str(folder / "md.dcd"))
    out = folder / "states.json"
    few = ("--draws", "3000", "--iterations", "300", "--resamples", "20", "--state-lag", "5")
    code, text, _ = of_chain(*few, "--reference", folder / "md.dcd", "--out", out)
    assert code == 0
    assert "S1 (" in text
    basins = json.loads(out.read_text())["systems"][0]["basins"]
    assert len(basins) == 2
    for basin in basins.values():
        share = basin["population"]
        # A few conformations are farther from all states than the MD ever is.
        assert 0.4 < share["value"] < 0.5 + 4 * share["error"]
