"""openmmtools' MCMCSampler drives the integrator, beside its own Metropolised moves."""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np
import pytest
from chains import Chain, make_platform, virial_temperature, well_positions, well_system
from openmm import unit

TEMPERATURE = 350.0  # K; not the model's


@pytest.fixture(scope="module")
def tools() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("openmmtools", exc_type=ImportError)


def test_a_move_of_an_mcmc_sampler(
    models: dict[str, str], platform: str, tools: ModuleType
) -> None:
    class Shift(tools.mcmc.MetropolizedMove):  # type: ignore[name-defined]
        """Moves one particle a little, with openmmtools' own acceptance test."""

        def _propose_positions(self, positions: unit.Quantity) -> unit.Quantity:
            return positions + np.random.normal(scale=0.1, size=positions.shape) * unit.nanometer

    np.random.seed(1)
    chain = Chain("wells", models["lags"], platform, 4)
    integrator = chain.integrator()
    integrator.setTemperature(TEMPERATURE)
    move = tools.mcmc.SequenceMove(
        [tools.mcmc.IntegratorMove(integrator, n_steps=4), Shift(atom_subset=[2])]
    )
    sampler = tools.mcmc.MCMCSampler(
        tools.states.ThermodynamicState(well_system(), TEMPERATURE * unit.kelvin),
        tools.states.SamplerState(well_positions() * unit.nanometer),
        move,
    )
    selected, properties = make_platform(platform)
    cache = tools.cache.ContextCache(platform=selected, platform_properties=properties or None)
    frames = []
    for _ in range(100):
        sampler.run(1, context_cache=cache)
        frames.append(np.array(sampler.sampler_state.positions._value))
    assert 0 < move.move_list[1].n_accepted < 100
    # The fourth particle is moved by the integrator alone.
    assert len(np.unique(np.array(frames)[:, 3], axis=0)) > 30
    found, error = virial_temperature(chain.simulation(), np.array(frames[10:]))
    assert found == pytest.approx(TEMPERATURE, abs=5 * error)
    assert error < 50
