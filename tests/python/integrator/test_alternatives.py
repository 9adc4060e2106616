"""Latent steps of subchains, made at once by a flow of real networks: restarts bit for bit."""

from __future__ import annotations

import numpy as np
import openmm
import pytest

from timewarp_openmm import LatentChoice, TimewarpMCMCIntegrator, pretrained
from timewarp_openmm.energies import surrogate_energy
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule

CHOICES = [LatentChoice(0.0, 0.4), LatentChoice(0.9, 0.3), LatentChoice(0.0, 0.3, share=0.2)]


@pytest.fixture(scope="module")
def alanine() -> MolecularSystem:
    return named_molecule("alanine-dipeptide")


def make_context(alanine: MolecularSystem, seed: int) -> openmm.Context:
    integrator = TimewarpMCMCIntegrator(pretrained("alanine-dipeptide"))
    integrator.setSurrogate(surrogate_energy(alanine.system), 7)
    integrator.setLatentCorrelation(CHOICES)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("Reference")
    return openmm.Context(alanine.system, integrator, platform)


def positions_of(context: openmm.Context) -> np.ndarray:
    return np.array(context.getState(positions=True).getPositions(asNumpy=True)._value)


def test_restarts_are_bitwise(alanine: MolecularSystem) -> None:
    """Whatever was prefetched at the checkpoint: rounding depends on what is in a batch."""
    whole = make_context(alanine, 3)
    whole.setPositions(alanine.positions)
    openmm.LocalEnergyMinimizer.minimize(whole)
    different = 0
    for _ in range(6):
        before = positions_of(whole)
        whole.getIntegrator().step(5)
        resumed = make_context(alanine, 4)
        resumed.loadCheckpoint(whole.createCheckpoint())
        resumed.getIntegrator().step(9)
        checkpoint = whole.createCheckpoint()
        whole.getIntegrator().step(9)
        assert np.array_equal(positions_of(whole), positions_of(resumed))
        whole.loadCheckpoint(checkpoint)
        different += not np.array_equal(before, positions_of(whole))
    assert different == 6
