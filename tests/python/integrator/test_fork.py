"""Processes forked after an integrator was used: multiprocessing's default on Linux until 3.14."""

from __future__ import annotations

import math
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


CONTEXTS_OF_THE_PARENT = """
import itertools, os
import openmm
from timewarp_openmm import TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.simulation.systems import named_molecule

molecule = named_molecule("alanine-dipeptide")

def make(name, compound, stepped):
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    integrator.setRandomNumberSeed(3)
    bound = integrator
    if compound:
        bound = openmm.CompoundIntegrator()
        bound.addIntegrator(integrator)
    context = openmm.Context(molecule.system, bound, openmm.Platform.getPlatformByName(name))
    context.setPositions(molecule.positions)
    if stepped:
        bound.step(5)
    return bound, context

def go_on(bound, context):
    try:
        bound.step(20)
        state = context.getState(positions=True, parameters=True)
        return state.getPositions(asNumpy=True)._value.sum()
    except openmm.OpenMMException as error:
        return error

kinds = itertools.product(("Reference", "CPU"), (False, True), (False, True))
made = [make(*kind) for kind in kinds]
child = os.fork()
if child:
    os.waitpid(child, 0)
for bound, context in made:
    print("parent" if child else "child", go_on(bound, context), flush=True)
if not child:
    os._exit(0)
"""


def test_contexts_of_the_parent_go_on_in_the_child_or_say_why_not() -> None:
    """OpenMM's CPU platform waits for ever in the child, for threads that only the parent has."""
    done = subprocess.run(
        [sys.executable, "-c", CONTEXTS_OF_THE_PARENT],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = done.stdout.splitlines()
    parent = [line.removeprefix("parent ") for line in lines if line.startswith("parent ")]
    child = [line.removeprefix("child ") for line in lines if line.startswith("child ")]
    assert len(parent) == len(child) == 8
    assert all(math.isfinite(float(total)) for total in parent)
    assert child[:4] == parent[:4]
    for message in child[4:]:
        assert "forked after its Context had been made" in message
        assert "the CPU platform" in message
        assert "make the Context in the forked process, or start processes with" in message
