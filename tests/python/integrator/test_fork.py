"""Processes forked after an integrator was used: multiprocessing's default on Linux until 3.14."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FORKING = """
import multiprocessing, sys
import numpy as np
import openmm
from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.simulation.systems import named_molecule

MOLECULE = named_molecule("alanine-dipeptide")

def make(seed):
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    integrator.setRandomNumberSeed(seed)
    integrator.setBatchSize(32)
    platform = openmm.Platform.getPlatformByName(sys.argv[1])
    context = openmm.Context(MOLECULE.system, integrator, platform)
    context.setPositions(MOLECULE.positions)
    return integrator, context

def work(seed):
    integrator, context = make(seed)
    integrator.step(20)
    state = context.getState(positions=True)
    return np.asarray(state.getPositions(asNumpy=True)._value).tobytes()

if __name__ == "__main__":
    here = [work(seed) for seed in (1, 2, 3)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        there = pool.map_async(work, [1, 2, 3]).get(timeout=60)
    for a, b in zip(here, there):
        # Another number of threads may round otherwise.
        assert np.abs(np.frombuffer(a) - np.frombuffer(b)).max() < 1e-4
    print("the same chains")
"""


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_forked_children_run_chains_of_their_own(platform: str) -> None:
    # Two threads, which the children do not have.
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", FORKING, platform],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "the same chains\n", done.stderr[-2000:]
