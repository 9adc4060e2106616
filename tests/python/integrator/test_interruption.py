"""Ctrl-C ends a long step at once and leaves the chain whole; threads do not disturb each other."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import openmm
import pytest
from chains import Chain, counters_of, positions_of
from signals import signal_after

from timewarp_openmm import TimewarpMCMCIntegrator

FOREVER = 10**9


@pytest.mark.parametrize("through", ["integrator", "simulation", "compound"])
def test_ctrl_c(models: dict[str, str], platform: str, through: str) -> None:
    chain = Chain("wells", models["lags"], platform, batch_size=64, seed=5)
    if through == "compound":
        integrator = openmm.CompoundIntegrator()
        integrator.addIntegrator(chain.integrator())
        integrator.addIntegrator(openmm.VerletIntegrator(0.001))
        simulation = chain.simulation(integrator)
        member = TimewarpMCMCIntegrator.cast(integrator.getIntegrator(0))
    else:
        simulation = chain.simulation()
        member = integrator = simulation.integrator
    with pytest.raises(KeyboardInterrupt), signal_after(0.5) as sent:
        (simulation if through == "simulation" else integrator).step(FOREVER)
    assert time.monotonic() - sent[0] < 1.0

    performed = member.getNumProposed()
    assert 0 < performed < FOREVER
    assert simulation.context.getStepCount() == performed
    assert np.isfinite(positions_of(simulation.context)).all()
    assert np.isfinite(simulation.context.getState(energy=True).getPotentialEnergy()._value)
    # The same chain, left alone, is in the same state after so many iterations, and goes on alike.
    other = chain.simulation()
    for more in (performed, 20):
        other.integrator.step(more)
        if more == 20:
            integrator.step(more)
        assert np.array_equal(positions_of(other.context), positions_of(simulation.context))
    assert counters_of(member) == counters_of(other.integrator)


def test_a_handler_that_raises_nothing_does_not_end_the_step(models: dict[str, str]) -> None:
    simulation = Chain("wells", models["walk"], "Reference", 64).simulation()
    integrator = simulation.integrator
    integrator.step(1000)
    began = time.monotonic()
    integrator.step(1000)
    steps = round(0.6 / (time.monotonic() - began) * 1000)
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(time.monotonic()))
    try:
        with signal_after(0.2, signal.SIGUSR1):
            integrator.step(steps)
            ended = time.monotonic()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert integrator.getNumProposed() == 2000 + steps
    assert len(seen) == 1
    assert seen[0] < ended


def test_the_handlers_own_exception_is_raised(models: dict[str, str]) -> None:
    def handler(number: int, frame: object) -> None:
        raise TimeoutError("enough")

    simulation = Chain("wells", models["walk"], "Reference", 64).simulation()
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeoutError, match="enough"), signal_after(0.2, signal.SIGUSR1):
            simulation.integrator.step(FOREVER)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_two_threads_run_the_chains_they_would_run_alone(
    models: dict[str, str], platform: str
) -> None:
    chains = [Chain("wells", models["lags"], platform, 64, seed) for seed in (1, 2)]
    steps = 1000

    def run(chain: Chain, results: dict[int, np.ndarray]) -> None:
        simulation = chain.simulation()
        simulation.step(steps)
        results[chain.seed] = positions_of(simulation.context)

    alone: dict[int, np.ndarray] = {}
    for chain in chains:
        run(chain, alone)
    together: dict[int, np.ndarray] = {}
    threads = [threading.Thread(target=run, args=(chain, together)) for chain in chains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, positions in alone.items():
        assert np.array_equal(together[seed], positions)


def test_a_step_lets_other_threads_run(models: dict[str, str]) -> None:
    simulation = Chain("wells", models["walk"], "Reference", 64).simulation()
    stepping = threading.Event()

    def step() -> None:
        stepping.set()
        simulation.integrator.step(5000)

    thread = threading.Thread(target=step)
    thread.start()
    stepping.wait()
    ticks = 0
    while thread.is_alive():
        time.sleep(0.001)
        ticks += 1
    assert ticks > 20
