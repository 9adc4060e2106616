"""A learned potential as the target: openmm.PythonForce, and openmm-torch where it works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from chains import NUM_ATOMS, STIFFNESS, Chain, counters_of, particles_in, record
from signals import signal_after

HIDDEN = 6


class Net(torch.nn.Module):
    """U(x) = sum over particles of 8 c . tanh(W x + b): a small network, in kJ/mol and nm."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.nn.Parameter(
            8 * torch.randn(HIDDEN, 3, generator=generator, dtype=torch.float64)
        )
        self.bias = torch.nn.Parameter(
            torch.randn(HIDDEN, generator=generator, dtype=torch.float64)
        )
        self.output = torch.nn.Parameter(
            8 * torch.randn(HIDDEN, generator=generator, dtype=torch.float64)
        )

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(positions @ self.weight.T + self.bias)
        return (hidden @ self.output).sum()


NET = Net()


def harmonic_system() -> openmm.System:
    """Return the particles in harmonic wells that keep them near the network's features."""
    return particles_in(f"{STIFFNESS / 2}*(x^2+y^2+z^2)")


def compute(state: openmm.State) -> tuple[float, np.ndarray]:
    """Return energy / kJ/mol and forces / kJ/mol/nm, as PythonForce wants them."""
    positions = torch.tensor(state.getPositions(asNumpy=True)._value, requires_grad=True)
    energy = NET(positions)
    (gradient,) = torch.autograd.grad(energy, positions)
    return float(energy.detach()), -gradient.numpy()


def python_force() -> openmm.Force:
    return openmm.PythonForce(compute)


def torch_force(folder: Path) -> openmm.Force:
    """Return openmm-torch's force, or skip where its wheel does not fit the installed torch."""
    module = pytest.importorskip("openmmtorch", exc_type=ImportError)
    torch.jit.save(torch.jit.script(NET), str(folder / "net.pt"))
    system = harmonic_system()
    system.addForce(module.TorchForce(str(folder / "net.pt")))
    reference = openmm.Platform.getPlatformByName("Reference")
    try:
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), reference)
        context.setPositions(np.zeros((NUM_ATOMS, 3)))
        context.getState(energy=True)
    except openmm.OpenMMException as error:
        pytest.skip(f"openmm-torch is installed but does not work: {str(error).splitlines()[0]}")
    return module.TorchForce(str(folder / "net.pt"))


def written_out() -> openmm.Force:
    """Return the network's function as an expression."""
    terms = []
    for (a, b, c), bias, output in zip(
        NET.weight.tolist(), NET.bias.tolist(), NET.output.tolist(), strict=True
    ):
        terms.append(f"({output!r})*tanh(({a!r})*x+({b!r})*y+({c!r})*z+({bias!r}))")
    force = openmm.CustomExternalForce("+".join(terms))
    for i in range(NUM_ATOMS):
        force.addParticle(i)
    return force


def system_with(force: openmm.Force) -> openmm.System:
    system = harmonic_system()
    system.addForce(force)
    return system


@pytest.mark.parametrize("kind", ["PythonForce", "TorchForce"])
def test_the_chain_is_that_of_the_same_function_written_out(
    models: dict[str, str], platform: str, kind: str, tmp_path: Path
) -> None:
    force: Callable[[], openmm.Force] = python_force
    if kind == "TorchForce":
        force = lambda: torch_force(tmp_path)  # noqa: E731
    chain = Chain("wells", models["lags"], platform, 16, seed=6)
    learned = chain.simulation(system=system_with(force()))
    expected = chain.simulation(system=system_with(written_out()))
    frames = record(learned, 80)
    assert np.array_equal(frames, record(expected, 80))
    assert counters_of(learned.integrator) == counters_of(expected.integrator)
    bare = chain.simulation(system=harmonic_system())
    assert not np.array_equal(frames, record(bare, 80))


def test_an_error_in_the_function_leaves_the_state(models: dict[str, str], platform: str) -> None:
    calls = []

    def fail_later(state: openmm.State) -> tuple[float, np.ndarray]:
        calls.append(1)
        if len(calls) == 40:
            raise RuntimeError("the network has had enough")
        return compute(state)

    chain = Chain("wells", models["lags"], platform, 16, seed=6)
    simulation = chain.simulation(system=system_with(openmm.PythonForce(fail_later)))
    with pytest.raises(openmm.OpenMMException, match="the network has had enough"):
        simulation.integrator.step(300)
    performed = simulation.integrator.getNumProposed()
    assert 30 < performed < 40
    other = chain.simulation(system=system_with(python_force()))
    other.integrator.step(performed)
    assert np.array_equal(record(simulation, 20), record(other, 20))


def test_ctrl_c_within_the_function(models: dict[str, str]) -> None:
    """Python handles the signal inside the function, so OpenMM reports its exception."""
    chain = Chain("wells", models["lags"], "Reference", 16, seed=6)
    simulation = chain.simulation(system=system_with(python_force()))
    stopped = (KeyboardInterrupt, openmm.OpenMMException)
    with pytest.raises(stopped), signal_after(0.3):
        simulation.integrator.step(10**9)
    performed = simulation.integrator.getNumProposed()
    other = chain.simulation(system=system_with(python_force()))
    other.integrator.step(performed)
    assert np.array_equal(record(simulation, 20), record(other, 20))
