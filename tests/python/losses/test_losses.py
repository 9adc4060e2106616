"""The losses of a flow's own proposals and of the data, and what they share."""

import math

import pytest
import torch

from timewarp_openmm.energies.openmm_energy import OpenMMEnergy
from timewarp_openmm.flows.gaussian import log_normal
from timewarp_openmm.losses.acceptance import Acceptance, soft_cap
from timewarp_openmm.losses.batch import Batch
from timewarp_openmm.losses.entropy import Entropy
from timewarp_openmm.losses.likelihood import negative_log_likelihood
from timewarp_openmm.losses.registry import LOSSES, losses
from timewarp_openmm.losses.step import Step
from timewarp_openmm.simulation.systems import named_molecule


class Shift(torch.nn.Module):
    """y = x + shift + s z, w = z_v: a flow whose densities are known."""

    def __init__(self, num_atoms: int, scale: float) -> None:
        super().__init__()
        self.num_atoms, self.noise_size = num_atoms, 6 * num_atoms
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def sample(
        self, x: torch.Tensor, noise: torch.Tensor, lag: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        z = noise.view(len(noise), 2, self.num_atoms, 3)
        y, w = x + self.scale * z[:, 0], z[:, 1]
        return y, w, self.log_prob(y, w, x.expand_as(y), lag)

    def log_prob(
        self, y: torch.Tensor, w: torch.Tensor, x: torch.Tensor, lag: torch.Tensor
    ) -> torch.Tensor:
        z = (y - x) / self.scale
        return (
            log_normal(z.flatten(1))
            + log_normal(w.flatten(1))
            - 3 * self.num_atoms * self.scale.double().log()
        )


def test_losses_of_a_known_flow() -> None:
    """For a symmetric proposal log r is the energy difference alone, and w and v drop out."""
    alanine = named_molecule("alanine-dipeptide")
    energy = OpenMMEnergy(alanine.system, 310.0, "Reference")
    x = torch.from_numpy(alanine.positions).float()[None]
    batch = Batch(x, x, torch.zeros_like(x), torch.ones(1))
    flow = Shift(22, 0.002)
    step = Step(flow, lambda count: batch, 1, torch.Generator().manual_seed(0), energy)
    cap = Acceptance().energy_cap
    acceptance = Acceptance(states=1, proposals=64).value(step)
    entropy = Entropy(states=1, proposals=64).value(step)
    # 66 + 66 normal deviates, those of the positions of width s: their negative entropy.
    expected = -66 * (math.log(2 * math.pi) + 1) - 66 * math.log(0.002)
    assert entropy.item() == pytest.approx(expected, abs=6.0)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(64, 132, generator=generator)
    y = flow.sample(x[0], noise, torch.ones(64))[0]
    rise = soft_cap(energy(y) - energy(x), cap)
    assert acceptance.item() == pytest.approx(rise.mean().item(), abs=1e-3)
    # Smaller steps are accepted more often: the gradient, through OpenMM's forces, says so.
    (slope,) = torch.autograd.grad(acceptance, flow.scale)
    assert float(slope) > 0
    z = torch.zeros(1, 22, 3)
    exact = 0.5 * 132 * math.log(2 * math.pi) + 66 * math.log(0.002)
    loss = negative_log_likelihood(flow, Batch(x, x, z, torch.ones(1)))
    assert loss.item() == pytest.approx(exact)


def test_soft_cap_is_continuous_and_monotonic() -> None:
    value = torch.linspace(50, 150, 201, dtype=torch.float64)
    capped = soft_cap(value, 100.0)
    assert (capped.diff() > 0).all()
    assert float(capped.diff().max()) <= 0.5 + 1e-9


def test_acceptance_and_entropy_share_proposals_of_the_same_numbers() -> None:
    """The flow samples once for both, and anew in the next step."""
    x = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(1))
    batch = Batch(x, x, torch.zeros_like(x), torch.ones(3))
    flow = Shift(5, 0.1)
    step = Step(flow, lambda count: batch[:count], 3, torch.Generator().manual_seed(0))
    first = step.proposals(2, 4)
    assert [len(each.y) for each in first] == [4, 4]
    assert step.proposals(2, 4) is first
    assert step.proposals(3, 4) is not first


def test_a_loss_that_hides_its_need_of_energies_is_told() -> None:
    step = Step(None, lambda count: None, 1, torch.Generator())
    with pytest.raises(RuntimeError, match="needs_energy = True"):
        _ = step.energy


def test_sections_are_weights_or_settings() -> None:
    config = losses(likelihood=2, acceptance={"weight": 0.5, "states": 3}, entropy=0)
    assert [type(loss) for loss in config.used()] == [LOSSES["likelihood"], Acceptance]
    assert [loss.weight for loss in config.used()] == [2.0, 0.5]
    for sections, message in (
        ({"likelihood": 0}, "must be positive"),
        ({}, "must be positive"),
        ({"likelihod": 1}, "likelihod"),
        ({"entropy": {"energy_cap": 1}}, "entropy.energy_cap"),
        ({"regression": {"draws": 1}}, "regression.draws"),
        ({"likelihood": -1}, "likelihood.weight"),
        ({"likelihood": True}, "likelihood"),
    ):
        with pytest.raises(ValueError, match=message):
            losses(**sections)
