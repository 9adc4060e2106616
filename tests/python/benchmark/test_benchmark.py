"""The benchmark's statistics on processes that are known, and a short run of every method."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray

from timewarp_openmm import pretrained
from timewarp_openmm.analysis.torsions import proper_torsions
from timewarp_openmm.benchmark import measure, output
from timewarp_openmm.benchmark.outcome import conclude
from timewarp_openmm.benchmark.rates import (
    Crossings,
    ReferenceRates,
    SlowSplit,
    count_sides,
    read_reference,
    shipped_reference,
)
from timewarp_openmm.benchmark.run import run_in_turns
from timewarp_openmm.benchmark.samplers import Recording, Thermostat, make_methods
from timewarp_openmm.molecule import molecule_from_topology
from timewarp_openmm.simulation.systems import named_molecule

PHI = SlowSplit((4, 6, 8, 14), 0.0, 2.4)
ALANINE = named_molecule("alanine-dipeptide")
ATOMS = molecule_from_topology(ALANINE.topology)


def telegraph(frames: int, inward: float, outward: float, seed: int) -> NDArray[np.bool_]:
    """Sides of a process that goes in and out with these probabilities per frame."""
    rng = np.random.default_rng(seed)
    sides = np.zeros(frames, dtype=bool)
    sides[0] = rng.random() < inward / (inward + outward)
    draws = rng.random(frames)
    for i in range(1, frames):
        sides[i] = (draws[i] >= outward) if sides[i - 1] else (draws[i] < inward)
    return sides


def test_rate_of_a_telegraph_process_and_its_effective_samples() -> None:
    from timewarp_openmm.analysis.autocorrelation import sampling_quality

    sides = telegraph(200_000, 0.002, 0.008, 1)
    crossings = count_sides([sides], 1.0)
    assert crossings.relaxation_rate() == pytest.approx(0.01, rel=0.15)
    # What `compare` rests on: k / 2 effective samples per time.
    ess = sampling_quality(sides.astype(float)[None]).ess
    assert ess / len(sides) == pytest.approx(0.01 / 2, rel=0.2)


def test_bound_holds_in_95_of_100_runs() -> None:
    held = []
    for seed in range(200):
        found = count_sides([telegraph(2000, 0.001, 0.002, seed)], 1.0)
        held.append(found.highest_rate() >= 0.003)
    assert np.mean(held) > 0.92
    assert Crossings(0, 0, 0.0, 10.0).highest_rate() == math.inf
    assert math.isnan(Crossings(0, 0, 0.0, 10.0).relaxation_rate())


def test_a_touch_of_the_barrier_is_no_crossing() -> None:
    angles = np.array([-1.0, -0.1, 0.1, -0.1, -1.0, 0.5, 1.0, 2.3, 2.5, 2.3, 1.0, 2.9, -3.0])
    sides = PHI.sides(angles).astype(int).tolist()
    assert sides == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert PHI.sides(np.array([0.1, 0.1])).tolist() == [True, True]


def recordings(chains: int, seconds: float, frames: int, picoseconds: float) -> list[Recording]:
    return [Recording(seconds, 1000, 1000, picoseconds, [np.zeros((22, 3))] * frames)] * chains


def result(name: str, rate: float, mixed: bool, ps: float, seed: int) -> measure.MethodResult:
    """Four chains of one torsion that jumps to an independent value with `rate` per frame.

    Where they are not mixed, one chain stays at phi > 0 and the others below.
    """
    rng = np.random.default_rng(seed)
    chains = []
    for chain in range(4):
        frames = 2000
        jumps = np.cumsum(rng.random(frames) < rate)
        inside = rng.random(frames + 1) < 0.3
        if not mixed:
            inside[:] = chain == 0
        levels = np.where(inside, 1.0, -1.4) + 0.2 * rng.standard_normal(frames + 1)
        chains.append(levels[jumps][:, None])
    torsions = [t for t in proper_torsions(ATOMS) if t.name == "phi A:ALA2"]
    made = recordings(4, 10.0, 2000, ps)
    return measure.measure(name, made, chains, torsions, None, PHI)


def test_measured_ratio_has_an_interval_around_the_truth() -> None:
    fast, slow = result("Timewarp", 0.2, True, 0.0, 1), result("MD", 0.05, True, 1e4, 2)
    assert fast.slowest_torsion is not None
    assert fast.slowest_torsion.measured
    found = measure.compare(fast, slow, None)
    # tau = (2 - p) / p for a jump probability p.
    assert found.low < (0.2 / 1.8) / (0.05 / 1.95) < found.high
    assert found.basis == "both measured in this run"


def test_md_that_has_not_crossed_gets_a_bound_and_no_ratio() -> None:
    fast = result("Timewarp", 0.2, True, 0.0, 1)
    stuck = result("MD 1 fs", 0.2, False, 1e4, 2)
    assert stuck.slowest_torsion is not None
    assert not stuck.slowest_torsion.measured
    reference = Crossings(1, 3, 2.4, 24.6)
    found = measure.compare(fast, stuck, reference)
    assert found.text.startswith("> ")
    assert math.isnan(found.ratio)
    assert "not one crossing in 40 ns" in found.basis
    # By hand: 40 ns in 40 s, a quarter of it inside; times of the reference in those seconds.
    known = Crossings(1, 3, 2.4 + 10.0, 24.6 + 30.0)
    assert found.rate_bound == pytest.approx(known.highest_rate() / 2)
    assert fast.sides is not None
    assert found.low == pytest.approx(fast.sides.low / found.rate_bound)
    weaker = measure.compare(fast, stuck, None)
    assert weaker.low < found.low or weaker.rate_bound != found.rate_bound
    exchange = result("replica exchange", 0.2, False, 1e4, 2)
    assert "reference" not in measure.compare(fast, exchange, reference).basis


def test_timewarp_that_has_not_mixed_gets_no_ratio() -> None:
    stuck = result("Timewarp", 0.2, False, 0.0, 1)
    found = measure.compare(stuck, result("MD", 0.05, True, 1e4, 2), None)
    assert "no ratio" in found.text


def test_break_even() -> None:
    fast, slow = result("Timewarp", 0.2, True, 0.0, 1), result("MD", 0.05, True, 1e4, 2)
    comparison = measure.compare(fast, slow, None)
    found = measure.break_even(600.0, comparison)
    assert found is not None
    ours, theirs = fast.slowest_torsion, slow.slowest_torsion
    assert ours is not None
    assert theirs is not None
    made = (found.seconds - 600.0) * ours.per_second
    assert made == pytest.approx(found.seconds * theirs.per_second)
    never = measure.break_even(600.0, measure.compare(slow, fast, None))
    assert never is not None
    assert never.seconds == math.inf


def test_shipped_reference_is_found_for_its_molecule_only() -> None:
    field = ALANINE.force_field
    found = shipped_reference(ATOMS.atom_names, field, 310.0)
    assert found is not None
    assert found.nanoseconds == pytest.approx(27.0, abs=0.1)
    assert (found.crossings.inward, found.crossings.outward) == (1, 3)
    assert found.protocol["temperature"] == 310.0
    assert shipped_reference(ATOMS.atom_names, field, 400.0) is None
    assert shipped_reference(ATOMS.atom_names[1:], field, 310.0) is None
    assert ReferenceRates.from_json(found.to_json()) == found


def test_bad_reference_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with pytest.raises(FileNotFoundError):
        read_reference(path)
    found = shipped_reference(ATOMS.atom_names, ALANINE.force_field, 310.0)
    assert found is not None
    whole = json.loads(found.to_json())
    changes = [{"split": 1}, {"split": None}, {"protocol": {}}, {"nanoseconds": "many"}]
    for text in ("", "[1]", "[" * 100_000, *(json.dumps({**whole, **c}) for c in changes)):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"{path}: this is no reference of"):
            read_reference(path)


def test_every_method_runs_in_turns_and_is_written(tmp_path: Path) -> None:
    methods = make_methods(
        pretrained("alanine-dipeptide"),
        ALANINE,
        True,
        "Reference",
        Thermostat(310.0),
        replica_exchange=True,
    )
    starts = np.stack([ALANINE.positions] * 2)
    found = run_in_turns(methods, starts, 3.0, seed=1, rounds=2)
    assert list(found) == [
        "Timewarp", "MD 1 fs", "MD 2 fs, HBonds", "MD 4 fs, HBonds, HMR", "replica exchange"
    ]  # fmt: skip
    timewarp, md, two, four, exchange = (group[0] for group in found.values())
    assert timewarp.evaluations >= timewarp.steps
    assert timewarp.picoseconds == 0.0
    assert md.picoseconds == pytest.approx(0.001 * md.steps)
    assert two.picoseconds == pytest.approx(0.002 * two.steps)
    assert four.picoseconds == pytest.approx(0.004 * four.steps)
    assert exchange.evaluations > exchange.steps
    for group in found.values():
        assert all(len(r.frames) > 0 and np.isfinite(r.frames[-1]).all() for r in group)
        # Equal shares of the time; a turn ends with the frame that it is in.
        assert sum(r.seconds for r in group) >= 0.6
    outcome = conclude(found, ATOMS, None, {"training_seconds": 5.0})
    assert [r.name for r in outcome.results] == list(found)
    assert [c.other for c in outcome.comparisons] == list(found)[1:]
    table = output.write_benchmark(tmp_path, outcome, "a test", {"minutes": 0.05})
    assert "5 s (train 5 s)" in table
    assert all(name in table for name in found)
    assert {p.name for p in tmp_path.iterdir()} == {
        "benchmark.json", "benchmark.md", "benchmark.png"
    }  # fmt: skip


def test_bonds_of_hydrogens_are_constrained_in_md_and_masses_moved() -> None:
    from timewarp_openmm.benchmark.samplers import HEAVY_HYDROGEN, constrained_system

    heavy = constrained_system(ALANINE, heavy_hydrogens=True)
    assert heavy.getNumConstraints() == 12
    hydrogens = [i for i, e in enumerate(ATOMS.elements) if e == "H"]
    assert {heavy.getParticleMass(i)._value for i in hydrogens} == {HEAVY_HYDROGEN}
    total = sum(heavy.getParticleMass(i)._value for i in range(22))
    assert total == pytest.approx(sum(ATOMS.masses), rel=1e-4)


def test_md_in_obc2_is_as_fast_as_openmm_can() -> None:
    """Amber 14's files write OBC2 as a CustomGBForce, which takes twenty times as long."""
    from residue_flows import capped

    from timewarp_openmm.benchmark.samplers import constrained_system

    for heavy_hydrogens in (False, True):
        forces = constrained_system(capped("ALA"), heavy_hydrogens).getForces()
        assert any(isinstance(force, openmm.GBSAOBCForce) for force in forces)
        assert not any(isinstance(force, openmm.CustomGBForce) for force in forces)


@pytest.mark.long
def test_command_from_structure_to_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from report_helpers import PDB

    from timewarp_openmm import cli

    model = pretrained("alanine-dipeptide")
    argv = f"timewarp-openmm benchmark --model {model} --pdb {PDB} --minutes 1 --chains 2 --out"
    monkeypatch.setattr(sys, "argv", [*argv.split(), str(tmp_path / "b")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    table = capsys.readouterr().out
    # A minute of MD crosses phi = 0 rarely; Timewarp does so every second.
    assert "> " in table
    assert "by the model's own metadata" in table
    assert (tmp_path / "b" / "benchmark.png").stat().st_size > 10_000
