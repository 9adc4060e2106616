"""Flows whose auxiliary velocities take part, in the integrator's chain."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from internal_flows import INF
from torch import Tensor

from timewarp_openmm import TimewarpMCMCIntegrator
from timewarp_openmm.contract import ModelMetadata
from timewarp_openmm.flows import export_model
from timewarp_openmm.flows.internal.config import InternalFlowConfig
from timewarp_openmm.flows.internal.flow import InternalFlow
from timewarp_openmm.molecule import Molecule
from timewarp_openmm.units import thermal_energy

TEMPERATURE = 300.0
KT = thermal_energy(TEMPERATURE)
#: nm, rad, and their force constants; soft, so that poor proposals are accepted, too.
BONDS = ((0, 1, 0.145, 4e4), (0, 2, 0.097, 6e4), (1, 3, 0.097, 6e4))
ANGLES = ((2, 0, 1, 1.75, 300.0), (3, 1, 0, 1.75, 300.0))
#: kJ/mol: a torsion with two unequal minima.
TORSIONS = ((2, 0, 1, 3, 1, 0.7, 3.0), (2, 0, 1, 3, 2, 0.0, 2.0))
PEROXIDE = Molecule(
    atom_names=("O1", "O2", "H1", "H2"),
    residue_names=("HOOH",) * 4,
    residue_indices=(0,) * 4,
    elements=("O", "O", "H", "H"),
    masses=(15.999, 15.999, 1.008, 1.008),
    bonds=((0, 1), (0, 2), (1, 3)),
)


def make_system() -> openmm.System:
    system = openmm.System()
    for mass in PEROXIDE.masses:
        system.addParticle(mass)
    bonds = openmm.HarmonicBondForce()
    for bond in BONDS:
        bonds.addBond(*bond)
    angles = openmm.HarmonicAngleForce()
    for angle in ANGLES:
        angles.addAngle(*angle)
    torsions = openmm.PeriodicTorsionForce()
    for torsion in TORSIONS:
        torsions.addTorsion(*torsion)
    for force in (bonds, angles, torsions):
        system.addForce(force)
    return system


def on_a_grid(log_density: np.ndarray, grid: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Return 4000 draws of a density given on a grid."""
    weights = np.exp(log_density - log_density.max())
    return torch.tensor(rng.choice(grid, 4000, p=weights / weights.sum()))


def coordinates(positions: Tensor) -> Tensor:
    """Return the three bonds, two angles, and the torsion's cosine and sine, [F, 7]."""

    def of_angle(i: int, j: int, k: int) -> Tensor:
        u, v = positions[:, i] - positions[:, j], positions[:, k] - positions[:, j]
        return torch.acos((u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1)))

    bonds = [(positions[:, i] - positions[:, j]).norm(dim=1) for i, j, _, _ in BONDS]
    angles = [of_angle(i, j, k) for i, j, k, _, _ in ANGLES]
    axis = torch.nn.functional.normalize(positions[:, 1] - positions[:, 0], dim=1)
    u, v = positions[:, 2] - positions[:, 0], positions[:, 3] - positions[:, 1]
    u, v = (a - (a * axis).sum(1, keepdim=True) * axis for a in (u, v))
    sine = (torch.linalg.cross(u, v) * axis).sum(1)
    torsion = torch.atan2(sine, (u * v).sum(1))
    return torch.stack([*bonds, *angles, torsion.cos(), torsion.sin()], dim=1)


def exact_draws(seed: int) -> Tensor:
    """Return conformations [4000, 4, 3] of the Boltzmann distribution, which factorises."""
    rng = np.random.default_rng(seed)
    r, theta, phi = (
        np.linspace(0.05, 0.2, 4001),
        np.linspace(0.5, 3, 4001),
        np.linspace(0, 6.28319, 4001),
    )
    bonds = [on_a_grid(2 * np.log(r) - k * (r - r0) ** 2 / 2 / KT, r, rng) for _, _, r0, k in BONDS]
    angles = [
        on_a_grid(np.log(np.sin(theta)) - k * (theta - t0) ** 2 / 2 / KT, theta, rng)
        for _, _, _, t0, k in ANGLES
    ]
    energy = sum(k * (1 + np.cos(n * phi - phase)) for *_, n, phase, k in TORSIONS)
    torsion = on_a_grid(-energy / KT, phi, rng)
    zero = torch.zeros_like(torsion)
    first = torch.stack([angles[0].cos(), angles[0].sin(), zero], 1) * bonds[1][:, None]
    second = (
        torch.stack(
            [
                -angles[1].cos(),
                angles[1].sin() * torsion.cos(),
                angles[1].sin() * torsion.sin(),
            ],
            1,
        )
        * bonds[2][:, None]
    )
    along = torch.stack([bonds[0], zero, zero], 1)
    return torch.stack([torch.zeros_like(along), along, first, along + second], 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A poor flow, in which coordinates and velocities depend on each other strongly."""
    x = exact_draws(1)
    torch.manual_seed(3)
    config = InternalFlowConfig(
        lag_times=(1.0, INF),
        velocities=True,
        rotatable_layers=1,
        rotatable_hidden=8,
        stiff_layers=4,
        stiff_hidden=16,
    )
    flow = InternalFlow(config, PEROXIDE)
    flow.fit_normalisation(x)
    for name, parameter in flow.named_parameters():
        if "last" in name:
            torch.nn.init.normal_(parameter, std=0.12)
    # All velocities alike, so that their determinant depends on the shape as strongly as it can.
    for coupling in flow.velocity_couplings:
        weight = coupling.conditioner.last.weight.data
        weight.copy_(weight[:2].repeat(len(weight) // 2, 1))
    metadata = ModelMetadata(
        molecule=PEROXIDE,
        noise_size=flow.noise_size,
        temperature=TEMPERATURE,
        coordinates="internal",
        lag_times=[1.0, INF],
        lag_weights=[0.7, 0.3],
        auxiliary_velocities=flow.auxiliary_velocities,
        precision=flow.precision,
        reference_positions=x[0].tolist(),
    )
    return export_model(flow, metadata, tmp_path_factory.mktemp("model") / "velocities.pt")


def test_chain_samples_the_boltzmann_distribution(model: Path) -> None:
    integrator = TimewarpMCMCIntegrator(model)
    integrator.setRandomNumberSeed(5)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(make_system(), integrator, platform)
    exact = exact_draws(2)
    context.setPositions(exact[0].numpy())
    states = []
    for _ in range(6000):
        integrator.step(2)
        state = context.getState(positions=True)
        states.append(state.getPositions(asNumpy=True).value_in_unit(openmm.unit.nanometer))
    assert integrator.getAcceptanceRate() > 0.1
    expected, found = coordinates(exact), coordinates(torch.tensor(np.array(states)))
    scale = expected.std(0)
    for moment in (1, 2):
        target = (((expected - expected.mean(0)) / scale) ** moment).mean(0)
        blocks = (((found - expected.mean(0)) / scale) ** moment).view(30, -1, 7).mean(1)
        error = (blocks.var(0) / 30 + moment / len(exact)).sqrt()
        # Precise enough to notice a wrong density, and right within that.
        assert error.max() < 0.12
        assert ((blocks.mean(0) - target) / error).abs().max() < 4


def test_velocities_that_take_part_cannot_be_denied(model: Path, tmp_path: Path) -> None:
    """Without them the chain would keep independent draws after an acceptance, and be wrong."""
    from timewarp_openmm.contract import METADATA_FILE, read_metadata

    metadata = dataclasses.replace(read_metadata(model), auxiliary_velocities=False)
    path = tmp_path / "denied.pt"
    module = torch.jit.load(str(model))
    torch.jit.save(module, str(path), _extra_files={METADATA_FILE: metadata.to_json()})
    with pytest.raises(openmm.OpenMMException, match="auxiliary_velocities = false"):
        TimewarpMCMCIntegrator(path)


def test_every_lag_comes_with_its_own_way_back(model: Path) -> None:
    """Seeds repeat, and the chain does not depend on prefetching."""
    energies = []
    for batch_size in (1, 7):
        integrator = TimewarpMCMCIntegrator(model)
        integrator.setRandomNumberSeed(9)
        integrator.setBatchSize(batch_size)
        context = openmm.Context(
            make_system(), integrator, openmm.Platform.getPlatformByName("Reference")
        )
        context.setPositions(exact_draws(3)[0].numpy())
        integrator.step(200)
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
    assert math.isclose(energies[0], energies[1], rel_tol=1e-6)
