"""Acceptance and speed of a model for alanine dipeptide, in true chains from different basins.

    python benchmarks/model_acceptance.py MODEL [--iterations 20000] [--out CARD.json]

Each chain starts from molecular dynamics of 20 ps, which follows a start driven into a basin.
Prints acceptance (mean over chains, standard error between them), p(0 < phi < 2.4), barrier
crossings, effective samples per iteration of sin(phi) and cos(phi), and iterations per second.
Of a model of independent draws also how often proposals are accepted that stay on their side of
phi = 0 and that go across, in a chain on draws made here.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from timewarp_openmm import TimewarpMCMCIntegrator, pretrained, read_metadata
from timewarp_openmm.energies.openmm_energy import OpenMMEnergy
from timewarp_openmm.simulation.systems import MolecularSystem, named_molecule
from timewarp_openmm.training.independence import draw

PHI_ATOMS, PSI_ATOMS = (4, 6, 8, 14), (6, 8, 14, 16)
BASINS = ((-1.4, 1.2), (-2.6, 2.7), (-1.2, -0.4), (1.0, 0.6))  # phi, psi / rad


def torsion(x: NDArray[np.float64], atoms: tuple[int, int, int, int]) -> NDArray[np.float64]:
    """Return a torsion / rad of positions [..., N, 3]."""
    a, b, c, d = (x[..., i, :] for i in atoms)
    first, axis, last = b - a, c - b, d - c
    m, n = np.cross(first, axis), np.cross(axis, last)
    y = np.sum(first * n, axis=-1) * np.linalg.norm(axis, axis=-1)
    return np.arctan2(y, np.sum(m * n, axis=-1))


def start_in_basin(molecule: MolecularSystem, phi: float, psi: float, seed: int) -> NDArray:
    """Drive the molecule to (phi, psi) with restraints, let go, and run 20 ps at 310 K."""
    system = openmm.XmlSerializer.clone(molecule.system)
    force = openmm.CustomTorsionForce("-k*cos(theta-theta0)")
    force.addGlobalParameter("k", 0.0)
    force.addPerTorsionParameter("theta0")
    force.addTorsion(*PHI_ATOMS, [phi])
    force.addTorsion(*PSI_ATOMS, [psi])
    system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(310, 1.0, 0.001)
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(molecule.positions)
    for k in (20.0, 100.0, 400.0):
        context.setParameter("k", k)
        openmm.LocalEnergyMinimizer.minimize(context)
        integrator.step(3000)
    context.setParameter("k", 0.0)
    integrator.step(20000)
    return np.array(context.getState(positions=True).getPositions(asNumpy=True)._value)


def effective_share(values: NDArray[np.float64]) -> float:
    """Return effective samples per sample: Geyer's initial positive sequence."""
    centred = values - values.mean()
    size = len(values)
    spectrum = np.abs(np.fft.rfft(centred, 2 * size)) ** 2
    correlation = np.fft.irfft(spectrum)[:size] / (np.arange(size, 0, -1) * centred.var())
    pairs = correlation[: size // 2 * 2].reshape(-1, 2).sum(1)
    end = int(np.argmax(pairs < 0)) if (pairs < 0).any() else len(pairs)
    return float(1 / (2 * pairs[:end].sum() - 1))


def run_chain(
    molecule: MolecularSystem, model: str, start: NDArray, iterations: int, seed: int
) -> dict[str, object]:
    """Sample from one start; record every iteration."""
    integrator = TimewarpMCMCIntegrator(model)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(molecule.system, integrator, platform)
    context.setPositions(start)
    frames = np.empty((iterations, molecule.system.getNumParticles(), 3))
    for i in range(iterations):
        integrator.step(1)
        frames[i] = context.getState(positions=True).getPositions(asNumpy=True)._value
    acceptance = integrator.getAcceptanceRate()
    integrator.setBatchSize(64)
    began = time.perf_counter()
    integrator.step(iterations)
    speed = iterations / (time.perf_counter() - began)
    return {"phi": torsion(frames, PHI_ATOMS), "acceptance": acceptance, "speed": speed}


def longest_stay(phi: NDArray[np.float64]) -> int:
    """Return the longest run of iterations without an acceptance."""
    changed = np.flatnonzero(np.diff(phi) != 0)
    return int(np.diff(np.concatenate([[-1], changed, [len(phi) - 1]])).max())


def with_error(values: list[float]) -> tuple[float, float]:
    """Return mean and standard error over chains."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def summarize(chains: list[dict]) -> dict[str, object]:
    """Return the figures of a card."""
    phis = [chain["phi"] for chain in chains]
    inside = [(phi > 0) & (phi < 2.4) for phi in phis]
    acceptance = with_error([chain["acceptance"] for chain in chains])
    population = with_error([float(i.mean()) for i in inside])
    return {
        "acceptance": acceptance[0],
        "acceptance_error": acceptance[1],
        "p_phi_positive": population[0],
        "p_phi_positive_error": population[1],
        "crossings_per_iteration": float(np.mean([np.mean(i[1:] != i[:-1]) for i in inside])),
        "ess_per_iteration_sin_phi": float(np.mean([effective_share(np.sin(p)) for p in phis])),
        "ess_per_iteration_cos_phi": float(np.mean([effective_share(np.cos(p)) for p in phis])),
        "longest_stay": max(longest_stay(phi) for phi in phis),
        "iterations_per_second_batch_64": float(np.median([c["speed"] for c in chains])),
        "iterations": sum(len(phi) for phi in phis),
        "chains": len(chains),
    }


def acceptance_by_side(
    molecule: MolecularSystem, model: str, count: int, seed: int
) -> dict[str, float] | None:
    """Return acceptance of proposals within and across the sides of phi = 0, in one long chain."""
    metadata = read_metadata(model)
    if tuple(metadata.lag_times) != (math.inf,):
        return None
    energy = OpenMMEnergy(molecule.system, metadata.temperature, "Reference")
    reference = torch.from_numpy(molecule.positions)
    generator = torch.Generator().manual_seed(seed)
    flow = SimpleNamespace(sample=torch.jit.load(model).sample, noise_size=metadata.noise_size)
    draws = draw(flow, energy, reference, count, generator)
    inside = (torsion(draws.positions.astype(float), PHI_ATOMS) % (2 * np.pi)) < 2.4
    thresholds = np.log(1.0 - np.random.default_rng(seed).random(count))
    current = int(np.argmax(np.isfinite(draws.log_weights)))
    tried, accepted = np.zeros(2), np.zeros(2)
    for proposed in range(current + 1, count):
        across = int(inside[proposed] != inside[current])
        tried[across] += 1
        if thresholds[proposed] < draws.log_weights[proposed] - draws.log_weights[current]:
            accepted[across] += 1
            current = proposed
    rate = accepted / tried
    error = np.sqrt(rate * (1 - rate) / tried)
    return {
        "acceptance_within": float(rate[0]),
        "acceptance_within_error": float(error[0]),
        "acceptance_across": float(rate[1]),
        "acceptance_across_error": float(error[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="path, or name of a bundled model")
    parser.add_argument("--iterations", type=int, default=20000, help="of each chain")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    model = options.model if os.path.exists(options.model) else pretrained(options.model)
    molecule = named_molecule("alanine-dipeptide")
    chains = []
    for i, (phi, psi) in enumerate(BASINS):
        start = start_in_basin(molecule, phi, psi, seed=i + 1)
        chains.append(run_chain(molecule, model, start, options.iterations, seed=i + 11))
        print(f"start {phi:5.1f} {psi:5.1f}: acceptance {chains[-1]['acceptance']:.3f}", flush=True)
    sides = acceptance_by_side(molecule, model, len(BASINS) * options.iterations, seed=5)
    text = json.dumps({**summarize(chains), **(sides or {})}, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
