"""Binding to Contexts, seeds, and destruction in any order."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import chains
import numpy as np
import openmm
import pytest
from chains import Chain, make_platform, positions_of, well_system

from timewarp_openmm import TimewarpMCMCIntegrator


def test_a_second_context_is_refused(models: dict[str, str], platform: str) -> None:
    simulation = Chain("wells", models["walk"], platform, 1).simulation()
    with pytest.raises(openmm.OpenMMException, match="already bound to a context"):
        openmm.Context(well_system(), simulation.integrator, *make_platform(platform))
    simulation.step(5)
    assert simulation.integrator.getNumProposed() == 5


def test_a_step_without_a_context_is_refused(models: dict[str, str]) -> None:
    integrator = TimewarpMCMCIntegrator(models["walk"])
    with pytest.raises(openmm.OpenMMException, match="not bound to a context"):
        integrator.step(1)
    simulation = Chain("wells", models["walk"], "Reference", 1).simulation(integrator)
    simulation.step(5)
    del simulation
    with pytest.raises(openmm.OpenMMException, match="not bound to a context"):
        integrator.step(1)


def test_seed_zero_picks_a_seed_for_each_context(models: dict[str, str], platform: str) -> None:
    results = []
    for seed in (0, 0, 3, 3):
        simulation = Chain("wells", models["walk"], platform, 64, seed).simulation()
        simulation.step(30)
        results.append(positions_of(simulation.context))
    assert not np.array_equal(results[0], results[1])
    assert np.array_equal(results[2], results[3])


def test_seed_zero_picks_anew_when_reinitialized(models: dict[str, str], platform: str) -> None:
    simulation = Chain("wells", models["walk"], platform, 64, seed=0).simulation()
    start = positions_of(simulation.context)
    results = []
    for _ in range(2):
        simulation.context.reinitialize()
        simulation.context.setPositions(start)
        simulation.step(30)
        results.append(positions_of(simulation.context))
    assert not np.array_equal(results[0], results[1])


ORDERS = {
    "integrator first": "del simulation.integrator, integrator; gc.collect(); del simulation",
    "context first": "del simulation.context; gc.collect(); integrator.getNumAccepted()",
    "system first": "del simulation.system; gc.collect(); simulation.step(5); del simulation",
    "simulation": "del simulation; gc.collect(); integrator.getNumAccepted(); del integrator",
    "context alone": "context = simulation.context; del simulation, integrator; gc.collect(); "
    "context.getState(positions=True); context.getIntegrator().step(3); del context",
    "plain wrapper": "plain = openmm.XmlSerializer.clone(integrator); "
    "cast = TimewarpMCMCIntegrator.cast(plain); del plain; cast.getTemperature(); del cast",
    "never bound": "other = TimewarpMCMCIntegrator(chain.model); del other",
    "refused context": """\
try:
    openmm.Context(openmm.System(), chain.integrator())
except openmm.OpenMMException:
    pass""",
    "compound": """\
compound = openmm.CompoundIntegrator()
compound.addIntegrator(chain.integrator())
simulation = chain.simulation(compound)
member = TimewarpMCMCIntegrator.cast(compound.getIntegrator(0))
simulation.step(3)
del simulation
gc.collect()
member.getNumProposed()
del compound, member""",
    "cycle": "integrator.myself = simulation; del simulation, integrator",
    "exception": """\
try:
    simulation.context.setPositions(np.full((4, 3), np.nan))
    simulation.step(1)
except openmm.OpenMMException as error:
    kept = error
del simulation""",
}


def test_destruction_in_any_order(models: dict[str, str], platform: str) -> None:
    """In a process of its own, so that a crash is seen."""
    lines = [
        "import gc, sys",
        "import numpy as np, openmm",
        "from chains import Chain",
        "from timewarp_openmm import TimewarpMCMCIntegrator",
        f"chain = Chain('wells', {models['walk']!r}, {platform!r}, 64)",
        "def each():",
    ]
    for name, code in ORDERS.items():
        lines += [
            "    simulation = chain.simulation(); integrator = simulation.integrator",
            "    simulation.step(5)",
            textwrap.indent(code.replace("; ", "\n"), "    "),
            "    gc.collect()",
            f"    print({name!r})",
        ]
    # The last ones are alive when the interpreter ends.
    lines += ["each()", "left = chain.simulation(); left.step(3); also = left.integrator"]
    folder = str(chains.__file__).rsplit("/", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r})\n" + "\n".join(lines)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == list(ORDERS), done.stderr
    assert done.returncode == 0, done.stderr
