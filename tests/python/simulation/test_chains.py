"""Chains of the integrator: what they accept, and those that accept nothing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import openmm
import pytest
from command_line import run

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.simulation.chains import STUCK_AFTER, Acceptance, run_chains
from timewarp_openmm.simulation.systems import named_molecule, structure_file

ALANINE = named_molecule("alanine-dipeptide")
MODEL = pretrained("alanine-dipeptide")


def test_the_figures_of_several_chains() -> None:
    found = Acceptance((0.2, 0.4, 0.3))
    assert (found.mean, found.lowest) == (pytest.approx(0.3), 0.2)
    assert found.error == pytest.approx(0.1 / math.sqrt(3))
    assert math.isnan(Acceptance((0.2,)).error)


def test_chains_are_the_integrators_own_and_do_not_depend_on_being_watched() -> None:
    watched: list[list[int]] = [[], []]

    def observe(chain: int, integrator: TimewarpMCMCIntegrator, _: openmm.Context) -> None:
        watched[chain].append(integrator.getNumAccepted())

    starts = [ALANINE.positions] * 2
    runs = run_chains(MODEL, ALANINE.system, starts, 70, seed=7, observe=observe)
    blind = run_chains(MODEL, ALANINE.system, starts, 70, seed=7)
    assert runs.acceptance == blind.acceptance
    assert [len(counts) for counts in watched] == [70, 70]
    assert [counts[-1] / 70 for counts in watched] == pytest.approx(runs.acceptance.chains)
    assert watched[0] != watched[1]
    assert runs.iterations_per_second == pytest.approx(140 / runs.seconds)


def test_a_time_limit_ends_all_chains_after_the_same_number_of_iterations() -> None:
    runs = run_chains(MODEL, ALANINE.system, [ALANINE.positions] * 2, 10**6, 1, max_seconds=0.0)
    assert runs.iterations == 50


@pytest.mark.parametrize(("kelvin", "warned"), [(1.0, True), (310.0, False)])
def test_sample_warns_once_of_a_chain_that_accepts_nothing(
    kelvin: float,
    warned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # At 1 K no proposal for 310 K is accepted.
    options = f"--temperature {kelvin} --steps {2 * STUCK_AFTER} --interval 100 --seed 1"
    files = ["--model", MODEL, "--pdb", structure_file("alanine-dipeptide")]
    files += ["--out", tmp_path / "t.dcd"]
    arguments = ["sample", *map(str, files), *options.split()]
    code, _, error = run(arguments, monkeypatch, capsys)
    assert code == 0
    assert error.count("none of 1000 proposals was accepted") == int(warned)


def test_particles_of_another_order_are_moved() -> None:
    order = list(range(22))[::-1]
    system = openmm.System()
    for i in range(22):
        system.addParticle(ALANINE.system.getParticleMass(order[i]))
    start = np.ascontiguousarray(ALANINE.positions[::-1])
    runs = run_chains(MODEL, system, [start], 50, 1, particles=order)
    assert runs.acceptance.mean > 0
