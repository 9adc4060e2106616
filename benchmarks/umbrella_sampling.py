"""Alanine dipeptide by umbrella sampling and MBAR, the independent reference: no flow takes part.

    python benchmarks/umbrella_sampling.py [--windows 36 16] [--picoseconds 25] [--workers 2] \
        [--constraints HBonds] [--target gfn2-xtb] [--cache DIR] [--out F.json] [--samples F.npz]

Windows over phi and psi, harmonic restraints, Langevin dynamics at 310 K (amber99sbildn + OBC): at
1 fs without constraints, at 2 fs with bonds to hydrogen constrained. Both torsions are restrained
because both are slow: windows of 1 ns along phi alone
gave 0.014 +- 0.003, with blocks from 0.005 to 0.034, as psi changed sides a few times in each. The
JSON file holds p(0 < phi < 2.4), the free energy of phi > 0 relative to phi < 0, the (phi, psi)
histogram, the shares of four regions and the mean potential energy, all without restraints. Errors
are standard errors over blocks, each block being MBAR of one part of every window. Needs pymbar
(pip install pymbar). What --samples has written is read again instead of being made.

With --target the energy is that potential's: a window is equilibrated with the force field, and for
1 ps with the potential, whose frames are kept. An energy of GFN2-xTB takes 20 ms, so that 576
windows of 4 ps take 16 hours of one core. With --cache each window is a file, and a run that was
stopped goes on; several runs may share the folder.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import openmm
from model_acceptance import PHI_ATOMS, PSI_ATOMS, torsion
from numpy.typing import NDArray
from pymbar import MBAR
from scipy.special import logsumexp

from timewarp_openmm.simulation.systems import (
    DEFAULT_FORCE_FIELD,
    named_molecule,
    with_hydrogen_bonds_constrained,
    with_potential,
)
from timewarp_openmm.units import thermal_energy

Frames = NDArray[np.float64]  # [frames, 3]: phi / rad, psi / rad, potential energy / kJ/mol
Weighted = tuple[Frames, NDArray[np.float64]]  # frames and their shares at no restraint

TEMPERATURE = 310.0
#: kJ/mol/rad^2. Stiffer than the barriers are curved (some 100 along phi): softer windows slide
#: off to both sides, which leaves a gap on top of the barrier.
STIFFNESS = (200.0, 70.0)
EQUILIBRATION = 12  # ps
TARGET_EQUILIBRATION = 1  # ps
INTERVAL = 0.2  # ps between frames
#: ps. Without the stretches of bonds to hydrogen the fastest motion is half as fast.
TIMESTEPS = {"none": 0.001, "HBonds": 0.002}
STRIDE = 5  # frames between those given to MBAR
BLOCKS = 5
BINS = 24  # of phi and of psi, from -pi to pi
RESTRAINT_GROUP = 1
#: Bounds of phi and of psi / degrees; an upper one may be above 180. Each conformation is in one.
REGIONS = {
    "alpha_R": ((-180, 0), (-120, 45)),
    "beta": ((-180, -105), (45, 240)),
    "P_II": ((-105, 0), (45, 240)),
    "phi_positive": ((0, 180), (-180, 180)),
}
OMEGAS = ((1, 4, 6, 8), (8, 14, 16, 18))
CHIRAL = (6, 14, 10, 9)  # N, C, CB clockwise about CA, seen from HA, in the L form


def wrap(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return angles in [-pi, pi)."""
    return np.mod(angle + math.pi, 2 * math.pi) - math.pi


def restraint(name: str, atoms: tuple[int, int, int, int]) -> openmm.CustomTorsionForce:
    """Return a harmonic restraint of a torsion, 0.5 k_name d^2, d the difference on the circle."""
    force = openmm.CustomTorsionForce(
        f"0.5*k_{name}*min(d, 2*pi-d)^2; d=abs(theta-theta0); pi=3.141592653589793"
    )
    force.addGlobalParameter(f"k_{name}", 0.0)
    force.addPerTorsionParameter("theta0")
    force.setForceGroup(RESTRAINT_GROUP)
    return force


def is_isomer(x: NDArray[np.float64]) -> bool:
    """Return whether CA is L and both peptide bonds are trans, which driving can change."""
    n, c, cb, ha = (x[i] for i in CHIRAL)
    is_l = np.dot(np.cross(n - ha, c - ha), cb - ha) > 0
    return bool(is_l and all(abs(torsion(x, atoms)) > math.pi / 2 for atoms in OMEGAS))


def positions(context: openmm.Context) -> NDArray[np.float64]:
    """Return the positions [N, 3] / nm."""
    return np.array(context.getState(positions=True).getPositions(asNumpy=True)._value)


def restrained(
    system: openmm.System, centre: tuple[float, float], timestep: float, seed: int
) -> openmm.Context:
    """Return a Context with restraints to (phi, psi) = centre, at first of no strength."""
    for name, atoms, angle in zip(("phi", "psi"), (PHI_ATOMS, PSI_ATOMS), centre, strict=True):
        force = restraint(name, atoms)
        force.addTorsion(*atoms, [angle])
        system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, timestep)
    integrator.setRandomNumberSeed(seed)
    reference = openmm.Platform.getPlatformByName("Reference")
    return openmm.Context(system, integrator, reference)


def equilibrated_window(centre: tuple[float, float], constraints: str, seed: int) -> openmm.Context:
    """Return a Context restrained to (phi, psi) = centre, of the right isomer."""
    molecule = named_molecule("alanine-dipeptide")
    system = molecule.system
    if constraints == "HBonds":
        system = with_hydrogen_bonds_constrained(molecule)
    timestep = TIMESTEPS[constraints]
    context = restrained(system, centre, timestep, seed)
    integrator = context.getIntegrator()
    while True:
        context.setPositions(molecule.positions)
        for stiffness, picoseconds in (((20.0, 20.0), 3), (STIFFNESS, EQUILIBRATION)):
            context.setParameter("k_phi", stiffness[0])
            context.setParameter("k_psi", stiffness[1])
            openmm.LocalEnergyMinimizer.minimize(context)
            integrator.step(round(picoseconds / timestep))
        if is_isomer(positions(context)):
            return context
        print(f"window {centre[0]:.2f} {centre[1]:.2f}: another isomer, again", flush=True)


def on_target(
    context: openmm.Context, centre: tuple[float, float], target: str, seed: int
) -> openmm.Context:
    """Return a Context of a potential, equilibrated from where the force field's is."""
    molecule = with_potential(named_molecule("alanine-dipeptide"), target)
    timestep = TIMESTEPS["none"]
    found = restrained(molecule.system, centre, timestep, seed)
    for name, stiffness in zip(("phi", "psi"), STIFFNESS, strict=True):
        found.setParameter(f"k_{name}", stiffness)
    state = context.getState(positions=True, velocities=True)
    found.setPositions(state.getPositions())
    found.setVelocities(state.getVelocities())
    found.getIntegrator().step(round(TARGET_EQUILIBRATION / timestep))
    return found


def cached_window(
    cache: Path | None,
    centre: tuple[float, float],
    picoseconds: float,
    constraints: str,
    target: str | None,
    seed: int,
) -> Frames:
    """Return the frames of `run_window` from a file of the cache, or make them, and the file."""
    if cache is None:
        return run_window(centre, picoseconds, constraints, target, seed)
    kind = target or constraints
    path = cache / f"{kind}-{picoseconds:g}ps-{centre[0]:.4f}-{centre[1]:.4f}.npy"
    if not path.exists():
        frames = run_window(centre, picoseconds, constraints, target, seed)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with open(temporary, "wb") as file:
            np.save(file, frames)
        temporary.rename(path)
        print(f"{len(list(cache.glob('*.npy')))} windows", flush=True)
    frames = np.load(path)
    return np.asarray(frames, dtype=float)


def run_window(
    centre: tuple[float, float],
    picoseconds: float,
    constraints: str,
    target: str | None,
    seed: int,
) -> Frames:
    """Return the frames, one every 0.2 ps, of one trajectory restrained to (phi, psi) = centre."""
    context = equilibrated_window(centre, constraints, seed)
    if target is not None:
        context = on_target(context, centre, target, seed)
    frames = np.empty((round(picoseconds / INTERVAL), 3))
    for frame in frames:
        context.getIntegrator().step(round(INTERVAL / TIMESTEPS[constraints]))
        x = positions(context)
        energy = context.getState(energy=True, groups=~(1 << RESTRAINT_GROUP)).getPotentialEnergy()
        frame[:] = torsion(x, PHI_ATOMS), torsion(x, PSI_ATOMS), energy._value
    if not is_isomer(positions(context)):
        raise RuntimeError(f"window {centre[0]:.2f} {centre[1]:.2f}: became another isomer")
    return frames


def unrestrained(windows: list[Frames], centres: NDArray[np.float64]) -> Weighted:
    """Return all frames and their weights without restraints, of sum one (MBAR).

    centres is [windows, 2], phi and psi / rad.
    """
    frames = np.concatenate([w[::STRIDE] for w in windows])
    bias = np.zeros((len(centres), len(frames)))
    for axis, stiffness in enumerate(STIFFNESS):
        bias += 0.5 * stiffness * wrap(frames[:, axis] - centres[:, axis, None]) ** 2
    bias /= thermal_energy(TEMPERATURE)
    sizes = np.array([len(w[::STRIDE]) for w in windows])
    # The default solver fails with so many windows, after a long time.
    mbar = MBAR(bias, sizes, solver_protocol="robust")
    log_weights = -logsumexp(mbar.f_k[:, None] - bias, b=sizes[:, None], axis=0)
    return frames, np.exp(log_weights - logsumexp(log_weights))


def population(weighted: Weighted) -> float:
    """Return p(0 < phi < 2.4)."""
    phi = weighted[0][:, 0]
    return float(np.sum(weighted[1][(phi > 0) & (phi < 2.4)]))


def region_shares(weighted: Weighted) -> NDArray[np.float64]:
    """Return the share of each of REGIONS."""
    frames, weights = weighted
    shares = []
    for bounds in REGIONS.values():
        inside = np.full(len(frames), True)
        for axis, (low, high) in enumerate(bounds):
            inside &= np.mod(np.degrees(frames[:, axis]) - low, 360) < high - low
        shares.append(np.sum(weights[inside]))
    return np.array(shares)


def free_energy(weighted: Weighted) -> float:
    """Return F(phi > 0) - F(phi < 0) / kJ/mol."""
    positive = np.sum(weighted[1][weighted[0][:, 0] > 0])
    return -thermal_energy(TEMPERATURE) * math.log(positive / (1 - positive))


def histogram(weighted: Weighted) -> NDArray[np.float64]:
    """Return the shares of the cells of a regular grid over (phi, psi), [BINS, BINS]."""
    frames, weights = weighted
    edges = np.linspace(-math.pi, math.pi, BINS + 1)
    return np.histogram2d(frames[:, 0], frames[:, 1], bins=(edges, edges), weights=weights)[0]


def mean_energy(weighted: Weighted) -> float:
    """Return the mean potential energy / kJ/mol."""
    return float(np.sum(weighted[1] * weighted[0][:, 2]))


def largest_slide(samples: list[Frames], centres: NDArray[np.float64]) -> list[float]:
    """Return how far / rad the mean of a window is from its centre at the most, phi and psi."""
    slides = [abs(wrap(w[:, :2] - c).mean(0)) for w, c in zip(samples, centres, strict=True)]
    return np.round(np.max(slides, axis=0), 3).tolist()  # type: ignore[no-any-return]


def summarize(samples: list[Frames], centres: NDArray[np.float64]) -> dict[str, object]:
    """Return every figure, its error and its blocks; samples are those of each window."""
    whole = unrestrained(samples, centres)
    parts = [
        unrestrained([np.array_split(window, BLOCKS)[b] for window in samples], centres)
        for b in range(BLOCKS)
    ]
    figures: dict[str, Callable[[Weighted], float | NDArray[np.float64]]] = {
        "p_phi_positive": population,
        "free_energy_phi_positive": free_energy,
        "potential_energy": mean_energy,
        "region_shares": region_shares,
        "histogram": histogram,
    }
    result: dict[str, object] = {}
    for name, figure in figures.items():
        blocks = np.array([figure(part) for part in parts])
        error = blocks.std(axis=0, ddof=1) / math.sqrt(len(blocks))
        result[name] = np.round(figure(whole), 8).tolist()
        result[f"{name}_error"] = np.round(error, 8).tolist()
        if name != "histogram":
            result[f"{name}_blocks"] = np.round(blocks, 8).tolist()
    return result


def provenance(
    windows: tuple[int, int], picoseconds: float, constraints: str, target: str | None
) -> dict[str, object]:
    """Return what is needed to make the reference again."""
    options = f"--windows {windows[0]} {windows[1]} --picoseconds {picoseconds:g}"
    if constraints != "none":
        options += f" --constraints {constraints}"
    if target is not None:
        options += f" --target {target}"
    return {
        "script": f"benchmarks/umbrella_sampling.py {options}",
        "method": "umbrella sampling over phi and psi, MBAR",
        "molecule": "alanine-dipeptide",
        "force_field": list(DEFAULT_FORCE_FIELD) if target is None else [target],
        "constraints": constraints,
        "timestep_ps": TIMESTEPS[constraints],
        "temperature_K": TEMPERATURE,
        "stiffness_kJ_mol_rad2": STIFFNESS,
        "windows": windows,
        "picoseconds": picoseconds,
        "bins": BINS,
        "regions_degrees": REGIONS,
        "openmm": openmm.version.version,
        "python": platform.python_version(),
    }


def grid(windows: tuple[int, int]) -> NDArray[np.float64]:
    """Return the centres [windows, 2] / rad, regular from -pi to pi."""
    axes = [-math.pi + 2 * math.pi * np.arange(n) / n for n in windows]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def saved_samples(path: Path, script: str) -> list[Frames]:
    """Return the samples of each window that a run with the same options has written."""
    with np.load(path) as file:
        if str(file["script"]) != script:
            raise SystemExit(f"{path} is of another run ({file['script']}); give another file")
        return list(file["samples"].astype(np.float64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, nargs=2, default=(36, 16), metavar=("PHI", "PSI"))
    parser.add_argument("--picoseconds", type=float, default=25, help="of each window")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--constraints", choices=list(TIMESTEPS), default="none")
    parser.add_argument("--target", help="a potential, such as gfn2-xtb")
    parser.add_argument("--cache", type=Path, help="folder of a file for each window")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument(
        "--samples", type=Path, help="file of phi, psi and energy to write, or to read"
    )
    options = parser.parse_args()
    if options.target is not None and options.constraints != "none":
        parser.error("--target goes without constraints")
    if options.cache is not None:
        options.cache.mkdir(parents=True, exist_ok=True)
    windows = tuple(options.windows)
    centres = grid(windows)
    result = provenance(windows, options.picoseconds, options.constraints, options.target)
    if options.samples and options.samples.exists():
        samples = saved_samples(options.samples, str(result["script"]))
    else:
        with ProcessPoolExecutor(options.workers) as pool:
            futures = [
                pool.submit(
                    cached_window,
                    options.cache,
                    tuple(centre),
                    options.picoseconds,
                    options.constraints,
                    options.target,
                    seed,
                )
                for seed, centre in enumerate(centres.tolist(), 1)
            ]
            samples = [future.result() for future in futures]
        if options.samples:
            values = np.array(samples, dtype=np.float32)
            np.savez_compressed(options.samples, samples=values, script=np.array(result["script"]))
    result |= summarize(samples, centres)
    result["largest_slide"] = largest_slide(samples, centres)
    print(json.dumps({k: v for k, v in result.items() if "histogram" not in k}, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
