"""p(0 < phi < 2.4 rad) of alanine dipeptide by umbrella sampling and MBAR: no flow takes part.

    python benchmarks/umbrella_phi.py [--windows 24] [--picoseconds 1000] [--workers 2] [--out F]

Windows along phi, harmonic restraints, Langevin dynamics at 310 K and 1 fs (amber99sbildn + OBC, no
constraints). The error is the standard error over blocks: MBAR of each quarter of every window.
Needs pymbar (pip install pymbar).
"""

from __future__ import annotations

import argparse
import json
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import openmm
from model_acceptance import PHI_ATOMS, torsion
from numpy.typing import NDArray
from pymbar import MBAR

from timewarp_openmm.data.systems import named_molecule
from timewarp_openmm.units import thermal_energy

TEMPERATURE = 310.0
STIFFNESS = 60.0  # kJ/mol/rad^2
EQUILIBRATION = 100  # ps
BLOCKS = 4


def wrap(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return angles in [-pi, pi)."""
    return np.mod(angle + math.pi, 2 * math.pi) - math.pi


def run_window(centre: float, picoseconds: int, seed: int) -> NDArray[np.float64]:
    """Return phi / rad every 0.2 ps of one restrained trajectory."""
    molecule = named_molecule("alanine-dipeptide")
    force = openmm.CustomTorsionForce(
        "0.5*k*min(d, 2*pi-d)^2; d=abs(theta-theta0); pi=3.141592653589793"
    )
    force.addGlobalParameter("k", 0.0)
    force.addPerTorsionParameter("theta0")
    force.addTorsion(*PHI_ATOMS, [centre])
    molecule.system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, 0.001)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(molecule.system, integrator, platform)
    context.setPositions(molecule.positions)
    for k in (20.0, STIFFNESS):
        context.setParameter("k", k)
        openmm.LocalEnergyMinimizer.minimize(context)
        integrator.step(500 * EQUILIBRATION)
    phi = np.empty(5 * picoseconds)
    for i in range(len(phi)):
        integrator.step(200)
        phi[i] = torsion(
            context.getState(positions=True).getPositions(asNumpy=True)._value, PHI_ATOMS
        )
    return phi


def population(samples: list[NDArray[np.float64]], centres: NDArray[np.float64]) -> float:
    """Return p(0 < phi < 2.4) without restraints."""
    phi = np.concatenate(samples)
    bias = 0.5 * STIFFNESS * wrap(phi - centres[:, None]) ** 2 / thermal_energy(TEMPERATURE)
    mbar = MBAR(bias, [len(s) for s in samples])
    inside = ((phi > 0) & (phi < 2.4)).astype(float)
    result = mbar.compute_perturbed_free_energies(
        np.stack([np.zeros_like(phi), -np.log(np.where(inside > 0, 1.0, 1e-300))])
    )
    return float(np.exp(-result["Delta_f"][0, 1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--picoseconds", type=int, default=1000, help="of each window")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    centres = -math.pi + 2 * math.pi * np.arange(options.windows) / options.windows
    with ProcessPoolExecutor(options.workers) as pool:
        futures = [
            pool.submit(run_window, float(c), options.picoseconds, 100 + i)
            for i, c in enumerate(centres)
        ]
        samples = [future.result() for future in futures]
    blocks = [
        population([np.array_split(s, BLOCKS)[b][::5] for s in samples], centres)
        for b in range(BLOCKS)
    ]
    result = {
        "p_phi_positive": population([s[::5] for s in samples], centres),
        "error": float(np.std(blocks, ddof=1) / math.sqrt(BLOCKS)),
        "blocks": blocks,
        "windows": options.windows,
        "picoseconds": options.picoseconds,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
