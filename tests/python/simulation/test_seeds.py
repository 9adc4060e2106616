"""Seeds made of the user's one: whatever that is, OpenMM never gets its 0, "pick one"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from command_line import run

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.benchmark.run import run_in_turns
from timewarp_openmm.benchmark.samplers import Dynamics, MolecularDynamics, Thermostat
from timewarp_openmm.bounds import SEED
from timewarp_openmm.seeds import shifted_seed, spawned_seed
from timewarp_openmm.simulation.chains import run_chains
from timewarp_openmm.simulation.explore import ExploreSettings, find_basins
from timewarp_openmm.simulation.protocol import Protocol, preset, with_settings
from timewarp_openmm.simulation.run import simulate
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule, structure_file

MOST = 2**31 - 1
SEEDS = [int(SEED.lowest), 1, MOST - 1, int(SEED.highest)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("derive", [shifted_seed, spawned_seed])
def test_derived_seeds_are_in_openmms_range_and_differ(
    derive: Callable[[int, int], int], seed: int
) -> None:
    found = [derive(seed, k) for k in (*range(200), *range(7919, 100_000, 7919))]
    assert all(1 <= each <= MOST for each in found)
    assert len(set(found)) == len(found)
    assert found == [derive(seed, k) for k in (*range(200), *range(7919, 100_000, 7919))]


def explore(molecule: MolecularSystem, seed: int, folder: Path) -> None:
    settings = ExploreSettings(length=0.02, interval=0.02, walkers=3, temperatures=(300.0,))
    find_basins(molecule, settings, seed, workers=1)


def simulate_two(molecule: MolecularSystem, seed: int, folder: Path) -> None:
    protocol = Protocol(
        force_field=molecule.force_field, platform="Reference", **preset("ala2-report")
    )
    times = {"length": 0.004, "interval": 0.002, "equilibration": 0.002, "trajectories": 2}
    simulate(molecule, with_settings(protocol, seed=seed, **times), folder / "data", workers=1)


def run_two_chains(molecule: MolecularSystem, seed: int, folder: Path) -> None:
    starts = [molecule.positions] * 2
    run_chains(pretrained("alanine-dipeptide"), molecule.system, starts, 1, seed)


def benchmark(molecule: MolecularSystem, seed: int, folder: Path) -> None:
    platform = openmm.Platform.getPlatformByName("Reference")
    dynamics = Dynamics(molecule.system, platform, Thermostat(300.0), 0.001)
    methods = {
        name: lambda start, seed: MolecularDynamics(dynamics, start, seed) for name in ("a", "b")
    }
    run_in_turns(methods, np.stack([molecule.positions] * 2), 0.001, seed, rounds=1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("work", [explore, simulate_two, run_two_chains, benchmark])
def test_no_integrator_gets_the_seed_that_means_pick_one(
    work: Callable[[MolecularSystem, int, Path], None],
    seed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[int] = []
    for kind in (openmm.LangevinMiddleIntegrator, TimewarpMCMCIntegrator):
        whole = kind.setRandomNumberSeed

        def watch(integrator: object, given: int, whole: Callable = whole) -> None:
            used.append(given)
            whole(integrator, given)

        monkeypatch.setattr(kind, "setRandomNumberSeed", watch)
    work(named_molecule("alanine-dipeptide"), seed, tmp_path)
    assert len(used) >= 2
    assert 0 not in used
    assert len(set(used)) == len(used)


@pytest.mark.parametrize("seed", [0, MOST])
def test_one_seed_is_one_chain_on_the_command_line(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for name in ("a.dcd", "b.dcd"):
        words = ["sample", "--model", pretrained("alanine-dipeptide"), "--pdb",
                 str(structure_file("alanine-dipeptide")), "--steps", "20", "--interval", "10",
                 "--seed", str(seed), "--out", str(tmp_path / name)]  # fmt: skip
        code, _, error = run(words, monkeypatch, capsys)
        assert code == 0, error
        found.append(mdtraj.load(tmp_path / name, top=structure_file("alanine-dipeptide")).xyz)
    np.testing.assert_array_equal(*found)
    assert (found[0][0] != found[0][1]).any()
